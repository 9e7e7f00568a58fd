"""Diversity: goals that reward being different, niches with a contest each, and lineages held down.

What counts as different is a `Distance`, a function from a Frame to `[N, N]`; `by_genes` unless
given. Whatever is rewarded, quality is not promised to rise.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import fitness, similarity
from swarmjax.fitness import Goal
from swarmjax.policy import slots, stateless
from swarmjax.space import Choice
from swarmjax.succession import take_over
from swarmjax.topology import deme_of
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy, namespace

Distance = Callable[[Frame], Array]


def by_genes(frame: Frame) -> Array:
    """Gower distance over all genes, `[N, N]`."""
    return similarity.genome_distance(frame.space, frame.genome)


def by_architecture(frame: Frame) -> Array:
    """Layers to edit, `[N, N]`: `similarity.architecture_edit`."""
    return similarity.architecture_edit(frame.space, frame.genome)


def by_outputs(frame: Frame) -> Array:
    """How differently members see the same examples, `[N, N]`: `similarity.cka`."""
    return similarity.cka(frame.descriptor)


def by_predictions(frame: Frame) -> Array:
    """Share of examples that two members put into different classes, `[N, N]`.

    Members that were not evaluated yet are alike.
    """
    if frame.descriptor.shape[-1] == 1:
        raise InputError(
            "by_predictions needs classes, and the members put out one number; take by_outputs"
        )
    xp = namespace(frame.descriptor)
    known = xp.where(xp.isfinite(frame.descriptor), frame.descriptor, 0.0)
    return similarity.disagreement(known.argmax(axis=-1), known.shape[-1])


def shared(goal: Goal, radius: float, distance: Distance = by_genes) -> Goal:
    """`goal` divided by how crowded a member's neighbourhood is: fitness sharing.

    The crowd is the sum of `1 - distance / radius` over the living within `radius`, oneself
    included. Where the goal of a living member is negative, the least of the living's is subtracted
    from all first, since dividing would reward crowds. Source: Goldberg and Richardson 1987,
    Genetic Algorithms with Sharing for Multimodal Function Optimization.
    """
    _refuse_limits("shared", goal)
    if not radius > 0:
        raise InputError(f"shared needs a radius > 0, got {radius}; Gower distances are at most 1")

    def measure(frame: Frame) -> Array:
        score, apart = goal(frame), distance(frame)
        xp = namespace(score, apart, frame.alive)
        known = xp.asarray(frame.alive) & xp.isfinite(score)
        near = xp.where(known[None, :], xp.maximum(0.0, 1.0 - apart / radius), 0.0)
        least = xp.minimum(xp.min(xp.where(known, score, 0.0)), 0.0)
        return (score - least) / xp.maximum(near.sum(axis=1), 1.0)

    measure.__name__ = f"shared({goal.__name__}, {radius}, {distance.__name__})"
    return measure


def novelty(
    k: int = 5, *, goal: Goal | None = None, weight: float = 1.0, distance: Distance = by_genes
) -> Goal:
    """Mean distance to the `k` nearest living others: novelty search, without an archive.

    With a `goal`, `goal + weight * novelty`. Source: Lehman and Stanley 2011, Abandoning
    Objectives: Evolution through the Search for Novelty Alone, Evolutionary Computation 19.

    Args:
        k: at least 1; fewer are taken where there are no more.
        goal: what novelty is added to; None: novelty alone.
        weight: of novelty beside it.
        distance: what counts as different.
    """
    _refuse_limits("novelty", goal)
    if k < 1:
        raise InputError(f"novelty needs k >= 1 neighbours, got {k}")

    def measure(frame: Frame) -> Array:
        apart = distance(frame)
        xp = namespace(apart, frame.alive)
        alive = xp.asarray(frame.alive)
        others = alive[None, :] & ~xp.eye(len(alive), dtype=bool)
        ordered = xp.sort(xp.where(others, apart, np.inf), axis=1)[:, :k]
        found = xp.isfinite(ordered)
        mean = xp.where(found, ordered, 0.0).sum(axis=1) / xp.maximum(found.sum(axis=1), 1)
        return mean if goal is None else goal(frame) + weight * mean

    named = "" if goal is None else f", goal={goal.__name__}, {weight=}"
    measure.__name__ = f"novelty({k}{named}, {distance.__name__})"
    return measure


def _refuse_limits(name: str, goal: Goal | None) -> None:
    """What a crowd or a distance changes would no longer put who breaks a limit behind the rest."""
    if hasattr(goal, "feasible"):
        raise InputError(f"{name} takes a goal without limits; put constrained around {name}")


def cells(frame: Frame, axes: tuple[str, ...], bins: int) -> jax.Array:
    """The cell `[N]` int32 of each member on a grid over `axes`.

    An axis is a gene, whose ranges are cut into `bins` and whose options are a bin each; `slot`,
    cut into blocks of neighbours, the demes of `topology.migrate`; or `cost`, `parameters` or
    `seconds`, cut into bins of equal ratio between the least and the most of the
    living. Cells by `seconds` differ from run to run, as measured times do.
    """
    index = jnp.zeros(frame.alive.shape[0], jnp.int32)
    for axis in axes:
        place, count = _bin(frame, axis, bins)
        index = index * count + place
    return index


def _bin(frame: Frame, axis: str, bins: int) -> tuple[jax.Array, int]:
    if axis in frame.space:
        gene = frame.space[axis]
        count = len(gene.options) if isinstance(gene, Choice) else bins
        unit = jnp.asarray(gene.encode(frame.genome[axis]))
    elif axis == "slot":
        return deme_of(frame.alive.shape[0], bins), bins
    elif axis in _AMOUNTS:
        count, amount = bins, jnp.asarray(getattr(frame, axis), jnp.float32)
        known = jnp.asarray(frame.alive) & (amount > 0)
        size = jnp.log(jnp.where(known, amount, 1.0))
        low = jnp.min(jnp.where(known, size, jnp.inf))
        wide = jnp.max(jnp.where(known, size, -jnp.inf)) - low
        unit = jnp.where(known & (wide > 0), (size - low) / jnp.where(wide > 0, wide, 1.0), 0.0)
    else:
        known = ", ".join((*dict(frame.space.genes), "slot", *_AMOUNTS))
        raise InputError(f"niches has no axis {axis!r}; known: {known}")
    return jnp.clip(jnp.floor(unit * count), 0, count - 1).astype(jnp.int32), count


# Cells are counted in int32.
_MOST_CELLS = 10**9
_AMOUNTS = ("cost", "parameters", "seconds")


def niches(*axes: str, bins: int = 4, fraction: float = 0.2, goal: Goal | None = None) -> Policy:
    """Exploitation within cells only, so that every cell keeps its best.

    After every round, in each cell of `cells`, the worst `fraction` and all dead start from a
    parent drawn from the cell's best `fraction`; both are at least one where the cell has two of
    known fitness. The dead of a cell without any start fresh with new genes. Source: the local
    competition of MAP-Elites, Mouret and Clune 2015, Illuminating Search Spaces by Mapping Elites
    (arXiv:1504.04909); here every member of a cell lives on, not its elite alone.

    Args:
        axes: at least one; two or more make the usual map. With `seconds` among them a run does
            not repeat to the bit.
        bins: cuts of a range or an amount, at least 1.
        fraction: above 0 and at most 0.5.
        goal: fitness, `fitness.default` unless given.
    """
    if not axes or not isinstance(bins, int) or not 1 <= bins ** len(axes) <= _MOST_CELLS:
        raise InputError(
            f"niches needs an axis, and bins that are a whole number >= 1 with at most "
            f"{_MOST_CELLS} cells, got axes {axes} and {bins} bins"
        )
    if not 0 < fraction <= 0.5:
        raise InputError(f"niches needs 0 < fraction <= 0.5, got {fraction}")
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        parent_key, genome_key = jax.random.split(key)
        score = fitness.worst_if_dead(measure(frame), frame)
        known, later = jnp.asarray(score > -jnp.inf), jnp.asarray(frame.round) >= 1
        cell = cells(frame, axes, bins)
        order, first, place = _ranked(cell, fitness.ranks(score))
        size = jnp.zeros(order.shape, jnp.int32).at[first].add(known.astype(jnp.int32))[first]
        count = jnp.where(size > 1, jnp.maximum(1, jnp.floor(fraction * size)), 0)
        worst = known & (place >= size - count)
        parents = jnp.maximum(count, jnp.minimum(size, 1))
        drawn = jnp.floor(jax.random.uniform(parent_key, order.shape) * parents)
        parent = order[jnp.minimum(first + drawn.astype(jnp.int32), order.shape[0] - 1)]
        losers = later & (worst | ~jnp.asarray(frame.alive))
        return take_over(
            genome_key, plan, frame, parent, losers & (size > 0),
            losers & (size == 0) & ~jnp.asarray(frame.alive),
        )  # fmt: skip

    named = "" if goal is None else f", goal={goal.__name__}"
    return stateless(rule, f"niches({', '.join(axes)}, {bins=}, {fraction=}{named})")


def _ranked(group: Array, rank: Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Members by group and then by rank, and of each where its group begins and its place in it."""
    order = jnp.lexsort((rank, group))
    ordered = jnp.asarray(group)[order]
    first = jnp.searchsorted(ordered, jnp.asarray(group)).astype(jnp.int32)
    place = jnp.argsort(order).astype(jnp.int32) - first
    return order.astype(jnp.int32), first, place


