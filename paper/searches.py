"""Rows of searches on real tasks: every policy at equal member-steps, paired by seed.

Ten seeds at a time are one swarm, whose searches see the same batches; other policies see the same
ones, and all but those that draw genes themselves (random search and halving) start from the same
genes and weights. What is compared is the test
score of the network with the best validation score, by the interquartile mean over seeds of the
paired differences and its 95 % bootstrap interval; validation is in the JSON as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

import swarmjax as sj
from paper import figures
from paper.intervals import Interval, compare, middle_mean, profile
from paper.measure import Row, at_least, at_most, need, progress
from paper.pairs import across
from paper.search import Case, Outcome, Search
from paper.variants import BREEDING, DIVERSE, VARIANTS
from swarmjax import tasks
from swarmjax.rounds import prepare_jax

MEMBERS, STEPS, ROUND = 64, 500, 50
TASKS = ("spirals", "digits-noisy", "teacher")
# Of ensembles, one more task: easy, so that searches cannot be told apart by it.
VOTERS = (*TASKS, "digits")
# Seeds of one swarm.
TOGETHER = 10
RIVALS = ("random_search", "pbt", "successive_halving")
OTHERS = ("hyperband", "regularised_evolution", "pb2")


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
        gains = {task: _lost(found[task], "swarm") for task in TASKS}
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
    return versus("others", "swarm", OTHERS)


def breeding() -> Row:
    """Ways to breed, with what shrinking alone does, against PBT: a table, whatever it says."""
    return versus("breeding", "pbt", BREEDING)


def versus(title: str, base: str, names: Iterable[str]) -> Row:
    """What each of `names` gains over `base` on every task: a table without bars.

    Gained is in the test score of the best network, and in that of the greedy ensemble. A quick run
    looks at the first task alone.
    """

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        raw = {}
        for task in TASKS[: 1 if quick else None]:
            found = _outcomes(task, (base, *names), seeds(quick))
            gains = _gains(found, base)
            for name, gain in gains.items():
                progress(f"{title} {task}: {name} over {base} {_shown(gain)}")
            together = _gains(found, base, "ensemble")
            raw[task] = _record(found, gains)
            raw[task]["ensemble_gains"] = {n: gain._asdict() for n, gain in together.items()}
        return {}, raw

    return Row(lambda quick: {}, measure)


def diversity() -> Row:
    """Pressures for diversity over the default policy, judged by the ensemble too: a table.

    Gained are the test scores of the best network and of the greedy ensemble of five, and what the
    ensemble is above the best network. Then, whether disagreement of predictions or distance of
    genes tells what networks gain together: within swarms over pairs, and across swarms.
    """

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        raw = {}
        for task in TASKS:
            found = _outcomes(task, ("swarm", *DIVERSE), seeds(quick))
            raw[task] = _record(found, _gains(found, "swarm")) | _judged(found)
            for line in _told(raw[task]):
                progress(f"diversity {task}: {line}")
        return {}, raw

    return Row(lambda quick: {}, measure)


def _judged(found: dict[str, list[Outcome]]) -> dict[str, Any]:
    """What a record says of ensembles and of what predicts their gain."""
    over = {name: _of(some, "ensemble") - _of(some, "test") for name, some in found.items()}
    together = _gains(found, "swarm", "ensemble")
    return {
        "ensemble_gains": {name: gain._asdict() for name, gain in together.items()},
        "ensemble_over_best": {name: middle_mean(each)._asdict() for name, each in over.items()},
        "predicted": _predicted(found, np.stack(list(over.values()))),
    }


def _predicted(found: dict[str, list[Outcome]], over: np.ndarray) -> dict[str, Any]:
    """Correlations of both distances with gains; of seeds in which every swarm has pairs."""
    by_seed = zip(*found.values(), strict=True)
    held = np.asarray([all(outcome.pairs is not None for outcome in each) for each in by_seed])
    if not held.any():
        return {}

    def of(field: str) -> np.ndarray:
        rows = [[getattr(o.pairs, field, np.nan) for o in some] for some in found.values()]
        return np.asarray(rows)[:, held]

    predicted = {}
    for gain, prefix in (("pair over its mean", ""), ("pair over its better", "better_")):
        # Of one seed all swarms begin alike: their mean counts once.
        genes, unlike = (of(f"{prefix}by_{x}").mean(axis=0) for x in ("genome", "disagreement"))
        told = (middle_mean(unlike), middle_mean(genes), compare(unlike, genes))
        predicted[gain] = dict(zip(("disagreement", "genome", "difference"), told, strict=True))
    distances = {name: of(name) for name in ("disagreement", "genome")}
    predicted["ensemble over best, across swarms"] = across(distances, over[:, held])
    return {g: {n: each._asdict() for n, each in found.items()} for g, found in predicted.items()}


def _told(record: dict[str, Any]) -> list[str]:
    """Lines for a person about gains, and about what predicts them."""
    shown = {
        field: {name: _shown(Interval(**gain)) for name, gain in record[field].items()}
        for field in ("gains", "ensemble_gains", "ensemble_over_best")
    }
    lines = [
        f"{name}: ensemble over its best {over}" + (
            f"; over swarm: best {shown['gains'][name]}, ensemble {shown['ensemble_gains'][name]}"
            if name in shown["gains"] else ""
        )
        for name, over in shown["ensemble_over_best"].items()
    ]  # fmt: skip
    for gain, each in record["predicted"].items():
        told = ", ".join(f"{name} {_shown(Interval(**value))}" for name, value in each.items())
        lines.append(f"rank correlation with the gain of {gain}: {told}")
    return lines


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


def _outcomes(task: str, names: Iterable[str], wanted: range) -> dict[str, list[Outcome]]:
    return {name: _found(task, name, wanted) for name in names}


@cache
def _found(task: str, name: str, wanted: range) -> list[Outcome]:
    """Searches in swarms of some seeds each, which see other batches than the next swarm."""
    prepare_jax()
    policy = VARIANTS[name]() if name in VARIANTS else sj.preset(name)
    search, found = Search(_case(task), policy), []
    for start in range(0, len(wanted), TOGETHER):
        found += search(wanted[start : start + TOGETHER])
        valid, test = _of(found, "valid").mean(), _of(found, "test").mean()
        progress(f"{task} {name}, {len(found)} seeds: mean valid {valid:.4f}, test {test:.4f}")
    return found


@cache
def _case(task: str) -> Case:
    return case(task)


def _gains(found: dict[str, list[Outcome]], base: str, field: str = "test") -> dict[str, Interval]:
    """What each other policy gains over `base`."""
    theirs = _of(found[base], field)
    return {name: compare(_of(some, field), theirs) for name, some in found.items() if name != base}


def _lost(found: dict[str, list[Outcome]], ours: str) -> dict[str, Interval]:
    """What `ours` gains over each other policy."""
    mine = _of(found[ours], "test")
    return {n: compare(mine, _of(some, "test")) for n, some in found.items() if n != ours}


def _record(found: dict[str, list[Outcome]], gains: dict[str, Interval]) -> dict[str, Any]:
    levels = np.linspace(0.5, 1.0, 51)
    tests = {name: _of(some, "test") for name, some in found.items()}
    return {
        "gains": {name: gain._asdict() for name, gain in gains.items()},
        "test": {name: middle_mean(values)._asdict() for name, values in tests.items()},
        "valid": {n: middle_mean(_of(some, "valid"))._asdict() for n, some in found.items()},
        "profile": {name: profile(values, levels) for name, values in tests.items()},
        "outcomes": {name: [_plain(each) for each in some] for name, some in found.items()},
    }


def _plain(outcome: Outcome) -> dict[str, Any]:
    pairs = None if outcome.pairs is None else outcome.pairs._asdict()
    return outcome._asdict() | {"pairs": pairs}


def _of(some: list[Outcome], field: str) -> np.ndarray:
    return np.asarray([getattr(outcome, field) for outcome in some])


def _shown(gain: Interval) -> str:
    return f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
