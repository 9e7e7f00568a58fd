"""Who is compared, on what: every side's program and environment, and the experiments."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paper import cases
from paper.environments import python_of
from paper.measure import progress
from paper.peer_protocol import Experiment
from paper.peers_process import Line, PeerError, Run, run
from swarmjax import resources, tasks
from swarmjax.tasks import Task


class Side(NamedTuple):
    """One program.

    Attributes:
        module: and its arguments, before the file of the experiment.
        environment: in which it runs; None for swarmjax's own.
        compiles: whether a second search in the same process is cheaper than the first.
    """

    module: tuple[str, ...]
    environment: str | None = None
    compiles: bool = False


SIDES: dict[str, Side] = {
    "swarmjax": Side(("paper.peer_swarmjax", "swarm"), compiles=True),
    "swarmjax-pbt": Side(("paper.peer_swarmjax", "pbt"), compiles=True),
    "vmap": Side(("paper.peer_vmap",), compiles=True),
    "loop": Side(("paper.peer_loop",), compiles=True),
    "evosax": Side(("paper.peer_evosax",), "evosax", compiles=True),
    "ray-pbt": Side(("paper.peer_ray", "pbt"), "ray"),
    "ray-asha": Side(("paper.peer_ray", "asha"), "ray"),
    "optuna": Side(("paper.peer_optuna",), "optuna"),
    "syne-asha": Side(("paper.peer_syne",), "syne"),
}


# The task's name, and the genes as `Experiment` has them.
Case = cases.Case[str, Mapping[str, Sequence[Any]]]


class Trial(NamedTuple):
    """What one side did with one case, fit for JSON.

    Attributes:
        cold: seconds of the whole process with one search, nothing compiled before.
        warm: seconds of a search in a process that has done the same search before, or where
            nothing is compiled, that has imported everything.
        seconds: of the process, with all its searches and its end.
        cpu_seconds: see `Run`.
        scaled: whether its time was up, and `cold` or `warm` tell what the rest would have taken.
        reached: seconds to the target, cold; None if it was not reached.
        reached_warm: seconds to the target in the search of `warm`.
        member_steps: taken.
        valid: best validation accuracy.
        test: accuracy of that network on the test examples; None if the time was up.
        curve: `[arrived, member_steps, valid]` of the first search.
    """

    cold: float | None
    warm: float | None
    seconds: float
    cpu_seconds: float
    scaled: bool
    reached: float | None
    reached_warm: float | None
    member_steps: int
    valid: float | None
    test: float | None
    curve: list[tuple[float, int, float | None]]


def mlps(width: int = 32) -> dict[str, list[Any]]:
    """Genes of networks of one shape and optimizer, which only differ in their rates."""
    return {
        "learning_rate": ["log_uniform", 1e-4, 1e-2],
        "depth": ["structure", 1],
        "width": ["structure", width],
    }


def mixed() -> dict[str, list[Any]]:
    """Genes of networks of nine shapes, four activations and four optimizers."""
    return {
        "learning_rate": ["log_uniform", 1e-4, 1e-1],
        "weight_decay": ["log_uniform", 1e-6, 1e-2],
        "activation": ["choice", "relu", "gelu", "silu", "tanh"],
        "optimizer": ["choice", "sgd", "momentum", "adam", "adamw"],
        "depth": ["structure", 1, 2, 3],
        "width": ["structure", 8, 16, 32],
    }


def many() -> dict[str, list[Any]]:
    """Genes of networks of so many shapes that hardly two are alike."""
    return mixed() | {"depth": ["structure", 1, 2, 3, 4], "width": ["structure", *range(8, 129)]}


@cache
def task(name: str) -> Task:
    """A bundled task."""
    return tasks.TASKS[name]()


def measure(
    name: str,
    case: Case,
    seed: int,
    limit: float,
    target: float | None = None,
    install: bool = True,
) -> Trial:
    """What one side does with one case, in a process of its own with nothing compiled before.

    Args:
        name: of the side.
        case: what it is to search.
        seed: of the search.
        limit: seconds after which the process is ended.
        target: validation accuracy to reach.
        install: whether an environment that is not there is made.

    Raises:
        NoEnvironment: the side cannot be run here.
        PeerError: it failed.
    """
    side = SIDES[name]
    python = Path(sys.executable)
    if side.environment:
        python = python_of(side.environment, make=install)
    searches = 2 if side.compiles else 1
    with tempfile.TemporaryDirectory() as folder:
        file = write_experiment(Path(folder), case, seed, searches)
        command = [str(python), "-m", *side.module, str(file)]
        try:
            done = run(command, limit, fresh(folder), searches)
        except PeerError as error:
            raise PeerError(f"{name}: {error}") from None
    found = describe(done, case.budget, target, side.compiles)
    progress(f"{case.task} {case.members} x {case.steps}, {name}: {told(found)}")
    return found


def write_experiment(folder: Path, case: Case, seed: int, searches: int) -> Path:
    """Writes the data and the experiment; the file of the latter."""
    given, work = task(case.task), folder / "work"
    work.mkdir()
    splits = {"train": given.train, "valid": given.valid, "test": given.test}
    arrays = {f"{name}_x": data.x for name, data in splits.items() if data is not None}
    arrays |= {f"{name}_y": data.y for name, data in splits.items() if data is not None}
    np.savez(folder / "data.npz", **arrays)  # pyright: ignore[reportArgumentType]
    if case.steps % case.round_steps:
        raise ValueError(f"{case.steps} steps are no whole rounds of {case.round_steps}")
    experiment = Experiment(
        data=str(folder / "data.npz"), folder=str(work), members=case.members, steps=case.steps,
        round_steps=case.round_steps, batch=given.batch, outputs=given.outputs, space=case.space,
        seed=seed, searches=searches, cores=resources.cores(),
    )  # fmt: skip
    (folder / "experiment.json").write_text(json.dumps(experiment._asdict()))
    return folder / "experiment.json"


# So that nothing but the benchmark's own settings decides how programs run.
_DROPPED = ("JAX_COMPILATION_CACHE_DIR", "PYTHONPATH", "VIRTUAL_ENV", "XLA_FLAGS")


def fresh(folder: str) -> dict[str, str]:
    """This process's environment, with a cache of its own in which nothing is compiled."""
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    quiet = {"RAY_AIR_NEW_OUTPUT": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    return kept | quiet | {"XDG_CACHE_HOME": str(Path(folder) / "cache"), "HOME": folder}


def describe(done: Run, budget: int, target: float | None, compiles: bool) -> Trial:
    """What a process did, in figures."""
    first = [line for line in done.lines if line.search == 0]
    if not first:
        return Trial(None, None, *done[:2], True, None, None, 0, None, None, [])
    last = [line for line in done.lines if line.search == done.lines[-1].search]
    ending = done.seconds - last[-1].arrived if done.finished else 0.0
    cold, known = end_of(first, "arrived", budget), not compiles or last[-1].search > 0
    hit, again = (next((x for x in some if _at(x, target)), None) for some in (first, last))
    return Trial(
        cold=None if cold is None else cold + ending,
        warm=end_of(last, "seconds", budget) if known else None,
        seconds=done.seconds,
        cpu_seconds=done.cpu_seconds,
        scaled=last[-1].test is None,
        reached=hit.arrived if hit else None,
        reached_warm=again.seconds if again and known else None,
        member_steps=first[-1].member_steps,
        valid=first[-1].valid,
        test=first[-1].test,
        curve=[(line.arrived, line.member_steps, line.valid) for line in first],
    )


def end_of(lines: Sequence[Line], clock: str, budget: int) -> float | None:
    """When a search ended, or would have at the pace that it had; None if it had none."""
    end = lines[-1]
    if end.test is not None:
        return getattr(end, clock)
    some = [line for line in lines if line.member_steps > 0]
    if not some or some[0].member_steps == end.member_steps:
        return None
    # Until the first steps were taken, programs were started and compiled.
    pace = (end.arrived - some[0].arrived) / (end.member_steps - some[0].member_steps)
    return getattr(some[0], clock) + pace * (budget - some[0].member_steps)


def told(trial: Trial) -> str:
    """A trial in a few words."""
    shown = [
        f"{'about ' * trial.scaled}{'-' if trial.cold is None else f'{trial.cold:.3g}'} s cold"
    ]
    shown += [] if trial.warm is None else [f"{trial.warm:.3g} s warm"]
    shown += [] if trial.reached is None else [f"target after {trial.reached:.3g} s"]
    shown += [] if trial.valid is None else [f"valid {trial.valid:.4f}"]
    shown += [] if trial.test is None else [f"test {trial.test:.4f}"]
    return ", ".join(shown)


def _at(line: Line, target: float | None) -> bool:
    return target is not None and line.valid is not None and line.valid >= target
