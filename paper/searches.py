"""Rows of searches on real tasks: every policy at equal member-steps, paired by seed.

Ten seeds at a time are one swarm, whose searches see the same batches; other policies see the same
ones, and all but those that draw genes themselves (random search and halving) start from the same
genes and weights. What is compared is the test
score of the network with the best validation score, by the interquartile mean over seeds of the
paired differences and its 95 % bootstrap interval; validation is in the JSON as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

import swarmjax as sj
from paper import figures
from paper.intervals import Interval, compare, middle_mean, profile
from paper.measure import Row, at_least, at_most, need, progress
from paper.search import Case, Outcome, Search
from swarmjax import tasks
from swarmjax.rounds import prepare_jax
from swarmjax.types import Policy

MEMBERS, STEPS, ROUND = 64, 500, 50
TASKS = ("spirals", "digits-noisy", "teacher")
# Of ensembles, one more task: easy, so that searches cannot be told apart by it.
VOTERS = (*TASKS, "digits")
# Seeds of one swarm.
TOGETHER = 10
RIVALS = ("random_search", "pbt", "successive_halving")
OTHERS = ("hyperband", "regularised_evolution", "pb2")

# What breeding is compared with: `pbt` is the same chain without it.
BREEDING: dict[str, Callable[[], Policy]] = {
    "genes": lambda: _bred(sj.breed("clone", mates="any")),
    "average": lambda: _bred(sj.breed("average")),
    "aligned": lambda: _bred(sj.breed("aligned", mates="any")),
    "union": lambda: _bred(sj.breed("union", mates="any")),
    "shrink": lambda: _bred(sj.mutate("shrink")),
    "perturb": lambda: _bred(sj.mutate("perturb")),
}


def seeds(quick: bool) -> range:
    """Seeds of every policy and task."""
    return range(6) if quick else range(40)


def case(name: str) -> Case:
    """The search on one task: MLPs of up to three layers of 32 units."""
    space = sj.Space(
        learning_rate=sj.log_uniform(1e-4, 1e-1),
        weight_decay=sj.log_uniform(1e-6, 1e-2),
        activation=sj.choice("relu", "gelu", "silu", "tanh"),
        optimizer=sj.choice("sgd", "momentum", "adam", "adamw"),
        depth=sj.structure(1, 2, 3),
        width=sj.structure(8, 16, 32),
    )
    return Case(tasks.TASKS[name](), space, MEMBERS, STEPS, ROUND)


def searches() -> Row:
    """The default policy against the others."""

    def targets(quick: bool):
        del quick
        bars = {f"swarm-random-{task}": at_least(0.0) for task in TASKS}
        for rival in ("pbt", "successive_halving"):
            bars |= {f"better-than-{rival}": at_least(2), f"worse-than-{rival}": at_most(0)}
        return bars

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        need("matplotlib")
        found = {task: _outcomes(task, ("swarm", *RIVALS), seeds(quick)) for task in TASKS}
        gains = {task: _gains(found[task], "swarm") for task in TASKS}
        values = {f"swarm-random-{task}": gains[task]["random_search"].low for task in TASKS}
        for rival in ("pbt", "successive_halving"):
            against = [gains[task][rival] for task in TASKS]
            values[f"better-than-{rival}"] = sum(gain.low > 0 for gain in against)
            values[f"worse-than-{rival}"] = sum(gain.high < 0 for gain in against)
        figures.searches(found, quick)
        return values, {task: _record(found[task], gains[task]) for task in TASKS}

    return Row(targets, measure)


def others() -> Row:
    """The default policy against further ones: a table without bars."""

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        raw = {}
        for task in TASKS:
            found = _outcomes(task, ("swarm", *OTHERS), seeds(quick))
            gains = _gains(found, "swarm")
            for name, gain in gains.items():
                progress(f"others {task}: swarm over {name} {_shown(gain)}")
            raw[task] = _record(found, gains)
        return {}, raw

    return Row(lambda quick: {}, measure)


def breeding() -> Row:
    """Ways to breed, with what shrinking alone does: a table, whatever it says."""

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        raw = {}
        for task in TASKS:
            found = _outcomes(task, ("pbt", *BREEDING), seeds(quick))
            gains = _gains(found, "pbt", reverse=True)
            for name, gain in gains.items():
                progress(f"breeding {task}: {name} over pbt {_shown(gain)}")
            raw[task] = _record(found, gains)
        return {}, raw

    return Row(lambda quick: {}, measure)


def ensembles() -> Row:
    """The greedy ensemble of five of the default policy against its best network, on test data."""

    def targets(quick: bool):
        del quick
        return {"ensemble-better": at_least(3)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        raw = {}
        for task in VOTERS:
            some = _outcomes(task, ("swarm",), seeds(quick))["swarm"]
            gain = compare(_of(some, "ensemble"), _of(some, "test"))
            soup = compare(_of(some, "soup"), _of(some, "last"))
            progress(f"ensemble {task}: {_shown(gain)}, soup {_shown(soup)}")
            raw[task] = {"ensemble": gain._asdict(), "soup": soup._asdict()}
        better = sum(raw[task]["ensemble"]["low"] > 0 for task in VOTERS)
        return {"ensemble-better": better}, raw

    return Row(targets, measure)


def _bred(*links: Policy) -> Policy:
    """PBT with something between exploit and perturb."""
    return sj.chain(sj.exploit(), sj.allocate.uniform(), *links, sj.perturb())


def _outcomes(task: str, names: Iterable[str], wanted: range) -> dict[str, list[Outcome]]:
    return {name: _found(task, name, wanted) for name in names}


@cache
def _found(task: str, name: str, wanted: range) -> list[Outcome]:
    """Searches in swarms of some seeds each, which see other batches than the next swarm."""
    prepare_jax()
    policy = BREEDING[name]() if name in BREEDING else sj.preset(name)
    search, found = Search(_case(task), policy), []
    for start in range(0, len(wanted), TOGETHER):
        found += search(wanted[start : start + TOGETHER])
        valid, test = _of(found, "valid").mean(), _of(found, "test").mean()
        progress(f"{task} {name}, {len(found)} seeds: mean valid {valid:.4f}, test {test:.4f}")
    return found


@cache
def _case(task: str) -> Case:
    return case(task)


def _gains(found: dict[str, list[Outcome]], ours: str, reverse: bool = False):
    """What `ours` gains over each other, or with `reverse` each other over `ours`."""
    mine, others = _of(found[ours], "test"), {k: v for k, v in found.items() if k != ours}
    sign = -1 if reverse else 1
    return {name: compare(sign * mine, sign * _of(some, "test")) for name, some in others.items()}


def _record(found: dict[str, list[Outcome]], gains: dict[str, Interval]) -> dict[str, Any]:
    levels = np.linspace(0.5, 1.0, 51)
    tests = {name: _of(some, "test") for name, some in found.items()}
    return {
        "gains": {name: gain._asdict() for name, gain in gains.items()},
        "test": {name: middle_mean(values)._asdict() for name, values in tests.items()},
        "valid": {n: middle_mean(_of(some, "valid"))._asdict() for n, some in found.items()},
        "profile": {name: profile(values, levels) for name, values in tests.items()},
        "outcomes": {name: [each._asdict() for each in some] for name, some in found.items()},
    }


def _of(some: list[Outcome], field: str) -> np.ndarray:
    return np.asarray([getattr(outcome, field) for outcome in some])


def _shown(gain: Interval) -> str:
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
