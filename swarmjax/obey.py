"""The last link of every run's chain: a person's orders overrule what the policy planned.

On the host, in NumPy: it compiles nothing, and a Plan that nobody steers passes as it is. The Plan
that comes out can be followed whatever the orders say: what is impossible is left as planned.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from swarmjax.space import Space
from swarmjax.types import Frame, Genome, Plan


class Orders(NamedTuple):
    """What a person asks of one Plan; where several exclude each other, the first here holds.

    Attributes:
        held: `[N]` bool, its network goes on as it is: no other takes its slot, no gene changes but
            those `given`.
        still: `[N]` bool, it takes no steps; only for who is `held`, and as long as anybody else
            can take them.
        source: `[N]` int32 slot of a living network that it starts from, -1: as planned.
        mate: `[N]` int32 slot of the second parent, itself: none.
        operator: `[N]` int32 how the two combine, as in `Plan`.
        fresh: `[N]` bool, it starts from new weights with the genes `drawn`.
        ended: `[N]` bool, its network ends: `fresh`, unless the policy gives the slot to another.
        boost: `[N]` float64 times the steps it was granted, or the mean grant if that is more; 1:
            as granted.
        drawn: gene -> `[N]` values for who starts from new weights.
        given: gene -> `[N]` float64 values that come before all others, NaN: none.
    """

    held: np.ndarray
    still: np.ndarray
    source: np.ndarray
    mate: np.ndarray
    operator: np.ndarray
    fresh: np.ndarray
    ended: np.ndarray
    boost: np.ndarray
    drawn: Genome
    given: dict[str, np.ndarray]


def no_orders(space: Space, members: int) -> Orders:
    """Orders that ask for nothing."""
    own, no = np.arange(members, dtype=np.int32), np.zeros(members, bool)
    return Orders(
        held=no.copy(), still=no.copy(), source=np.full(members, -1, np.int32), mate=own,
        operator=np.zeros(members, np.int32), fresh=no.copy(), ended=no.copy(),
        boost=np.ones(members),
        drawn={name: gene.decode(np.zeros(members)) for name, gene in space.genes},
        given={name: np.full(members, np.nan) for name, _ in space.genes},
    )  # fmt: skip


def obey(plan: Plan, frame: Frame, orders: Orders) -> Plan:
    """The Plan as a person wants it.

    Steps still sum to what the policy granted: what a boost takes and who is still leaves is shared
    out in proportion. Of who was granted nothing, only those that `orders` bring to life, or boost,
    get the mean grant.

    Args:
        plan: the policy's, on the host.
        frame: what it answers.
        orders: of legal genes; those of the dead are void.
    """
    held, born, renewed = _fates(plan, frame, orders)
    boosted = orders.boost != 1
    if not (held | born | renewed | boosted).any():
        return plan
    own = np.arange(len(held), dtype=np.int32)
    stays, mated = held | renewed, born & np.asarray(frame.alive)[orders.mate]
    changed = plan._replace(
        parent=np.where(stays, own, np.where(born, orders.source, plan.parent)),
        mate=np.where(stays, own, np.where(born, np.where(mated, orders.mate, own), plan.mate)),
        operator=np.where(stays, 0, np.where(born, orders.operator * mated, plan.operator)),
        fresh=np.where(held | born, False, plan.fresh | renewed),
        genome=_genome(plan, frame, orders, (held, born, renewed)),
    )
    steps = _steps(changed, frame, orders, held & orders.still, born | renewed)
    return changed._replace(steps=steps)


def _fates(plan: Plan, frame: Frame, orders: Orders) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Who goes on as it is, who starts from another, who from new weights: `[N]` bool each."""
    alive = np.asarray(frame.alive)
    held = orders.held & alive
    born = ~held & (orders.source >= 0) & alive[orders.source]
    given_away = (plan.parent != np.arange(len(alive))) | plan.fresh
    return held, born, ~held & ~born & (orders.fresh | (orders.ended & ~given_away))


def _genome(plan: Plan, frame: Frame, orders: Orders, fates: tuple[np.ndarray, ...]) -> Genome:
    held, born, renewed = fates
    genome: Genome = {}
    for name, gene in frame.space.genes:
        before, planned = np.asarray(frame.genome[name]), np.asarray(plan.genome[name])
        value = np.where(held, before, np.where(born, before[orders.source], orders.drawn[name]))
        given = orders.given[name]
        value = gene.clip(np.where(np.isnan(given), value, given))
        genome[name] = np.where(held | born | renewed, value, planned)
    return genome


def _steps(
    plan: Plan, frame: Frame, orders: Orders, still: np.ndarray, new: np.ndarray
) -> np.ndarray:
    """Grants `[N]` int32 of the same sum, for who is not `still` `[N]`."""
    able = np.asarray(frame.alive)[plan.parent] | plan.fresh
    # A policy that grants nobody anything knew nobody who could train.
    total = int(plan.steps.sum(dtype=np.int64)) or int(frame.quota)
    late = new & (plan.steps == 0)
    mean = total / max(int((able & ~late).sum()), 1)
    weight = np.where(late, mean, plan.steps)
    weight = np.where(orders.boost != 1, orders.boost * np.maximum(weight, mean), weight) * able
    if (able & ~still).any():
        able, weight = able & ~still, weight * ~still
    if weight.any() and np.array_equal(weight, plan.steps):
        return np.asarray(plan.steps)
    return _integer_shares(weight if weight.any() else able.astype(float), total)


def _integer_shares(weight: np.ndarray, total: int) -> np.ndarray:
    """`total` in whole shares `[N]` int32 by largest remainder, ties to the lower slot."""
    exact = weight * (total / (weight.sum() or 1.0))
    share = np.floor(exact)
    left = int(total - share.sum()) if weight.any() else 0
    share[np.argsort(share - exact, kind="stable")[:left]] += 1
    return share.astype(np.int32)
