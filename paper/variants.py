"""Policies compared beside the presets: a chain with one link changed, left out or added."""

from __future__ import annotations

from collections.abc import Callable

import swarmjax as sj
from swarmjax import fitness
from swarmjax.types import Policy

Variants = dict[str, Callable[[], Policy]]


def _pbt(*links: Policy) -> Policy:
    """PBT with something between exploit and perturb."""
    return sj.chain(sj.exploit(), sj.allocate.uniform(), *links, sj.perturb())


def _swarm(
    allocation: Policy | None = None, selection: Policy | None = None, *behind: Policy
) -> Policy:
    """The preset `swarm` with another allocation or selection, or more behind the selection."""
    steps = allocation or sj.softmax(temperature=0.25, floor=0.0)
    return sj.chain(selection or sj.exploit(), *behind, steps, sj.perturb())


def _novel() -> fitness.Goal:
    """Fitness, and a tenth of how often predictions differ from those of the nearest networks."""
    return sj.novelty(goal=fitness.default, weight=0.1, distance=sj.diversity.by_predictions)


# What breeding is compared with is `pbt`, the same chain without it.
BREEDING: Variants = {
    "genes": lambda: _pbt(sj.breed("clone", mates="any")),
    "average": lambda: _pbt(sj.breed("average")),
    "aligned": lambda: _pbt(sj.breed("aligned", mates="any")),
    "union": lambda: _pbt(sj.breed("union", mates="any")),
    "shrink": lambda: _pbt(sj.mutate("shrink")),
    "perturb": lambda: _pbt(sj.mutate("perturb")),
}

# `swarm` without its allocation is `pbt`; without its selection nobody has other genes to explore.
ABLATED: Variants = {
    "without exploit": lambda: sj.chain(sj.softmax(temperature=0.25, floor=0.0)),
    "without perturb": lambda: sj.chain(sj.exploit(), sj.softmax(temperature=0.25, floor=0.0)),
}

ALLOCATORS: Variants = {
    "softmax, temperature 1": lambda: _swarm(sj.softmax()),
    "rank": lambda: _swarm(sj.allocate.rank()),
    "proportional": lambda: _swarm(sj.proportional(accuracy=1.0)),
    "projected_gain": lambda: _swarm(sj.projected_gain()),
}

DIVERSE: Variants = {
    "niches": lambda: _swarm(None, sj.niches("depth", "cost")),
    "lineage_cap": lambda: _swarm(None, None, sj.lineage_cap(8)),
    "shared": lambda: _swarm(None, sj.exploit(goal=sj.shared(fitness.default, 0.3))),
    "novelty": lambda: _swarm(None, sj.exploit(goal=_novel())),
}

VARIANTS: Variants = BREEDING | ABLATED | ALLOCATORS | DIVERSE
