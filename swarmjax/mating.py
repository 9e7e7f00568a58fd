"""Policies that write `plan.mate` and `plan.operator`: children of two parents, and mutations."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import fitness
from swarmjax.crossover import OF_TWO, OF_UNITS, OPERATORS
from swarmjax.policy import children, stateless
from swarmjax.space import Choice, Space
from swarmjax.types import Array, Frame, Genome, InputError, Key, Plan, Policy, namespace

MATES = ("lineage", "any")


def breed(
    operator: str = "average",
    probability: float = 0.5,
    mates: str = "lineage",
    genes: bool = True,
    goal: fitness.Goal | None = None,
) -> Policy:
    """Gives children a second parent: stands after `exploit` in a chain.

    Of the members that take over another's weights, some combine them with those of a mate: the
    best other network of the parent's own lineage, or a network drawn from the living best fifth.
    Unrelated networks do not average well (see Ainsworth et al. 2023, arXiv:2209.04836), so without
    a mate of the lineage the child has one parent.

    Args:
        operator: one of `crossover.OPERATORS` that takes two parents; `union` makes the child as
            wide as both together, as far as the space goes, and narrows it to that; `clone` takes
            genes alone from the mate. `aligned` and `union` are for the model mlp.
        probability: of a child to have a mate.
        mates: `lineage` or `any`.
        genes: whether each gene that does not shape the network comes from either parent.
        goal: fitness, `fitness.default` unless given.

    Raises:
        InputError: an argument is none of these.
    """
    _check_choice("breed", "operator", operator, ("clone", *sorted(OF_TWO)))
    _check_choice("breed", "mates", mates, MATES)
    _check_probability("breed", probability)
    measure, number = goal or fitness.default, OPERATORS.index(operator)

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        score = jnp.asarray(fitness.worst_if_dead(measure(frame), frame))
        coins = jax.random.uniform(key, (2 + len(plan.genome), len(frame.alive)))
        mate = _mate(mates, coins[0], plan.parent, score, frame)
        child = children(plan) & (coins[1] < probability)
        child &= (mate != plan.parent) & (score[mate] > -jnp.inf)
        genome = _crossed(coins[2:], plan, frame, mate, child) if genes else dict(plan.genome)
        if operator == "union":
            wider = widened(frame.space, frame.genome, plan.parent, mate)
            genome |= {name: jnp.where(child, index, genome[name]) for name, index in wider.items()}
        return plan._replace(
            mate=jnp.where(child, mate, plan.mate),
            operator=jnp.where(child, number, plan.operator),
            genome=genome,
        )

    shown = "" if goal is None else f", goal={goal.__name__}"
    needs = ("children", "units") if operator in OF_UNITS else ("children",)
    return stateless(rule, f"breed({operator=}, {probability=}, {mates=}, {genes=}{shown})", *needs)


def mutate(operator: str = "noise", probability: float = 0.5) -> Policy:
    """Changes the weights that children take over: stands after `exploit` in a chain.

    Source: shrink and perturb of Ash and Adams 2020, arXiv:1910.08475; `noise` is the Gaussian
    mutation of evolution strategies (Rechenberg 1973).

    Args:
        operator: `noise` (Gaussian), `perturb` (shrink and perturb) or `shrink`.
        probability: of a child to be changed; one that has a mate is left alone.

    Raises:
        InputError: an argument is none of these.
    """
    _check_choice("mutate", "operator", operator, ("noise", "perturb", "shrink"))
    _check_probability("mutate", probability)
    number = OPERATORS.index(operator)

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        child = children(plan) & (plan.operator == 0)
        child &= jax.random.uniform(key, child.shape) < probability
        return plan._replace(operator=jnp.where(child, number, plan.operator))

    return stateless(rule, f"mutate({operator=}, {probability=})", "children")


def _mate(mates: str, coin: jax.Array, parent: Array, score: jax.Array, frame: Frame) -> jax.Array:
    """Whom a child of each `parent` `[N]` has as a mate; the parent itself: nobody."""
    if mates == "lineage":
        return _best_relative(parent, score, frame)
    return _good_other(coin, parent, score)


def _best_relative(parent: Array, score: jax.Array, frame: Frame) -> jax.Array:
    """The best other network of each parent's lineage `[N]`; the parent where it has none."""
    rank, lineage = fitness.ranks(score), jnp.asarray(frame.lineage)
    order = jnp.lexsort((rank, lineage))
    family = lineage[order]
    first = jnp.searchsorted(family, lineage[parent])
    best = order[first]
    next_best = order[jnp.minimum(first + 1, len(order) - 1)]
    second = jnp.where(lineage[next_best] == lineage[parent], next_best, parent)
    return jnp.where(best == parent, second, best).astype(jnp.int32)


def _good_other(coin: jax.Array, parent: Array, score: jax.Array) -> jax.Array:
    """A network other than the parent `[N]`, drawn from the living best fifth."""
    rank = fitness.ranks(score)
    order = jnp.zeros_like(rank).at[rank].set(jnp.arange(len(rank), dtype=jnp.int32))
    fifth = max(2, len(rank) // 5)
    count = jnp.clip(jnp.sum(score > -jnp.inf), 1, fifth)
    # Those who rank above all that may be drawn have one more to choose from.
    among = jnp.maximum(count - (rank[parent] < count), 1)
    place = jnp.floor(coin * among).astype(jnp.int32)
    place = place + (place >= rank[parent])
    return order[jnp.minimum(place, len(rank) - 1)]


def _crossed(coins: jax.Array, plan: Plan, frame: Frame, mate: Array, child: Array) -> Genome:
    genome = dict(plan.genome)
    for i, (name, gene) in enumerate(frame.space.genes):
        if not gene.structural:
            theirs = jnp.asarray(frame.genome[name])[mate]
            genome[name] = jnp.where(child & (coins[i] < 0.5), theirs, genome[name])
    return genome


def widened(space: Space, genome: Genome, parent: Array, mate: Array) -> Genome:
    """The gene `width` of children that hold both parents, as wide as the space allows.

    Args:
        space: where it has no such structural gene, there is nothing to widen.
        genome: of the parents' swarm.
        parent: `[n]` slots of one parent.
        mate: `[n]` slots of the other.
    """
    gene = space["width"] if "width" in space else None
    if not isinstance(gene, Choice) or not gene.structural:
        return {}
    xp, widths = namespace(genome["width"], parent), np.asarray(gene.options, np.int32)
    own = xp.asarray(widths)[xp.asarray(genome["width"])]
    wanted = own[parent] + own[mate]
    order = np.argsort(widths, kind="stable")
    place = xp.searchsorted(xp.asarray(widths[order]), wanted)
    return {"width": xp.asarray(order, np.int32)[xp.minimum(place, len(widths) - 1)]}


def _check_choice(policy: str, name: str, value: str, known) -> None:
    if value not in known:
        raise InputError(f"{policy} needs {name} to be one of {', '.join(known)}; got {value!r}")


def _check_probability(policy: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InputError(f"{policy} needs a probability between 0 and 1, got {value}")
