"""Checkpoints of a run, by Orbax: named arrays and facts, whole or not there at all.

    DIR/checkpoints/<round>/state    the arrays, by number
    DIR/checkpoints/<round>/record   their names, types, shapes and digests, and the facts, as JSON
    DIR/checkpoints/<round>/digests.json   the digest of every file

A checkpoint is written aside and renamed when all of it is on disk, so a killed run leaves whole
ones. What is read is compared with its digests; what does not agree is not used. Files are compared
before Orbax reads them, since what it makes of damaged ones is long and goes to the log.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swarmjax.errors import InputError, one_line
from swarmjax.naming import Named, digest

FORMAT = 1
FOLDER = "checkpoints"
_SEAL = "digests.json"


class DamagedError(InputError):
    """A checkpoint that cannot be read as it was written."""


class Checkpoint(NamedTuple):
    """What was kept of a run after a round.

    Attributes:
        round: finished rounds.
        arrays: by name.
        facts: as JSON holds them.
    """

    round: int
    arrays: Named
    facts: dict[str, Any]


def save(directory: Path, checkpoint: Checkpoint, keep: int) -> None:
    """Writes a checkpoint and then removes all but the latest `keep`; returns when it is safe.

    Raises:
        Exception: whatever hinders Orbax; the checkpoints before are then as they were.
    """
    # Imported here, as in `load`: it takes a while, and short runs need none of it.
    import orbax.checkpoint as ocp

    names = sorted(checkpoint.arrays)
    # Arrays without values cannot be saved, nor need they be.
    state = {
        str(i): array for i, name in enumerate(names) if (array := checkpoint.arrays[name]).size
    }
    parts = [_described(name, checkpoint.arrays[name]) for name in names]
    record = {"round": checkpoint.round, "arrays": parts, "facts": checkpoint.facts}
    text = json.dumps(record, allow_nan=False)
    sealed = {"format": FORMAT, "record": text, "digest": _sealed(text)}
    with _manager(directory, keep) as manager:
        arguments = ocp.args.Composite(
            state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(sealed)
        )
        if checkpoint.round in manager.all_steps():
            # A damaged one, which nobody could go on from.
            manager.delete(checkpoint.round)
        manager.save(checkpoint.round, args=arguments, force=True)
        manager.wait_until_finished()
    _seal(directory / FOLDER / str(checkpoint.round))


def rounds(directory: Path) -> list[int]:
    """Rounds after which there is a checkpoint, ascending."""
    found = [path for path in (directory / FOLDER).glob("*") if path.is_dir()]
    return sorted(int(path.name) for path in found if path.name.isdecimal())


def load(directory: Path, round: int) -> Checkpoint:
    """The checkpoint after a round.

    Raises:
        DamagedError: it is not as it was written.
        InputError: another version wrote it.
    """
    import orbax.checkpoint as ocp

    place = directory / FOLDER / str(round)
    try:
        _check_files(place)
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as reader:
            sealed = reader.restore(place.resolve() / "record")
        described = _opened(sealed, place)
        with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as reader:
            stored = reader.restore(place.resolve() / "state")
        return Checkpoint(round, _checked(described["arrays"], stored), described["facts"])
    except InputError:
        raise
    except Exception as error:  # Whatever damaged files make of the libraries that read them.
        text = one_line(f"{type(error).__name__}: {error}", 200)
        raise DamagedError(f"{place} is damaged: {text}") from None


def latest(directory: Path, until: int | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The latest whole checkpoint, after round `until` at most, and a line on each damaged one.

    Raises:
        InputError: another version wrote it.
    """
    told: list[str] = []
    for round in reversed(rounds(directory)):
        if until is None or round <= until:
            try:
                return load(directory, round), told
            except DamagedError as error:
                told.append(f"{error}; an earlier one is used")
    return None, told


def arrays_of_latest(directory: Path) -> Named | None:
    """The arrays of the latest whole checkpoint; None where there is none."""
    checkpoint, _ = latest(directory)
    return None if checkpoint is None else checkpoint.arrays


def _seal(place: Path) -> None:
    """Writes down the digests of all files; where that is missing, the run was killed before."""
    part = place / f".{_SEAL}.part"
    part.write_text(json.dumps(_digests(place)))
    os.replace(part, place / _SEAL)


def _digests(place: Path) -> dict[str, str]:
    paths = [path for path in sorted(place.rglob("*")) if path.is_file() and _SEAL not in path.name]
    names = [str(path.relative_to(place)) for path in paths]
    contents = (np.frombuffer(path.read_bytes(), np.uint8) for path in paths)
    return {name: digest([(name, held)]).hex() for name, held in zip(names, contents, strict=True)}


def _check_files(place: Path) -> None:
    """Compares all files with their digests, if these were written down."""
    if (place / _SEAL).exists() and json.loads((place / _SEAL).read_bytes()) != _digests(place):
        raise DamagedError(f"{place} is damaged: its files are not as they were written")


def _manager(directory: Path, keep: int):
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, create=True, enable_async_checkpointing=False,
        # Left behind by a run that was killed.
        cleanup_tmp_directories=True,
    )  # fmt: skip
    return ocp.CheckpointManager((directory / FOLDER).resolve(), options=options)


def _described(name: str, array: np.ndarray) -> list[Any]:
    return [name, str(array.dtype), list(array.shape), digest([(name, array)]).hex()]


def _sealed(text: str) -> str:
    return digest([("record", np.frombuffer(text.encode(), np.uint8))]).hex()


def _opened(sealed: Mapping[str, Any], place: Path) -> dict[str, Any]:
    if sealed.get("format") != FORMAT:
        raise InputError(
            f"{place} has format {one_line(sealed.get('format'))}; this version reads format "
            f"{FORMAT}: resume with the version that wrote it"
        )
    if _sealed(sealed["record"]) != sealed["digest"]:
        raise DamagedError(f"{place} is damaged: its record is not as it was written")
    return json.loads(sealed["record"])


def _checked(parts: list[list[Any]], stored: Mapping[str, Any]) -> Named:
    arrays = {}
    for i, (name, kind, shape, wanted) in enumerate(parts):
        found = np.asarray(stored[str(i)]) if str(i) in stored else np.zeros(shape, kind)
        if digest([(name, found)]).hex() != wanted:
            raise DamagedError(f"{name} of a checkpoint is not as it was written")
        # A copy: what a library lends may be read only.
        arrays[name] = np.array(found)
    return arrays
