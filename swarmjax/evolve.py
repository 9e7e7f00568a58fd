"""Selection: policies that write `plan.parent`, whose weights a member goes on from.

All do nothing before the first round, leave a living member of unknown fitness alone, replace the
dead, and break ties by slot. With no parent to be had, the dead start fresh with new genes.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from swarmjax import extremes, fitness
from swarmjax.dials import dial
from swarmjax.policy import children, stateless
from swarmjax.space import Choice
from swarmjax.succession import take_over
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy


def exploit(
    fraction: float = 0.2, goal: fitness.Goal | None = None, structure: str = "inherit"
) -> Policy:
    """Truncation selection: the worst take over the weights and genes of the best.

    After every round the worst `fraction` of the swarm and every dead member start from a parent
    drawn from the living best `fraction`. Source: Jaderberg et al. 2017, Population Based Training
    of Neural Networks, arXiv:1711.09846.

    Args:
        fraction: above 0 and at most 0.5; at least one member is replaced if there are two.
        goal: fitness, `fitness.default` unless given.
        structure: `inherit`: the child takes all genes of its parent; `keep`: it keeps its own
            structural genes, and the weights are fitted to them.
    """
    if not 0 < fraction <= 0.5:
        raise InputError(f"exploit needs 0 < fraction <= 0.5, got {fraction}")
    if structure not in ("inherit", "keep"):
        raise InputError(f"structure must be 'inherit' or 'keep', got {structure!r}")
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        parent_key, genome_key = jax.random.split(key)
        score = fitness.worst_if_dead(measure(frame), frame)
        members = score.shape[0]
        share = dial(frame, "exploit.fraction", fraction, 1e-6, 0.5)
        parent, copied = _truncate(parent_key, score, frame, _count(share, members))
        return _succeed(genome_key, plan, frame, score, parent, copied, structure)

    return stateless(rule, f"exploit({fraction=}{_shown(goal)}, {structure=})")


# Of a tournament: whoever draws more draws everyone.
_LARGEST = 1024


def tournament(size: int = 3, fraction: float = 0.2, goal: fitness.Goal | None = None) -> Policy:
    """Tournament selection: the worst take over the best of a few, if it is better.

    After every round the worst `fraction` of the swarm and every dead member draw `size` others at
    random and start from the best of them. A smaller `size` keeps more lineages. Source: Goldberg
    and Deb 1991, A Comparative Analysis of Selection Schemes Used in Genetic Algorithms.

    Args:
        size: at least 1; one may be drawn twice.
        fraction: as in `exploit`, but up to 1.
        goal: as in `exploit`.
    """
    _check_size("tournament", size)
    _check_fraction("tournament", fraction)
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        parent_key, genome_key = jax.random.split(key)
        score = fitness.worst_if_dead(measure(frame), frame)
        rank, known = fitness.ranks(score), score > -jnp.inf
        parent, found = _winner(parent_key, score, size)
        worst = known & (rank >= rank.shape[0] - _count(fraction, rank.shape[0]))
        copied = found & (worst & (rank[parent] < rank) | ~jnp.asarray(frame.alive))
        return _succeed(genome_key, plan, frame, score, parent, copied)

    return stateless(rule, f"tournament({size=}, {fraction=}{_shown(goal)})")


def binary(margin: float = 0.0, goal: fitness.Goal | None = None) -> Policy:
    """Binary tournament: every member takes over a random other one that is better.

    The dead take over whomever they draw. Source: Jaderberg et al. 2017, Population Based Training
    of Neural Networks, arXiv:1711.09846.

    Args:
        margin: by how much the other's fitness must exceed one's own, at least 0.
        goal: as in `exploit`.
    """
    if not 0 <= margin < float("inf"):
        raise InputError(f"binary needs a finite margin >= 0, got {margin}")
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        parent_key, genome_key = jax.random.split(key)
        score = fitness.worst_if_dead(measure(frame), frame)
        known = score > -jnp.inf
        parent, found = _winner(parent_key, score, 1)
        beaten = known & (score[parent] > score + margin)
        copied = found & (beaten | ~jnp.asarray(frame.alive))
        return _succeed(genome_key, plan, frame, score, parent, copied)

    return stateless(rule, f"binary({margin=}{_shown(goal)})")


def regularised(
    fraction: float = 0.1,
    size: int = 8,
    mutation: float = 1.0,
    goal: fitness.Goal | None = None,
) -> Policy:
    """Ageing evolution: the oldest die, and children of tournament winners take their slots.

    After every round the `fraction` of the swarm that was born first and every dead member draw
    `size` others and start from the best of them, one structural gene moved to a neighbouring
    option; weights are fitted to the new size where the family can. A good network stays only by
    its descendants. Source: Real et al. 2019, Regularized Evolution for Image Classifier
    Architecture Search, arXiv:1802.01548, whose children start from new weights instead.

    Args:
        fraction: as in `tournament`; at least one member dies if there are two.
        size: at least 1; one may be drawn twice.
        mutation: probability that a child's structure changes.
        goal: as in `exploit`.
    """
    _check_fraction("regularised", fraction)
    _check_size("regularised", size)
    _check_probability("regularised", "mutation", mutation)
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        parent_key, genome_key, structure_key = jax.random.split(key, 3)
        score = fitness.worst_if_dead(measure(frame), frame)
        known = score > -jnp.inf
        parent, found = _winner(parent_key, score, size)
        born = jnp.where(known, jnp.asarray(frame.birth), jnp.iinfo(jnp.int32).max)
        oldest = jnp.argsort(born, stable=True)[: _count(fraction, born.shape[0])]
        old = known & jnp.zeros(known.shape, bool).at[oldest].set(True)
        copied = found & (old | ~jnp.asarray(frame.alive))
        after = _succeed(genome_key, plan, frame, score, parent, copied)
        return _move_structure(structure_key, after, frame, copied & children(after), mutation)

    name = f"regularised({fraction=}, {size=}, {mutation=}{_shown(goal)})"
    return stateless(rule, name)


def mutate_structure(probability: float = 0.1) -> Policy:
    """Changes the architecture of some members that take over another's weights.

    One structural gene, drawn at random, moves to a neighbouring option; weights are fitted to the
    new size where the family can. Order the options of a gene so that neighbours are alike. Source:
    the mutations of Real et al. 2019, arXiv:1802.01548; weights are kept as in Net2Net, Chen et al.
    2016, arXiv:1511.05641.

    Args:
        probability: per member.
    """
    _check_probability("mutate_structure", "probability", probability)

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        return _move_structure(key, plan, frame, children(plan), probability)

    return stateless(rule, f"mutate_structure({probability=})", "children")


def _succeed(
    key: Key,
    plan: Plan,
    frame: Frame,
    score: Array,
    parent: Array,
    copied: Array,
    structure: str = "inherit",
) -> Plan:
    """After the first round the `copied` `[N]` start from `parent` `[N]`, with its genes.

    The dead start from new weights with new genes if no score is known.
    """
    later = jnp.asarray(frame.round) >= 1
    copied, unknown = later & copied, ~jnp.any(score > -jnp.inf)
    reborn = later & ~jnp.asarray(frame.alive) & unknown
    kept = frame.space.structural if structure == "keep" else ()
    return take_over(key, plan, frame, parent, copied, reborn, kept)


def _truncate(key: Key, score: Array, frame: Frame, count: Array) -> tuple[jax.Array, jax.Array]:
    """A drawn parent for each slot, and who takes it: each `[N]`; `count` `[]` lose, or win."""
    known = jnp.asarray(score) > -jnp.inf
    # The unknown are worse than everyone else.
    left = jnp.maximum(count - jnp.sum(~known), 0)
    worst = known & extremes.lowest(jnp.where(known, score, jnp.inf), left)
    losers = worst | ~jnp.asarray(frame.alive)
    parents = jnp.minimum(count, jnp.sum(known))
    best = extremes.slots_of(extremes.highest(score, parents))
    # Scaled rather than by `randint`, whose generators compile four times as long.
    place = jnp.floor(jax.random.uniform(key, score.shape) * parents).astype(jnp.int32)
    return best[place], losers & (parents > 0)


def _winner(key: Key, score: Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The best of `size` others drawn for each slot, and whether there is any: each `[N]`."""
    rank, known = fitness.ranks(score), jnp.asarray(score) > -jnp.inf
    others = jnp.sum(known) - known.astype(jnp.int32)
    # The known rank first. Scaled rather than by `randint`, as above.
    draws = jnp.floor(jax.random.uniform(key, (size, rank.shape[0])) * others[None])
    draws = draws.astype(jnp.int32)
    place = jnp.min(draws + (known[None] & (draws >= rank[None])), axis=0)
    order = rank.at[rank].set(jnp.arange(rank.shape[0], dtype=jnp.int32))
    return order[place], others > 0


