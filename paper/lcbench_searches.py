"""The row of searches on LCBench: policies that need no weights, at equal epochs, paired by seed.

All that draw genes at random draw the same for the same seed, so that what differs is who trains
on. Told is the best network by validation as the search leaves it; nothing is trained further.
Regret is against the best that anything here or a large Sobol sample found at any epoch, since the
true best of the surrogate is not known. The grid has no seed: every one of its searches is alike.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.stats import qmc

import swarmjax as sj
from paper import figures, lcbench
from paper.curves import Curves, Outcome, Search, Setting
from paper.intervals import Interval, compare, middle_mean
from paper.measure import Row, need, progress
from swarmjax import presets
from swarmjax.allocate import rank, uniform
from swarmjax.policy import stateless
from swarmjax.rounds import prepare_jax
from swarmjax.types import Frame, Key, Plan, Policy

# Those of YAHPO's suite for one objective, and the first two of its list of all.
TASKS = ("167168", "189873", "189906", "3945", "7593")

# Epochs of a search, fifteen times a whole training; two a member in each round, since of a single
# one no allocation can give a member less without giving it nothing.
BUDGET, ROUNDS = 768, 6
SEEDS, FEW_SEEDS, FEW_TASKS = 40, 6, 2

# Two to this power are the networks whose best is the best known, unless a search finds a better.
SAMPLE = 14

BASELINE = "random_search"

Found = dict[str, list[Outcome]]


class Rival(NamedTuple):
    """A policy, the networks it has alive at a time, and how often it decides."""

    members: int
    policy: Callable[[], Policy]
    rounds: int = ROUNDS


RIVALS: dict[str, Rival] = {
    BASELINE: Rival(64, presets.random_search),
    # The same epochs for fewer networks, each nearly to the end.
    "random_search, 16": Rival(16, presets.random_search),
    "sobol": Rival(64, lambda: sj.chain(uniform(), sj.sobol())),
    "grid_search": Rival(64, presets.grid_search),
    # As many rungs as let the last one end where the curves do.
    "successive_halving": Rival(64, lambda: _drawn(sj.successive_halving(rungs=3))),
    "hyperband": Rival(64, presets.hyperband),
    "softmax": Rival(64, lambda: _drawn(sj.softmax())),
    "proportional": Rival(64, lambda: _drawn(sj.proportional(accuracy=1.0))),
    "rank": Rival(64, lambda: _drawn(rank())),
    "projected_gain": Rival(64, lambda: _drawn(sj.projected_gain())),
    # As many networks as random search has, each for as many epochs, but four at a time.
    "tpe": Rival(4, lambda: sj.chain(renew(12), uniform(), sj.optuna_sampler("tpe")), rounds=16),
}


def searches() -> Row:
    """A table without bars: regret, and gains over random search, whatever they say."""

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        need("onnxruntime", "matplotlib")
        folder = lcbench.find_files()
        curves_of = lcbench.load(folder)
        lcbench.check_known(curves_of)
        prepare_jax()
        seeds, plays = range(FEW_SEEDS if quick else SEEDS), prepare()
        raw = {}
        for task in TASKS[: FEW_TASKS if quick else None]:
            curves = curves_of(task)
            found = {name: [play(curves, i) for i in seeds] for name, play in plays.items()}
            raw[task] = record(found, best_known(curves, found))
            tell(task, raw[task])
        figures.regrets({f"OpenML task {task}": each for task, each in raw.items()}, BUDGET, quick)
        return {}, {"model_sha256": lcbench.digest(folder), "tasks": raw}

    return Row(lambda quick: {}, measure)


def prepare() -> dict[str, Search]:
    """A search for every rival that can be made here."""
    able = dict(RIVALS)
    if importlib.util.find_spec("optuna") is None:
        progress("not installed: optuna, so tpe is left out")
        del able["tpe"]
    return {
        name: Search(lcbench.SPACE, setting(rival), rival.policy()) for name, rival in able.items()
    }


def setting(rival: Rival) -> Setting:
    """The same epochs for every rival."""
    return Setting(rival.members, rival.rounds, BUDGET // rival.rounds)


def renew(epochs: int) -> Policy:
    """Gives the slot of every network that was trained for `epochs` to a new one."""

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        del key
        return plan._replace(fresh=plan.fresh | (jnp.asarray(frame.total_steps) >= epochs))

    return stateless(rule, f"renew({epochs})")


def best_known(curves: Curves, found: Found) -> float:
    """The best validation accuracy of a large sample, or of a search where that is better."""
    points = qmc.Sobol(len(lcbench.SPACE.genes), rng=np.random.default_rng(0)).random_base2(SAMPLE)
    sampled = curves(lcbench.SPACE.decode(points.astype(np.float32)))["valid_accuracy"].max()
    return max(float(sampled), *(each.valid for some in found.values() for each in some))


def record(found: Found, best: float) -> dict[str, Any]:
    """Everything about one task, fit for JSON; regrets, gains and accuracies in percent."""
    valid = {name: _percent(some, "valid") for name, some in found.items()}
    test = {name: _percent(some, "test") for name, some in found.items()}
    rivals = [name for name in found if name != BASELINE]
    curves = {name: 100 * best - _percent(some, "curve") for name, some in found.items()}
    return {
        "best_known": 100 * best,
        "regret": {name: _told(middle_mean(100 * best - some)) for name, some in valid.items()},
        "gain": {name: _told(compare(valid[name], valid[BASELINE])) for name in rivals},
        "test": {name: _told(middle_mean(some)) for name, some in test.items()},
        "test_gain": {name: _told(compare(test[name], test[BASELINE])) for name in rivals},
        "regret_curve": {name: [_told(middle_mean(r)) for r in c.T] for name, c in curves.items()},
        "outcomes": {name: _columns(some) for name, some in found.items()},
    }


def tell(task: str, told: dict[str, Any]) -> None:
    """A line for every policy."""
    for name, regret in told["regret"].items():
        gains = [told[kind].get(name) for kind in ("gain", "test_gain")]
        shown = ", ".join(_shown(gain) for gain in gains if gain)
        progress(f"lcbench {task}: {name} regret {regret['value']:.2f}, gains {shown or '-'}")


def _drawn(allocation: Policy) -> Policy:
    """An allocation among the networks of random search."""
    return sj.chain(allocation, sj.random())


def _percent(some: list[Outcome], field: str) -> np.ndarray:
    return 100 * np.asarray([getattr(outcome, field) for outcome in some], np.float64)


def _columns(some: list[Outcome]) -> dict[str, list[float]]:
    """Every search's figures, without its curve."""
    names = [name for name in Outcome._fields if name != "curve"]
    return {name: [round(getattr(each, name), 6) for each in some] for name in names}


def _told(interval: Interval) -> dict[str, float]:
    return {name: round(value, 4) for name, value in interval._asdict().items()}


def _shown(gain: dict[str, float]) -> str:
    return f"{gain['value']:+.2f} [{gain['low']:+.2f}, {gain['high']:+.2f}]"
