"""Policies that write `plan.genome`: random, Sobol and grid search, and ways to explore."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import fitness
from swarmjax.dials import dial
from swarmjax.policy import children, generator, stateless
from swarmjax.space import Choice, Gene, Range
from swarmjax.types import Array, Frame, Genome, InputError, Key, Plan, Policy


def perturb(factor: float = 1.2, resample: float = 0.25) -> Policy:
    """Varies the genes of the members that take over another's weights: explore of PBT.

    A range gene is multiplied or divided by `factor`; one that reaches 0 or below moves by
    `factor - 1` of its width instead. Structural genes never change. Source: Jaderberg et al.
    2017, Population Based Training of Neural Networks, arXiv:1711.09846.

    Args:
        factor: above 1.
        resample: probability, per gene and member, of a new draw from the space instead; the only
            way for a choice to change.
    """
    if not 1 < factor < float("inf"):
        raise InputError(f"perturb needs a finite factor > 1, got {factor}")
    if not 0 <= resample <= 1:
        raise InputError(f"perturb needs a resample probability in [0, 1], got {resample}")

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        child, members = children(plan), frame.alive.shape[0]
        coin_key, sample_key = jax.random.split(key)
        # All coins in one draw: every generator in a program takes its time to compile.
        coins = jax.random.uniform(coin_key, (2, len(frame.space.genes), members))
        redraw, up = coins[0] < dial(frame, "perturb.resample", resample, 0.0, 1.0), coins[1] < 0.5
        by = dial(frame, "perturb.factor", factor, 1.0, 100.0)
        drawn = frame.space.sample(sample_key, members)
        genome = dict(plan.genome)
        for i, (name, gene) in enumerate(frame.space.genes):
            if not gene.structural:
                moved = _nudge(up[i], gene, genome[name], by)
                explored = jnp.where(redraw[i], drawn[name], moved)
                genome[name] = jnp.where(child, explored, genome[name])
        return plan._replace(genome=genome)

    return stateless(rule, f"perturb({factor=}, {resample=})", "children")


def resample(probability: float = 0.25) -> Policy:
    """Draws genes anew for the members that take over another's weights: explore of PBT.

    Structural genes never change. Source: Jaderberg et al. 2017, arXiv:1711.09846.

    Args:
        probability: per gene and member.
    """
    if not 0 <= probability <= 1:
        raise InputError(f"resample needs a probability in [0, 1], got {probability}")

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        child, members = children(plan), frame.alive.shape[0]
        chance = dial(frame, "resample.probability", probability, 0.0, 1.0)
        coin_key, sample_key = jax.random.split(key)
        coins = jax.random.uniform(coin_key, (len(frame.space.genes), members))
        drawn, genome = frame.space.sample(sample_key, members), dict(plan.genome)
        for i, (name, gene) in enumerate(frame.space.genes):
            if not gene.structural:
                redraw = child & (coins[i] < chance)
                genome[name] = jnp.where(redraw, drawn[name], genome[name])
        return plan._replace(genome=genome)

    return stateless(rule, f"resample({probability=})", "children")


def differential(
    scale: float = 0.5, crossover: float = 0.9, goal: fitness.Goal | None = None
) -> Policy:
    """Moves the genes of the members that take over another's weights as the swarm is spread.

    Differential evolution (DE/current-to-best/1/bin) in the unit cube of the space: a child's gene
    `x` becomes `x + scale * (best - x) + scale * (b - c)`, reflected at the bounds, where `b` and
    `c` are the genes of two living members drawn at random. A choice becomes the best's with
    probability `scale`, then that of `b`, where `b` and `c` differ, with the same. Structural genes
    never change; nor does anything with fewer than three living. Source: Storn and Price 1997,
    Differential Evolution, J. Global Optimization 11.

    Args:
        scale: above 0 and at most 2.
        crossover: probability that a gene moves; one of a child's genes always does.
        goal: decides who is the best, `fitness.default` unless given.
    """
    if not 0 < scale <= 2:
        raise InputError(f"differential needs 0 < scale <= 2, got {scale}")
    if not 0 <= crossover <= 1:
        raise InputError(f"differential needs a crossover in [0, 1], got {crossover}")
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        pair_key, coin_key = jax.random.split(key)
        child = children(plan) & (jnp.sum(frame.alive) >= 3)
        best = jnp.argmax(fitness.worst_if_dead(measure(frame), frame))
        donors = jnp.stack([jnp.broadcast_to(best, child.shape), *_two_others(pair_key, frame)])
        free = [(name, gene) for name, gene in frame.space.genes if not gene.structural]
        coins = jax.random.uniform(coin_key, (3, len(free) + 1, child.shape[0]))
        sure = jnp.floor(coins[0, -1] * len(free))
        genome = dict(plan.genome)
        for i, (name, gene) in enumerate(free):
            moving = child & ((coins[0, i] < crossover) | (sure == i))
            given, old = jnp.asarray(frame.genome[name])[donors], genome[name]
            moved = _differ(gene, jnp.asarray(old), given, scale, coins[1:, i])
            genome[name] = jnp.where(moving, moved, old)
        return plan._replace(genome=genome)

    shown = "" if goal is None else f", goal={goal.__name__}"
    return stateless(rule, f"differential({scale=}, {crossover=}{shown})", "children")


def random() -> Policy:
    """Draws every gene but the structural ones at random before the first round.

    Source: Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization, JMLR 13.
    """

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        drawn = frame.space.sample(key, frame.alive.shape[0])
        free = {name: drawn[name] for name, gene in frame.space.genes if not gene.structural}
        return _write_first(free, plan, frame)

    return stateless(rule, "random()")


def sobol(structural: bool = False) -> Policy:
    """Spreads genes as a scrambled Sobol sequence before the first round: fewer gaps than random.

    Runs on the host. Source: Sobol 1967, scrambled after Owen 1998; `scipy.stats.qmc`.

    Args:
        structural: write the structural genes too.
    """

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        if frame.round > 0:
            return plan
        free = [(n, gene) for n, gene in frame.space.genes if structural or not gene.structural]
        # Drawn by powers of two, for which alone the sequence is balanced.
        points = _sobol(generator(key), len(free), frame.alive.shape[0])
        drawn: Genome = {name: gene.decode(points[:, i]) for i, (name, gene) in enumerate(free)}
        return plan._replace(genome=plan.genome | drawn)

    policy = stateless(rule, f"sobol({structural=})", host=True)
    return policy._replace(writes=frozenset(("genome",)))


def grid() -> Policy:
    """Spreads the swarm evenly over the grid of all genes before the first round: `Space.grid`.

    What random search is compared with in Bergstra and Bengio 2012, JMLR 13.
    """

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        del key
        return _write_first(frame.space.grid(frame.alive.shape[0]), plan, frame)

    return stateless(rule, "grid()")


def _write_first(values: Genome, plan: Plan, frame: Frame) -> Plan:
    first = jnp.asarray(frame.round) == 0
    written = {name: jnp.where(first, new, plan.genome[name]) for name, new in values.items()}
    return plan._replace(genome=plan.genome | written)


def _nudge(up: jax.Array, gene: Gene, value: Array, factor: Any) -> Array:
    if not isinstance(gene, Range):
        return value
    value = jnp.asarray(value)
    if gene.low > 0:
        return gene.clip(jnp.where(up, value * factor, value / factor))
    return gene.clip(value + jnp.where(up, 1.0, -1.0) * (factor - 1.0) * (gene.high - gene.low))


def _sobol(rng: np.random.Generator, genes: int, members: int) -> np.ndarray:
    """The first points `[N, G]` of a scrambled Sobol sequence."""
    # Imported here: it takes longer than all else that a policy needs.
    from scipy.stats import qmc

    if not genes:
        return np.zeros((members, 0), np.float32)
    draw = qmc.Sobol(genes, rng=rng).random_base2(max(members - 1, 0).bit_length())
    return draw[:members].astype(np.float32)


def _two_others(key: Key, frame: Frame) -> tuple[jax.Array, jax.Array]:
    """Two different living members other than oneself, `[N]` each, if there are three."""
    alive = jnp.asarray(frame.alive)
    # Neighbours on a random ring of the living: no draw must be rejected.
    order = jnp.argsort(jnp.where(alive, jax.random.uniform(key, alive.shape), 2.0), stable=True)
    place = jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0], dtype=order.dtype))
    count = jnp.maximum(jnp.sum(alive), 1)
    return order[(place + 1) % count], order[(place + 2) % count]


def _differ(gene: Gene, value: Array, donors: Array, scale: float, coins: Array) -> Array:
    """`value` `[N]` moved by those of the best and two others, `donors` `[3, N]`."""
    best, first, second = donors
    if isinstance(gene, Choice):
        value = jnp.where(coins[0] < scale, best, value)
        return jnp.where((coins[1] < scale) & (first != second), first, value)
    unit, best, first, second = (gene.encode(x) for x in (value, best, first, second))
    moved = jnp.mod(unit + scale * (best - unit) + scale * (first - second), 2.0)
    return gene.decode(jnp.minimum(moved, 2.0 - moved))
