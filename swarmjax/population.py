"""`apply_plan`, the only place where the weights of a swarm move.

Members of one container are kept in one cohort, a stack (see `stacks`) that may have free rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from swarmjax import descent, stacks
from swarmjax.descent import Change
from swarmjax.members import (
    Member,
    Recipe,
    cross_members,
    new_members,
    repad_members,
    resize_members,
)
from swarmjax.models import Architecture
from swarmjax.swarm import Store, Swarm
from swarmjax.types import Genome, Key, Plan

# Several cohorts may work at once: `each` is `map`, or the `map` of a thread pool.
Each = Callable[..., Iterable[Any]]


class Move(NamedTuple):
    """One lane of arriving members.

    Attributes:
        slots: `[D, L]`, each on the device that will keep it; -1: none.
        origin: index of the container of their parents; -1: fresh.
        mates: index of the container of their mates; -1: none.
        copied: whether they are copies rather than resized or bred.
    """

    slots: np.ndarray
    origin: int
    mates: int
    copied: bool


def apply_plan(
    recipe: Recipe,
    containers: Mapping[Architecture, Any],
    key: Key,
    swarm: Swarm,
    genome: Genome,
    plan: Plan,
    store: Store,
    *,
    born: np.ndarray | None = None,
    each: Each = map,
) -> Swarm:
    """Gives every slot the weights its plan asks for: its own, its parent's, or fresh ones.

    A child of its parent's architecture copies weights and optimizer state. A child of another one
    takes weights by `resize.resize` where the family allows it, else fresh ones; a child with an
    operator gets them by `crossover`, without a mate that does not fit. The optimizer state of
    both starts anew. Who stays as it is but has another container now is padded anew.

    Args:
        recipe: what all members share.
        containers: architecture -> container, from the planner.
        key: the run's member key; a network's randomness is `fold_in(key, birth)`.
        swarm: the swarm before; its cohorts are consumed.
        genome: genes before the plan.
        plan: checked by `policy.check_plan`.
        store: how cohorts are kept.
        born: `[N]` birth numbers afterwards, where this swarm is a part of one that counts them;
            None: the newborn take the next ones.
        each: maps over cohorts, perhaps concurrently.

    Raises:
        PlanError: an operator needs to know the units of a network that is not padded.
    """
    descent.check_operators(recipe, np.where(plan.fresh, 0, plan.operator))
    change = descent.change(recipe, containers, swarm, genome, plan, born)
    row = descent.rows(swarm.kind, swarm.row, change)
    cohorts, step = _move(recipe, key, swarm, change, row, store, each)
    lineage = np.where(change.fresh, change.birth, swarm.lineage[change.parent])
    births = swarm.births + int(change.newborn.sum())
    return Swarm(cohorts, change.containers, change.kind, row, change.birth, lineage, step, births)


def _move(
    recipe, key, swarm: Swarm, change: Change, row, store: Store, each: Each
) -> tuple[dict[Any, Member], np.ndarray]:
    """All cohorts after everyone has moved, and the steps `[N]` behind the weights."""
    moving = change.newborn | ~change.same | (swarm.kind != change.kind)
    held = moving & _awaited(swarm, change, row, moving)
    arriving = partial(_arriving, recipe, key, swarm, change, store)
    lanes = partial(_moves, swarm, change, row, store)
    kinds, step = [int(kind) for kind in np.unique(change.kind)], swarm.step.copy()

    def read(kind):
        return [(move, arriving(kind, move)) for move in lanes(held, kind)]

    def write(kind, waiting):
        at_once = ((move, None) for move in lanes(moving & ~held, kind))
        return _written(swarm, change, row, store, arriving, kind, (*at_once, *waiting))

    # Everyone who waits is read before anyone is written.
    waiting = list(each(read, kinds))
    written = list(each(write, kinds, waiting))
    for slots, behind in (moved for _, some in written for moved in some):
        step[slots] = behind
    stacks_of = zip(kinds, written, strict=True)
    return {change.containers[kind]: stack for kind, (stack, _) in stacks_of}, step


def _written(swarm: Swarm, change: Change, row, store: Store, arriving, kind: int, moves):
    """The cohort after its arrivals, some of them read already, and slots and steps of each."""
    stack, moved = swarm.cohorts.get(change.containers[kind]), []
    rows = int(row[change.kind == kind].max()) + 1
    for move, members in moves:
        members = arriving(kind, move, stack) if members is None else members
        target = np.where(move.slots >= 0, row[move.slots], -1).astype(np.int32)
        stack = settled(stack, store, target, members, rows)
        moved.append((move.slots[move.slots >= 0], _steps(swarm, change, move, members)))
    return stack, moved


def _awaited(swarm: Swarm, change: Change, row, moving) -> np.ndarray:
    """Arrivals `[N]` that must be ready before anything is written, and be written last.

    Their row is one that an arrival starts from, or their parent lives in another cohort, which may
    be written concurrently.
    """
    reading = moving & ~change.fresh
    read = np.unique(np.concatenate([change.parent[reading], change.mate[reading]]))
    sources = set(zip(swarm.kind[read].tolist(), swarm.row[read].tolist(), strict=True))
    targets = zip(change.kind.tolist(), row.tolist(), strict=True)
    overwrites = np.asarray([target in sources for target in targets])
    elsewhere = swarm.kind[change.parent] != change.kind
    elsewhere |= swarm.kind[change.mate] != change.kind
    return moving & overwrites | reading & elsewhere


def _moves(swarm, change: Change, row, store: Store, chosen, kind: int) -> Iterator[Move]:
    """The chosen slots of one cohort in lanes of like arrivals."""
    slots = np.flatnonzero(chosen & (change.kind == kind))
    slots = slots[np.argsort(row[slots], kind="stable")]
    origin = np.where(change.fresh, -1, swarm.kind[change.parent])[slots]
    mates = np.where(change.operator != 0, swarm.kind[change.mate], -1)[slots]
    kinds = np.stack([origin, mates, change.same[slots]], axis=1)
    for source, second, copies in np.unique(kinds, axis=0).tolist():
        alike = slots[(kinds == (source, second, copies)).all(axis=1)]
        for places in stacks.home_lanes(row[alike], store.mesh.size, store.lane):
            lane = np.where(places >= 0, alike[places], -1)
            yield Move(lane, source, second, bool(copies))


def _arriving(recipe, key, swarm: Swarm, change: Change, store: Store, kind, move, stack=None):
    """The members of one move; `stack` is the cohort as it is while it is being written."""
    real = move.slots >= 0
    filled = np.where(real, move.slots, move.slots[real][0])
    birth, new = change.birth[filled], _select(change.new, filled)
    container = change.containers[kind]
    if move.origin < 0:
        return new_members(recipe, container, store.mesh, key, birth, new)
    take = partial(_taken, swarm, store, real, stack)
    source, parents = swarm.containers[move.origin], change.parent[filled]
    members, old = take(source, parents), _select(change.old, parents)
    if move.copied:
        same = source == container
        return members if same else repad_members(recipe, container, store.mesh, members, new)
    if move.mates < 0:
        return resize_members(recipe, source, container, store.mesh, members, key, birth, old, new)
    second, mates = swarm.containers[move.mates], change.mate[filled]
    return cross_members(
        recipe, (source, second), container, store.mesh, (members, take(second, mates)), key,
        birth, change.operator[filled], (old, _select(change.old, mates)), new,
    )  # fmt: skip


def _taken(swarm: Swarm, store: Store, real, stack, container, slots) -> Member:
    """The members in `slots`, which live in one container."""
    stack = swarm.cohorts[container] if stack is None else stack
    rows = np.where(real, swarm.row[slots], -1).astype(np.int32)
    return stacks.take(stack, store.mesh, rows, _near(rows, store.mesh.size))


def _near(rows: np.ndarray, devices: int) -> bool:
    own = np.arange(devices)[:, None]
    return bool(((stacks.device_of(rows, devices) == own) | (rows < 0)).all())


def settled(stack, store: Store, rows: np.ndarray, members: Member, most: int) -> Member:
    """The stack, which is consumed, or a new one, with room for `most` and members in `rows`.

    Both are lanes `[G, L]`, every member where its row is; there is nobody below row 0.
    """
    if stack is None:
        stack = stacks.new_stack(members, store.mesh, most, store.host)
    elif stacks.rows_of(stack) < most:
        stack = stacks.grow(stack, most)
    return stacks.put(stack, store.mesh, rows, members, near=True)


def _steps(swarm: Swarm, change: Change, move: Move, members: Member) -> np.ndarray:
    """Steps behind the weights of the members of a move."""
    slots = move.slots[move.slots >= 0]
    if move.origin < 0:
        return np.zeros(len(slots), np.int32)
    if move.copied:
        return swarm.step[change.parent[slots]]
    return np.asarray(members.step)[move.slots >= 0]


def _select(genome: Genome, slots: np.ndarray) -> Genome:
    return {name: values[slots] for name, values in genome.items()}