def _move_structure(key: Key, plan: Plan, frame: Frame, who: Array, probability: float) -> Plan:
    """Moves a random structural gene of each of `who` `[N]` one option on, with `probability`."""
    genes = [(n, g) for n, g in frame.space.genes if isinstance(g, Choice) and g.structural]
    genes = [(name, len(gene.options)) for name, gene in genes if len(gene.options) > 1]
    coin, which, up = jax.random.uniform(key, (3, *who.shape))
    index = jnp.floor(which * len(genes)).astype(jnp.int32)
    genome, step = dict(plan.genome), jnp.where(up < 0.5, -1, 1)
    for i, (name, options) in enumerate(genes):
        old = jnp.asarray(genome[name])
        new = jnp.where((old + step < 0) | (old + step >= options), old - step, old + step)
        genome[name] = jnp.where(who & (coin < probability) & (index == i), new, old)
    return plan._replace(genome=genome)


def _count(fraction: Any, members: int) -> Any:
    """How many members a fraction of the swarm is; at least one if there are two."""
    if isinstance(fraction, float | int):
        return max(1, int(fraction * members)) if members > 1 else 0
    return jnp.maximum(1, jnp.floor(fraction * members)).astype(jnp.int32) * (members > 1)


def _shown(goal: fitness.Goal | None) -> str:
    return "" if goal is None else f", goal={goal.__name__}"


def _check_fraction(name: str, fraction: float) -> None:
    if not 0 < fraction <= 1:
        raise InputError(f"{name} needs 0 < fraction <= 1, got {fraction}")


def _check_size(name: str, size: int) -> None:
    if not isinstance(size, int) or isinstance(size, bool) or not 1 <= size <= _LARGEST:
        raise InputError(
            f"{name} needs a size that is a whole number from 1 to {_LARGEST}, got {size!r}"
        )


def _check_probability(name: str, field: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{name} needs a {field} in [0, 1], got {value}")
