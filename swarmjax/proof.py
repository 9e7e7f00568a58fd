"""A round of a stored run, rebuilt and compared with what the run wrote down of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from swarmjax import holding, telemetry
from swarmjax.experiment import Experiment
from swarmjax.replaying import replay, stored_experiment
from swarmjax.stored import Reader, open_run
from swarmjax.types import InputError

# They differ from run to run.
_OF_CLOCKS = ("time", "seconds", "alarm")


class Proof(NamedTuple):
    """What came of rebuilding a round.

    Attributes:
        round: which.
        member: which one was looked at; None: all.
        hashes: `[N, 16]` of the weights found.
        hashed: whether the run had kept hashes of that round to compare with.
        faults: a line on each difference.
    """

    round: int
    member: int | None
    hashes: np.ndarray
    hashed: bool
    faults: tuple[str, ...]


def prove(
    directory: Path,
    experiment: Experiment | None = None,
    *,
    round: int | None = None,
    member: int | None = None,
    nearest: bool = True,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> Proof:
    """Rebuilds the networks of a round and compares numbers and weights with the stored ones.

    Args:
        directory: the run.
        experiment: what was run; None: the run says so itself.
        round: which; None: the last.
        member: only this one is compared.
        nearest: as in `replay`.
        tell: likewise.

    Raises:
        InputError: there is no such run, round or member, or it was another experiment.
    """
    with contextlib.closing(open_run(directory)) as reader:
        round = _round(reader, round)
        if experiment is None:
            experiment = stored_experiment(reader)
        if member is not None and not 0 <= member < experiment.members:
            last = experiment.members - 1
            raise InputError(f"member {member} is none of the swarm's, 0 to {last}")
        asked = replace(experiment, directory=directory)
        trainer, frame = replay(asked, round, nearest=nearest, tell=tell)
        plan = telemetry.plan_from_table(next(table for _, table in reader.plans(round)))
        rebuilt = telemetry.frame_table(plan, frame, 0.0)
        slots = range(experiment.members) if member is None else [member]
        faults = _differences(rebuilt, reader.frames(round).slice(0, len(rebuilt)), slots)
        hashes, kept = holding.digests(trainer.arrays()), reader.digests(round)
    if kept is not None:
        unlike = [slot for slot in slots if (hashes[slot] != kept[slot]).any()]
        faults += [f"member {slot}: its weights are not those of the run" for slot in unlike]
    return Proof(round, member, hashes, kept is not None, tuple(faults))


def _round(reader: Reader, round: int | None) -> int:
    held = reader.rounds()
    if not held or (round is not None and round not in held):
        what = "no finished round" if round is None else f"no round {round}"
        raise InputError(f"{reader.directory} has {what}; it has {len(held)} rounds")
    return held[-1] if round is None else round


def _differences(rebuilt: pa.Table, stored: pa.Table, slots) -> list[str]:
    found = []
    for name in rebuilt.column_names:
        if name not in _OF_CLOCKS:
            ours, theirs = (table[name].to_pylist() for table in (rebuilt, stored))
            found += [
                f"member {slot}: {name} is {ours[slot]}, but {theirs[slot]} is stored"
                for slot in slots
                # NaN is like NaN.
                if repr(ours[slot]) != repr(theirs[slot])
            ]
    return found