def lineage_cap(maximum: int, goal: Goal | None = None) -> Policy:
    """Lets no lineage take over slots beyond `maximum`; stands behind the policies that select.

    Children that would make their lineage own more go on from their own weights with their own
    genes, the worst parents' children first; the dead among them start fresh with new genes. A
    lineage that owns more already shrinks only as others take over from it. A rule of this project.

    Args:
        maximum: slots, at least 1.
        goal: fitness of the parents, `fitness.default` unless given.
    """
    if not isinstance(maximum, int) or maximum < 1:
        raise InputError(f"lineage_cap needs a maximum that is a whole number >= 1, got {maximum}")
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        own, alive = slots(frame), jnp.asarray(frame.alive)
        lineage = jnp.unique_inverse(jnp.asarray(frame.lineage), size=own.shape[0]).inverse_indices
        after = lineage[plan.parent]
        moving = (after != lineage) & ~plan.fresh
        rank = fitness.ranks(fitness.worst_if_dead(measure(frame), frame))[plan.parent]
        allowed = _admitted(lineage, after, moving, ~plan.fresh, rank, maximum)
        back = moving & ~allowed
        return take_over(key, plan, frame, own, back & alive, back & ~alive)

    named = "" if goal is None else f", goal={goal.__name__}"
    return stateless(rule, f"lineage_cap({maximum}{named})", "children")


def _admitted(
    lineage: Array, after: Array, moving: Array, heirs: Array, rank: Array, maximum: int
) -> jax.Array:
    """Which of those `moving` `[N]` may, so that no lineage grows beyond `maximum`.

    As long as a slot is not let go it counts for the lineage it has; letting some go makes room for
    others, until nothing changes.
    """
    members = lineage.shape[0]

    def admit(carry):
        allowed, _ = carry
        owner = jnp.where(allowed, after, lineage)
        count = jnp.zeros(members, jnp.int32).at[owner].add(heirs.astype(jnp.int32))
        waiting = moving & ~allowed
        group = jnp.where(waiting, after, members)
        _, _, place = _ranked(group, rank)
        more = waiting & (place < jnp.maximum(maximum - count, 0)[after])
        return allowed | more, jnp.any(more)

    begun = jnp.zeros(members, bool), jnp.asarray(True)
    return jax.lax.while_loop(lambda carry: carry[1], admit, begun)[0]
