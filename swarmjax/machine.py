"""What was found out about this machine, kept in the user's cache directory under its name."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from swarmjax import resources


def cache_directory() -> Path:
    """Where what is found out about this machine is kept, beside the compiled programs."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "swarmjax"


def recall(name: str) -> Any:
    """What was kept under this name, as JSON has it and unchecked; None where nothing was."""
    return _read().get(resources.machine_name(), {}).get(name)


def keep(name: str, value: Any) -> None:
    """Keeps what JSON can hold; what cannot be written is found out again next time."""
    known = _read()
    known.setdefault(resources.machine_name(), {})[name] = value
    path = cache_directory() / "machine.json"
    part = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_text(json.dumps(known, indent=1))
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _read() -> dict[str, Any]:
    try:
        known = json.loads((cache_directory() / "machine.json").read_text())
    except (OSError, ValueError):
        return {}
    fine = isinstance(known, dict) and all(isinstance(v, dict) for v in known.values())
    return known if fine else {}
