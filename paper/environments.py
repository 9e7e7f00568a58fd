"""A Python environment for each peer, made once in the user's cache directory and used again.

`python -m paper.environments [NAME ...]` makes them ahead of a benchmark. Packages come from
wherever pip is set to look; a peer needs PyTorch for the CPU only, so whoever can should let pip
look where such builds lie.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from paper.measure import MissingPeer, progress
from swarmjax.machine import cache_directory

# Name of an environment to what pip installs in it.
REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "evosax": ("evosax==0.3.2",),
    "optuna": ("numpy>=2", "optuna==5.0.0", "torch>=2.7"),
    "ray": ("numpy>=2", "ray[tune]==2.60.0", "torch>=2.7"),
    "syne": ("syne-tune==0.16.0", "torch>=2.7"),
}

# What takes longer than this many seconds to install is taken to hang.
_LIMIT = 1800


class NoEnvironment(MissingPeer):
    """A peer's environment cannot be made; the message says why, in a line."""

    @property
    def advice(self) -> str:
        """Said where the peer's figures would stand."""
        return str(self)


def python_of(
    name: str,
    requirements: Mapping[str, Sequence[str]] = REQUIREMENTS,
    root: Path | None = None,
) -> Path:
    """The interpreter of an environment, which is made first where it is not there whole.

    Args:
        name: of the environment.
        requirements: of all environments.
        root: where environments lie; None for the cache directory.

    Raises:
        NoEnvironment: it cannot be made.
    """
    wanted = requirements[name]
    folder = (root or cache_directory() / "peers") / f"{name}-{_mark(wanted)}"
    python = folder / "bin" / "python"
    if not (folder / "versions.json").exists():
        progress(f"environment {name}: installing {', '.join(wanted)}")
        with _told(name):
            # What was cut off is not mended.
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(folder))
            _run(str(python), "-m", "pip", "install", "--quiet", *wanted)
            versions = json.loads(_run(str(python), "-m", "pip", "list", "--format", "json"))
            (folder / "versions.json").write_text(json.dumps(versions))
    return python


def versions_of(python: Path) -> dict[str, str]:
    """Name -> version of every package beside an interpreter that `python_of` returned."""
    found = json.loads((python.parents[1] / "versions.json").read_text())
    return {package["name"]: package["version"] for package in found}


def _mark(wanted: Sequence[str]) -> str:
    """Changes with what is wanted, and with the version of Python."""
    return hashlib.sha256(repr((sys.version_info[:2], wanted)).encode()).hexdigest()[:12]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise OSError(lines[-1].strip() if lines else f"{command[-1]}: exit {done.returncode}")
    return done.stdout


@contextlib.contextmanager
def _told(name: str):
    try:
        yield
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise NoEnvironment(f"no environment {name}: {error}") from None


def main(names: Sequence[str]) -> int:
    """Makes the named environments, or all; 1 if one of them cannot be made."""
    failed = 0
    for name in names or REQUIREMENTS:
        if name not in REQUIREMENTS:
            print(f"environment {name!r} is unknown; known: {', '.join(REQUIREMENTS)}")
            return 1
        try:
            print(f"environment {name} {python_of(name)}")
        except NoEnvironment as missing:
            failed = 1
            print(missing)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
