"""Who trains where: members dealt to islands by measured speed, and a Plan cut up for each of them.

Pure functions on the host. An island holds the networks of its own slots; for a round it borrows
those that its own start from. Nothing here changes what any member becomes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from swarmjax.descent import Descent
from swarmjax.following import Homes
from swarmjax.types import Frame, Genome, Plan

# Seconds that moving a byte takes, and a message; a network is moved only where that pays.
BYTE, MESSAGE = 5e-9, 5e-3
# The slowest island may take so much longer than it had to.
SLACK = 1.25


class Order(NamedTuple):
    """What an island does in a round.

    Attributes:
        round: finished rounds before it.
        slots: `[m]` whose networks it needs: its own, then those that it borrows.
        own: how many are its own.
        plan: `[m]`, members numbered as in `slots`; who is borrowed stays as it is.
        genome: `[m]` genes before.
        birth: `[m]` birth numbers before.
        born: `[m]` birth numbers afterwards.
        homes: in which they train.
    """

    round: int
    slots: np.ndarray
    own: int
    plan: Plan
    genome: Genome
    birth: np.ndarray
    born: np.ndarray
    homes: Homes


def blocks(members: int, islands: int) -> np.ndarray:
    """The island `[N]` of each member at first: neighbours together, as evenly as can be."""
    return (np.arange(members, dtype=np.int64) * islands // members).astype(np.int32)


def rehomed(owner: np.ndarray, open: np.ndarray) -> np.ndarray:
    """The island `[N]` of each member if only those that are open `[K]` take part."""
    homes = np.flatnonzero(open)
    away = ~open[owner]
    return np.where(away, homes[np.arange(len(owner)) % len(homes)], owner).astype(np.int32)


def work_of(plan: Plan, frame: Frame) -> np.ndarray:
    """Operations `[N]` of each member in a round; its evaluation counts as one more step."""
    return (np.asarray(plan.steps, np.float64) + 1) * np.asarray(frame.cost, np.float64)


def loads(owner: np.ndarray, work: np.ndarray, pace: np.ndarray) -> np.ndarray:
    """Seconds `[K]` that each island needs for its part of `work` `[N]` at its `pace` `[K]`."""
    return np.bincount(owner, work, len(pace)) * pace


def deal(
    owner: np.ndarray, work: np.ndarray, pace: np.ndarray, size: np.ndarray, open: np.ndarray
) -> np.ndarray:
    """The island `[N]` of each member from now on.

    Members move from islands that would be late to those that would be early, if that shortens the
    round by more than moving them takes, and off islands that are not open. Each open one keeps at
    least one.

    Args:
        owner: `[N]` so far.
        work: `[N]` operations of the coming round.
        pace: `[K]` seconds of an operation, as measured.
        size: `[N]` bytes of each member.
        open: `[K]` bool, which islands take part.
    """
    room = np.where(open, work.sum() / np.sum(1 / pace[open]) / pace, 0.0)
    before = _before(owner, work)
    first = before == 0
    # Whom the island has room for up to the middle of its work stays; so does one in any case.
    stays = open[owner] & ((before + work / 2 <= room[owner]) | first)
    after = _filled(owner, work, room, stays, open)
    moved = after != owner
    if not open[owner].all() or not np.isin(np.flatnonzero(open), owner).all():
        return after
    saved = loads(owner, work, pace).max() - loads(after, work, pace).max()
    late = loads(owner, work, pace).max() > SLACK * (room * pace)[open].max()
    price = BYTE * size[moved].sum() + MESSAGE * len(pace)
    return after if late and saved > price else owner


def _before(owner: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Work `[N]` of those of the same island in earlier slots."""
    order = np.argsort(owner, kind="stable")
    total = np.cumsum(work[order]) - work[order]
    _, start, index = np.unique(owner[order], return_index=True, return_inverse=True)
    before = np.empty(len(owner))
    before[order] = total - total[start][index]
    return before


