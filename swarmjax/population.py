"""The swarm's weights: where they live, and `apply_plan`, the only place where they move.

Members of one container are stacked in one cohort, `[rows, ...]`, which may have free rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from swarmjax.cohorts import place
from swarmjax.members import Member, Recipe, new_members, put, resize_members, take
from swarmjax.models import Architecture, architectures
from swarmjax.types import Genome, Key, Plan

# Several cohorts may work at once: `each` is `map`, or the `map` of a thread pool.
Each = Callable[..., Iterable[Any]]


class Swarm(NamedTuple):
    """All members, on the host except for the cohorts.

    Attributes:
        cohorts: container -> members stacked `[rows, ...]`, more rows than members.
        containers: all containers met so far.
        kind: `[N]` index into them of each slot, -1 before the first plan.
        row: `[N]` row of each slot in its cohort.
        birth: `[N]` as in `Frame`.
        lineage: `[N]` as in `Frame`.
        step: `[N]` as `total_steps` in `Frame`.
        births: networks born so far.
    """

    cohorts: dict[Any, Member]
    containers: tuple[Any, ...]
    kind: np.ndarray
    row: np.ndarray
    birth: np.ndarray
    lineage: np.ndarray
    step: np.ndarray
    births: int

    def place(self, slot: int) -> tuple[Any, int]:
        """Container and row of a slot."""
        return self.containers[self.kind[slot]], int(self.row[slot])


class Change(NamedTuple):
    """What a Plan means for every slot, worked out on the host.

    Attributes:
        parent: `[N]` slot it starts from; itself where fresh.
        containers: the swarm's, and those that join them.
        kind: `[N]` index of the container it will live in.
        fresh: `[N]` bool, new weights.
        same: `[N]` bool, its architecture is its parent's.
        newborn: `[N]` bool, a new network: fresh, or a child.
        birth: `[N]` birth numbers afterwards.
        old: genes before, the parents' genes.
        new: genes afterwards.
    """

    parent: np.ndarray
    containers: tuple[Any, ...]
    kind: np.ndarray
    fresh: np.ndarray
    same: np.ndarray
    newborn: np.ndarray
    birth: np.ndarray
    old: Genome
    new: Genome


class Move(NamedTuple):
    """One lane of arriving members: their `slots` `[<= L]` and states, stacked `[L, ...]`."""

    slots: np.ndarray
    members: Member


def empty_swarm(members: int) -> Swarm:
    """A swarm of `members` slots in which no network lives yet."""
    none = np.full(members, -1, np.int32)
    return Swarm({}, (), none, none, none, none, np.zeros(members, np.int32), 0)


def apply_plan(
    recipe: Recipe,
    containers: Mapping[Architecture, Any],
    key: Key,
    swarm: Swarm,
    genome: Genome,
    plan: Plan,
    *,
    lane: int,
    each: Each = map,
) -> Swarm:
    """Gives every slot the weights its plan asks for: its own, its parent's, or fresh ones.

    A child of its parent's architecture copies weights and optimizer state. A child of another one
    takes weights by `breed.resize` where the family allows it, else fresh ones; its optimizer state
    starts anew either way.

    Args:
        recipe: what all members share.
        containers: architecture -> container, from the planner.
        key: the run's member key; a network's randomness is `fold_in(key, birth)`.
        swarm: the swarm before; its cohorts are consumed.
        genome: genes before the plan.
        plan: checked by `policy.check_plan`.
        lane: members moved at a time.
        each: maps over cohorts, perhaps concurrently.
    """
    change = _change(recipe, containers, swarm, genome, plan)
    kinds = np.unique(change.kind)
    arrivals = partial(_arrivals, recipe, key, swarm, change, lane)
    # Every parent is read before any row is written.
    arriving = dict(zip(kinds, each(arrivals, kinds), strict=True))
    row = _rows(swarm.kind, swarm.row, change.kind)
    cohorts = {}
    for kind, moves in arriving.items():
        container, needed = change.containers[kind], int(row[change.kind == kind].max()) + 1
        cohorts[container] = _settle(swarm.cohorts.get(container), moves, row, needed, lane)
    step = swarm.step.copy()
    for move in (move for moves in arriving.values() for move in moves):
        step[move.slots] = np.asarray(move.members.step)[: len(move.slots)]
    lineage = np.where(change.fresh, change.birth, swarm.lineage[change.parent])
    births = swarm.births + int(change.newborn.sum())
    return Swarm(cohorts, change.containers, change.kind, row, change.birth, lineage, step, births)


def _change(recipe, planned, swarm, genome, plan) -> Change:
    slots = np.arange(len(plan.parent))
    fresh = np.asarray(plan.fresh)
    parent = np.where(fresh, slots, plan.parent)
    old: Genome = {name: np.asarray(values) for name, values in genome.items()}
    new: Genome = {name: np.asarray(values) for name, values in plan.genome.items()}
    same = ~fresh
    for name in recipe.space.structural:
        same &= old[name][parent] == new[name]
    newborn = fresh | (parent != slots)
    birth = swarm.birth.copy()
    birth[newborn] = swarm.births + np.arange(newborn.sum())
    found, index = architectures(recipe.space, new)
    wanted = [place(recipe.family, planned, architecture) for architecture in found]
    containers = tuple(dict.fromkeys((*swarm.containers, *wanted)))
    kind = np.asarray([containers.index(container) for container in wanted], np.int32)[index]
    return Change(parent, containers, kind, fresh, same, newborn, birth, old, new)


def _arrivals(recipe, key, swarm: Swarm, change: Change, lane: int, kind: int) -> list[Move]:
    moving = np.flatnonzero((change.newborn | ~change.same) & (change.kind == kind))
    container, moves = change.containers[kind], []
    for origin, copied, slots in _groups(swarm, change, moving):
        for start in range(0, len(slots), lane):
            part = slots[start : start + lane]
            padded = part[np.minimum(np.arange(lane), len(part) - 1)]
            parents = change.parent[padded]
            birth, new = change.birth[padded], _select(change.new, padded)
            if origin < 0:
                members = new_members(recipe, container, key, birth, new)
            else:
                source = swarm.containers[origin]
                members = take(swarm.cohorts[source], swarm.row[parents])
                if not copied:
                    old = _select(change.old, parents)
                    members = resize_members(
                        recipe, source, container, members, key, birth, old, new
                    )
            moves.append(Move(part, members))
    return moves


def _groups(swarm, change, slots) -> Iterator[tuple[int, bool, np.ndarray]]:
    """Slots that arrive alike: kind of their parents (-1: fresh), and whether they copy."""
    origin = np.where(change.fresh, -1, swarm.kind[change.parent])[slots]
    copied = change.same[slots]
    for kind, copies in sorted(set(zip(origin.tolist(), copied.tolist(), strict=True))):
        yield kind, copies, slots[(origin == kind) & (copied == copies)]


def _rows(before: np.ndarray, row: np.ndarray, after: np.ndarray) -> np.ndarray:
    """A row for every slot: the old one if it stays in its cohort, else the lowest free one."""
    row = row.copy()
    for kind in np.unique(after):
        settled = (after == kind) & (before == kind)
        coming = (after == kind) & (before != kind)
        rows = np.arange(settled.sum() + coming.sum() + row[settled].max(initial=-1) + 1)
        row[coming] = np.setdiff1d(rows, row[settled])[: coming.sum()]
    return row


def _settle(stack: Any, moves: list[Move], row, needed: int, lane: int) -> Member:
    if stack is None or len(stack.step) < needed:
        # A cohort only grows when someone arrives.
        stack = _grow(stack, moves[0].members, -(-needed // lane) * lane)
    for move in moves:
        rows = np.full(lane, len(stack.step), np.int32)
        rows[: len(move.slots)] = row[move.slots]
        stack = put(stack, rows, move.members)
    return stack


def _grow(stack: Member | None, like: Member, rows: int) -> Any:
    def leaf(new, old):
        grown = np.zeros((rows, *new.shape[1:]), new.dtype)
        if old is not None:
            grown[: len(old)] = old
        return jax.device_put(grown)

    old = jax.tree.map(lambda _: None, like) if stack is None else stack
    return jax.tree.map(leaf, like, old, is_leaf=lambda x: x is None)


def _select(genome: Genome, slots: np.ndarray) -> Genome:
    return {name: values[slots] for name, values in genome.items()}
