"""What a Plan means for every slot: whose weights it goes on from, and where it will be kept.

Worked out on the host, before anything moves: see `population`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from swarmjax.cohorts import place
from swarmjax.crossover import OF_TWO, OF_UNITS, OPERATORS
from swarmjax.members import Recipe
from swarmjax.models import Architecture, architectures
from swarmjax.policy import PlanError
from swarmjax.swarm import Swarm
from swarmjax.types import Genome, Plan


class Descent(NamedTuple):
    """Whose weights every slot goes on from by a Plan, whoever keeps them.

    Attributes:
        parent: as in `Change`.
        mate: as in `Change`.
        operator: as in `Change`.
        fresh: as in `Change`.
        same: as in `Change`.
        newborn: as in `Change`.
    """

    parent: np.ndarray
    mate: np.ndarray
    operator: np.ndarray
    fresh: np.ndarray
    same: np.ndarray
    newborn: np.ndarray


class Change(NamedTuple):
    """What a Plan means for every slot, worked out on the host.

    Attributes:
        parent: `[N]` slot it starts from; itself where fresh.
        mate: `[N]` slot of its second parent; its parent where there is none.
        operator: `[N]` how they combine; 0 where nothing is to be done, or where fresh.
        containers: the swarm's, and those that join them.
        kind: `[N]` index of the container it will live in.
        architecture: `[N]` number of its architecture in this Plan.
        fresh: `[N]` bool, new weights.
        same: `[N]` bool, its architecture and weights are its parent's.
        newborn: `[N]` bool, a new network: fresh, or a child.
        birth: `[N]` birth numbers afterwards.
        old: genes before, the parents' genes.
        new: genes afterwards.
    """

    parent: np.ndarray
    mate: np.ndarray
    operator: np.ndarray
    containers: tuple[Any, ...]
    kind: np.ndarray
    architecture: np.ndarray
    fresh: np.ndarray
    same: np.ndarray
    newborn: np.ndarray
    birth: np.ndarray
    old: Genome
    new: Genome


def descent(recipe: Recipe, genome: Genome, plan: Plan) -> Descent:
    """What a Plan means for the weights of every slot; `genome` `[N]` are the genes before it."""
    slots = np.arange(len(plan.parent))
    fresh = np.asarray(plan.fresh)
    parent = np.where(fresh, slots, plan.parent)
    structure = [
        (np.asarray(genome[name]), np.asarray(plan.genome[name]))
        for name in recipe.space.structural
    ]
    same = ~fresh & _equal((before[parent] == after for before, after in structure), slots)
    fits = _equal((before[parent] == before[plan.mate] for before, _ in structure), slots)
    resizes = recipe.family.sizes is not None
    operator = np.where(fresh | ~(same | resizes), 0, plan.operator)
    two = np.isin(operator, [OPERATORS.index(name) for name in OF_TWO])
    single = ~two | ~(fits | resizes)
    mate, same = np.where(single, parent, plan.mate), same & (operator == 0)
    newborn = fresh | (parent != slots) | (operator != 0)
    return Descent(parent, mate, operator, fresh, same, newborn)


def numbered(birth: np.ndarray, births: int, newborn: np.ndarray) -> np.ndarray:
    """Birth numbers `[N]` after the `newborn` `[N]` took the next of `births` so far."""
    after = birth.copy()
    after[newborn] = births + np.arange(newborn.sum())
    return after


def change(
    recipe: Recipe,
    planned: Mapping[Architecture, Any],
    swarm: Swarm,
    genome: Genome,
    plan: Plan,
    born: np.ndarray | None,
) -> Change:
    """What `plan` means for a swarm of genes `genome` `[N]`; else as in `population.apply_plan`."""
    found, index = architectures(recipe.space, plan.genome)
    wanted = [place(recipe.family, planned, architecture) for architecture in found]
    containers = tuple(dict.fromkeys((*swarm.containers, *wanted)))
    kind = np.asarray([containers.index(container) for container in wanted], np.int32)[index]
    line = descent(recipe, genome, plan)
    birth = numbered(swarm.birth, swarm.births, line.newborn) if born is None else born
    old: Genome = {name: np.asarray(values) for name, values in genome.items()}
    new: Genome = {name: np.asarray(values) for name, values in plan.genome.items()}
    return Change(
        line.parent, line.mate, line.operator, containers, kind, index, line.fresh, line.same,
        line.newborn, birth, old, new,
    )  # fmt: skip


def rows(before: np.ndarray, row: np.ndarray, change: Change) -> np.ndarray:
    """A row for every slot: the old one if it stays in its cohort, else the lowest free one.

    Newcomers of one architecture get neighbouring rows, since they train together.
    """
    row, after = row.copy(), change.kind
    for kind in np.unique(after):
        settled = (after == kind) & (before == kind)
        coming = np.flatnonzero((after == kind) & (before != kind))
        coming = coming[np.argsort(change.architecture[coming], kind="stable")]
        free = np.arange(settled.sum() + len(coming) + row[settled].max(initial=-1) + 1)
        row[coming] = np.setdiff1d(free, row[settled])[: len(coming)]
    return row


def _equal(genes, slots) -> np.ndarray:
    """Where all genes `[N]` agree."""
    return np.logical_and.reduce([np.ones(len(slots), bool), *genes])


def check_operators(recipe: Recipe, operator: np.ndarray) -> None:
    """Raises PlanError if one of `operator` `[N]` needs units that the networks do not tell."""
    for member in np.flatnonzero(operator) if recipe.family.sizes is None else ():
        name = OPERATORS[operator[member]]
        if name in OF_UNITS:
            raise PlanError(
                f"plan.operator: member {member} has {name}, which only the model mlp allows; "
                "breed by average, uniform, neuron or layer"
            )
