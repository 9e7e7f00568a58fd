"""Rows of the peers' benchmark: whole programs in turn, each in an environment of its own.

A peer that is not to be had here or fails is told and left out; a bar against it alone says so. A
program whose time is up is ended: a bar counts the seconds that it had, which is the least it would
have taken, and a figure shows at its pace what the rest would have taken.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from paper import peers, peers_figures
from paper.environments import NoEnvironment, versions_of
from paper.measure import Row, at_least, median, need, patience, progress
from paper.peers import SIDES, Case, Trial
from paper.peers_process import PeerError

OURS, PBT = "swarmjax", "swarmjax-pbt"
ALL = (OURS, "vmap", "loop", "optuna", "evosax", "ray-asha", "ray-pbt", "syne-asha")
FEW = (OURS, "vmap", "optuna")
SWEPT = (OURS, "vmap", "loop", "optuna", "ray-pbt")

# What random search reaches with half of the member-steps, in the middle of 40 seeds.
TARGETS = {"spirals": 0.995, "digits-noisy": 0.95, "teacher": 0.65}

# After the first seed, only those go on that were at most so many times slower than the best peer.
_CLOSE = 4.0

STEPS = {steps: Case("digits", peers.mlps(), 64, steps, 100) for steps in (200, 2000, 20_000)}
MEMBERS = {n: Case("digits", peers.mlps(), n, 500, 100) for n in (16, 64, 256, 1024)}
WIDTHS = {width: Case("digits", peers.mlps(width), 64, 500, 100) for width in (16, 64, 256)}


class Series(NamedTuple):
    """Trials in turn.

    Attributes:
        seeds: of the searches; each side has one a seed.
        limit: seconds of a program that need not compile; more on a busy machine, see `patience`.
        compiling: seconds of one that does, which searches twice; likewise.
        seconds: after so many, no further seed is begun.
        install: whether environments that are not there are made, which takes minutes each.
    """

    seeds: int
    limit: float
    compiling: float
    seconds: float = math.inf
    install: bool = True


class Found(NamedTuple):
    """Trials of each side that could be run, and why others could not."""

    trials: dict[str, list[Trial]]
    absent: dict[str, Exception]

    def of(self, side: str) -> list[Trial]:
        """Trials of a side; raises what kept it from being run."""
        if side in self.absent:
            raise self.absent[side]
        return self.trials[side]

    def record(self) -> dict[str, Any]:
        """As JSON has it."""
        trials = {side: [each._asdict() for each in some] for side, some in self.trials.items()}
        return {"trials": trials, "absent": {side: str(e) for side, e in self.absent.items()}}


def take_turns(
    sides: Sequence[str],
    case: Case,
    series: Series,
    target: float | None = None,
    close: Callable[[Found], Iterable[str]] | None = None,
    measure: Callable[..., Trial] = peers.measure,
) -> Found:
    """Trials of all sides, seed by seed; every other seed in the reverse order.

    Args:
        sides: who is tried.
        case: on what.
        series: how often and how long.
        target: see `peers.measure`.
        close: after the first seed, who is tried on.
        measure: `peers.measure`.
    """
    found, start = Found({}, {}), time.perf_counter()
    for seed in range(series.seeds):
        if seed and time.perf_counter() - start > series.seconds:
            progress(f"no time for more than {seed} of {series.seeds} seeds")
            break
        if seed == 1 and close is not None:
            sides = [side for side in sides if side in set(close(found))]
        for side in sides[:: -1 if seed % 2 else 1]:
            if side not in found.absent:
                _try(found, side, case, seed, series, target, measure)
    return found


def _try(found: Found, side: str, case: Case, seed: int, series: Series, target, measure) -> None:
    limit = (series.compiling if SIDES[side].compiles else series.limit) * patience()
    try:
        trial = measure(side, case, seed, limit, target, series.install)
    except (NoEnvironment, PeerError) as error:
        progress(f"left out: {error}")
        found.absent[side] = error
        found.trials.pop(side, None)
    else:
        found.trials.setdefault(side, []).append(trial)


def least(trial: Trial) -> float:
    """Seconds of the whole process, or what it had of them when its time was up."""
    return trial.seconds if trial.cold is None or trial.test is None else trial.cold


def least_to_target(trial: Trial, clock: str = "reached") -> float:
    """Seconds to the target, or those in which it was not reached."""
    reached = getattr(trial, clock)
    return trial.seconds if reached is None else reached


def cpu(trial: Trial) -> float:
    """Seconds of all cores for the first search, which neighbours on the machine disturb less."""
    return trial.cpu_seconds


CLOCKS: dict[str, Callable[[Trial], float]] = {"wall": least, "cpu": cpu}


def ratio(found: Found, ours: str, peer: str, of: Callable[[Trial], float]) -> float:
    """How many times as much a peer takes as we do, medians over seeds."""
    mine, theirs = (median(of(trial) for trial in found.of(side)) for side in (ours, peer))
    return theirs / mine


class Size(NamedTuple):
    """A case and how often it is tried, in full and in a quick run."""

    case: Case
    series: Series


def against(name: str, ours: str, peer: str, wanted: float, full: Size, quick: Size) -> Row:
    """How many times longer one peer takes for the same member-steps, cold.

    A quick run of another case than the full one has no bar.
    """

    def targets(fast: bool):
        return {} if fast and quick.case != full.case else {name: at_least(wanted)}

    def measure(fast: bool) -> tuple[dict[str, float], Any]:
        case, series = quick if fast else full
        found = take_turns((ours, peer), case, series._replace(install=not fast))
        ratios = {clock: ratio(found, ours, peer, of) for clock, of in CLOCKS.items()}
        return {name: ratios["wall"]}, {"ratios": ratios, **_record(case, found)}

    return Row(targets, measure)


def to_target(task: str) -> Row:
    """How many times longer the best peer takes to a target validation accuracy, cold."""
    name, target = f"target-{task}", TARGETS[task]

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        need("matplotlib")
        case = Case(task, peers.mixed(), 64, 200 if quick else 1000, 50)
        series = Series(1, 40, 120, install=False) if quick else Series(2, 45, 120, seconds=330)
        found = take_turns(FEW if quick else ALL, case, series, target, close=contenders)
        peers_figures.curves(task, found.trials, target, quick)
        values = {clock: lead(found, clock) for clock in ("reached", "reached_warm")}
        raw = {"target": target, "leads": values, **_record(case, found)}
        return {name: values["reached"]}, raw

    return Row(lambda quick: {} if quick else {name: at_least(3.0)}, measure)


def lead(found: Found, clock: str) -> float:
    """Seconds of the best peer to the target over ours, medians over seeds.

    What we do not reach counts as never reached; what a peer does not, as the time that it had.
    """
    ours = median(
        math.inf if getattr(trial, clock) is None else getattr(trial, clock)
        for trial in found.of(OURS)
    )
    theirs = [
        median(least_to_target(trial, clock) for trial in trials)
        for side, trials in found.trials.items()
        if side != OURS
    ]
    if not theirs:
        raise next(iter(found.absent.values()))
    return min(theirs) / ours


def contenders(found: Found) -> list[str]:
    """We, and the peers that were not much slower to the target than the best of them."""
    times = {side: least_to_target(t[0]) for side, t in found.trials.items() if side != OURS}
    best = min(times.values(), default=math.inf)
    return [OURS, *(side for side, seconds in times.items() if seconds <= _CLOSE * best)]


def sweep(name: str, label: str, cases: Mapping[int, Case]) -> Row:
    """Cold and warm seconds over something: a figure without bars."""

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        need("matplotlib")
        found = {}
        for value, case in list(cases.items())[: 1 if quick else None]:
            found[value] = take_turns(
                FEW if quick else SWEPT, case, Series(1, 15, 90, install=not quick)
            )
        peers_figures.sweep(name, label, {x: some.trials for x, some in found.items()}, quick)
        return {}, {str(value): _record(cases[value], some) for value, some in found.items()}

    return Row(lambda quick: {}, measure)


def _record(case: Case, found: Found) -> dict[str, Any]:
    used = {name for side in found.trials if (name := SIDES[side].environment)}
    versions = {name: versions_of(name) for name in sorted(used)}
    return {"case": case._asdict(), "versions": versions, **found.record()}


def rows() -> dict[str, Row]:
    """All of the benchmark, the shortest first."""
    small = Case("digits", peers.mlps(64), 16, 200, 50)
    large = Case("digits-noisy", peers.mixed(), 64, 2000, 100)
    shapes = Case("digits", peers.many(), 256, 500, 100)
    quick = Size(large._replace(members=16, steps=200), Series(1, 60, 120))
    few = Size(shapes._replace(members=8, steps=100), Series(1, 60, 120))
    return {
        "small-ray": against(
            "small-ray", PBT, "ray-pbt", 4.0,
            Size(small, Series(3, 120, 120, seconds=300)), Size(small, Series(1, 60, 60)),
        ),
        "large-optuna": against(
            "large-optuna", OURS, "optuna", 10.0,
            Size(large, Series(2, 200, 200, seconds=300)), quick,
        ),
        "large-ray": against(
            "large-ray", PBT, "ray-pbt", 10.0, Size(large, Series(1, 200, 200)), quick
        ),
        "per-core": against(
            "per-core", OURS, "loop", 3.0, Size(shapes, Series(1, 600, 600)), few
        ),
        **{f"target-{task}": to_target(task) for task in TARGETS},
        "steps": sweep("steps", "steps of a network", STEPS),
        "members": sweep("members", "networks", MEMBERS),
        "width": sweep("width", "hidden units", WIDTHS),
    }  # fmt: skip
