"""A Python environment for each peer, made once in the user's cache directory and used again.

`python -m paper.environments [NAME ...]` makes them ahead of a benchmark. Packages come from
wherever pip is set to look. Where only processors are compared, builds of PyTorch for them import
sooner than others and are a tenth as large: let pip look where such builds of this version lie, and
it takes one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
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
    "optuna": ("numpy>=2", "optuna==5.0.0", "torch==2.13.0"),
    "ray": ("numpy>=2", "ray[tune]==2.60.0", "torch==2.13.0"),
    "syne": ("syne-tune==0.16.0", "torch==2.13.0"),
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
    make: bool = True,
) -> Path:
    """The interpreter of an environment, which is made first where it is not there whole.

    Args:
        name: of the environment.
        requirements: of all environments.
        root: where environments lie; None for the cache directory.
        make: whether one that is not there is made, which takes minutes.

    Raises:
        NoEnvironment: it cannot be made, or is not there and not to be made.
    """
    wanted, folder = requirements[name], _folder(name, requirements, root)
    python = folder / "bin" / "python"
    if not (folder / "versions.json").exists():
        if not make:
            raise NoEnvironment(
                f"environment {name} is not installed: python -m paper.environments {name}"
            )
        progress(f"environment {name}: installing {', '.join(wanted)}")
        with _told(name):
            # What was cut off is not mended.
            shutil.rmtree(folder, ignore_errors=True)
            _run(sys.executable, "-m", "venv", str(folder))
            _run(str(python), "-m", "pip", "install", "--quiet", *wanted)
            versions = json.loads(_run(str(python), "-m", "pip", "list", "--format", "json"))
            (folder / "versions.json").write_text(json.dumps(versions))
    return python


def versions_of(
    name: str,
    requirements: Mapping[str, Sequence[str]] = REQUIREMENTS,
    root: Path | None = None,
) -> dict[str, str]:
    """Version of every package that was asked for; none where the environment is not there."""
    file = _folder(name, requirements, root) / "versions.json"
    if not file.exists():
        return {}
    asked = {re.split(r"[^\w-]", wanted)[0] for wanted in requirements[name]}
    found = {package["name"]: package["version"] for package in json.loads(file.read_text())}
    return {package: version for package, version in found.items() if package in asked}


def _folder(name: str, requirements: Mapping[str, Sequence[str]], root: Path | None) -> Path:
    """Another one for other requirements, and for another version of Python."""
    told = repr((sys.version_info[:2], tuple(requirements[name])))
    mark = hashlib.sha256(told.encode()).hexdigest()[:12]
    return (root or cache_directory() / "peers") / f"{name}-{mark}"


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
