"""Which programs a swarm needs as it becomes alike: decided anew when few architectures are left.

Programs are padded for all the architectures that a run begins with. Selection soon leaves a few of
them, often one, which would go on paying for the padding of those that are gone. What is decided
here depends on the Plans alone and on what the machine was found to cost, so that whoever repeats
them decides the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from swarmjax.cohorts import Costs, Load, place, plan_cohorts, training_seconds
from swarmjax.members import Recipe
from swarmjax.models import Architecture, Family, architectures
from swarmjax.types import Array, Genome

# It is decided anew when at most this share of the architectures still trains: seldom, therefore.
SHRUNK = 2 / 3
# What it must save at least: so many times the compiling, and this share of what is left to train.
MARGIN, LEAST = 2.0, 0.1


class Homes(NamedTuple):
    """Where networks are trained, and what that was decided by.

    Attributes:
        containers: architecture -> container.
        known: all containers that there ever were.
        left: member-steps that the run will still take.
        seen: architectures in training when it was decided last.
        seconds: that what was left then is reckoned to train.
        before: the same in the containers before; 0 where there were none.
    """

    containers: Mapping[Architecture, Any] = {}
    known: tuple[Any, ...] = ()
    left: int = 0
    seen: int = 0
    seconds: float = 0.0
    before: float = 0.0


def begun(containers: Mapping[Architecture, Any], budget: int) -> Homes:
    """Those of a run of `budget` member-steps whose architectures have these `containers`."""
    return Homes(containers, tuple(dict.fromkeys(containers.values())), budget, len(containers))


def home(family: Family, homes: Homes, architecture: Architecture) -> Any:
    """The container for an architecture that may be new."""
    return place(family, homes.containers, architecture, homes.known)


def containers(recipe: Recipe, homes: Homes, genome: Genome) -> dict[Architecture, Any]:
    """Architecture -> container of all members of these genes `[N]`."""
    found, _ = architectures(recipe.space, genome)
    return {each: home(recipe.family, homes, each) for each in found}


def follow(
    homes: Homes, recipe: Recipe, batch: int, costs: Costs, genome: Genome, steps: Array
) -> Homes:
    """Where networks are trained in a round, and in those after it.

    Args:
        homes: before it.
        recipe: what all members share; only padded dense layers can go to another container.
        batch: examples in a training step.
        costs: the machine.
        genome: `[N]` genes in the round.
        steps: `[N]` granted in it; the rest of the run is expected to be shared out alike.
    """
    steps = np.asarray(steps)
    taken = int(steps.sum())
    after = homes._replace(left=max(homes.left - taken, 0))
    if recipe.family.sizes is None or not taken:
        return after
    found, index = architectures(recipe.space, genome)
    granted = np.bincount(index, steps, len(found))
    busy = np.bincount(index[steps > 0], minlength=len(found))
    if (count := int((busy > 0).sum())) > SHRUNK * homes.seen:
        return after
    # Sums of floats must not depend on the order in which they are made.
    loads = {
        each: Load(int(n), homes.left * float(g) / taken)
        for each, n, g in zip(found, busy, granted, strict=True)
        if n
    }
    return _tighter(after._replace(seen=count), recipe.family, loads, batch, costs)


def _tighter(
    homes: Homes, family: Family, loads: Mapping[Architecture, Load], batch: int, costs: Costs
) -> Homes:
    """`homes` with smaller containers for those who train, if that saves enough."""
    now = {each: home(family, homes, each) for each in loads}
    planned = plan_cohorts(family, loads, batch, costs).containers
    size = family.parameters
    then = {a: planned[a] if size(planned[a]) < size(now[a]) else now[a] for a in loads}
    before, after = (
        sum(training_seconds(family, boxes, loads, batch, costs).values()) for boxes in (now, then)
    )
    new = [box for box in dict.fromkeys(then.values()) if box not in homes.known]
    price = MARGIN * len(new) * costs.compile_seconds
    if then == now or before - after < max(price, LEAST * before):
        return homes
    return homes._replace(
        containers={**homes.containers, **then}, known=(*homes.known, *new),
        seconds=after, before=before,
    )  # fmt: skip