def _filled(owner, work, room, stays, open) -> np.ndarray:
    """Those who do not stay, in the order of slots, where there is room left."""
    left = np.maximum(room - np.bincount(owner[stays], work[stays], len(room)), 0.0)
    # Where everyone is as full as can be, whoever is open takes its part.
    left = np.where(open, left + 1e-9 * (room.sum() + 1), 0.0)
    going = np.flatnonzero(~stays)
    middle = np.cumsum(work[going]) - work[going] / 2
    ends = np.cumsum(left)
    middle *= ends[-1] / max(work[going].sum(), 1e-30)
    after = owner.copy()
    after[going] = np.minimum(np.searchsorted(ends, middle, side="right"), len(room) - 1)
    lost = ~open[after]
    after[lost] = np.flatnonzero(open)[0]
    # Nobody without work is left aside.
    for island in np.setdiff1d(np.flatnonzero(open), after):
        fullest = np.bincount(after, minlength=len(room)).argmax()
        after[np.flatnonzero(after == fullest)[-1]] = island
    return after


def order_for(
    island: int,
    owner: np.ndarray,
    plan: Plan,
    line: Descent,
    frame: Frame,
    born: np.ndarray,
    homes: Homes,
) -> Order:
    """What one island does for a Plan of the whole swarm.

    Args:
        island: its number.
        owner: `[N]` who trains each member in this round.
        plan: of the whole swarm.
        line: from `descent.descent`.
        frame: before the round.
        born: `[N]` birth numbers afterwards.
        homes: in which all train.
    """
    own = np.flatnonzero(owner == island)
    slots = np.concatenate([own, np.setdiff1d(_needed(own, plan, line), own)])
    mine, birth = np.arange(len(slots)) < len(own), np.asarray(frame.birth)[slots]
    genome: Genome = {name: np.asarray(values)[slots] for name, values in frame.genome.items()}
    return Order(
        int(frame.round), slots, len(own), _part(plan, line, slots, mine, genome), genome, birth,
        np.where(mine, born[slots], birth), homes,
    )  # fmt: skip


def _needed(own: np.ndarray, plan: Plan, line: Descent) -> np.ndarray:
    """Slots whose networks those in `own` come from."""
    going = own[~line.fresh[own]]
    two = going[np.asarray(plan.operator)[going] != 0]
    return np.union1d(line.parent[going], line.mate[two])


def _part(plan: Plan, line: Descent, slots: np.ndarray, mine: np.ndarray, genome: Genome) -> Plan:
    """The Plan of `slots` `[m]`, numbered as in there; whoever is not `mine` stays as it is."""
    place = np.full(len(line.parent), -1, np.int32)
    place[slots] = np.arange(len(slots), dtype=np.int32)
    itself = np.arange(len(slots), dtype=np.int32)
    operator = np.asarray(plan.operator)
    mate = np.where(operator != 0, line.mate, line.parent)
    return Plan(
        parent=np.where(mine & ~line.fresh[slots], place[line.parent[slots]], itself),
        mate=np.where(mine & ~line.fresh[slots], place[mate[slots]], itself),
        operator=np.where(mine, operator[slots], 0).astype(np.int32),
        steps=np.where(mine, np.asarray(plan.steps)[slots], 0).astype(np.int32),
        devices=np.asarray(plan.devices)[slots],
        fresh=mine & line.fresh[slots],
        genome={
            name: np.where(mine, np.asarray(values)[slots], genome[name])
            for name, values in plan.genome.items()
        },
    )


def borrowed(order: Order, held: np.ndarray, island: int) -> dict[int, np.ndarray]:
    """Island -> slots whose networks it must send so that `island` can follow `order`.

    Args:
        order: from `order_for`.
        held: `[N]` who holds each network before the round.
        island: that follows it.
    """
    missing = order.slots[(held[order.slots] != island) & ~_unused(order)]
    return {int(k): missing[held[missing] == k] for k in np.unique(held[missing])}


def _unused(order: Order) -> np.ndarray:
    """Places `[m]` bool whose network of before is needed by nobody here."""
    plan = order.plan
    used = np.concatenate([plan.parent[~plan.fresh], plan.mate[(plan.operator != 0) & ~plan.fresh]])
    return ~np.isin(np.arange(len(order.slots)), used)
