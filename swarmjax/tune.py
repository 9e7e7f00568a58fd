"""Policies that write `plan.genome`: random search, grid search and PBT's explore."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from swarmjax.policy import slots, stateless
from swarmjax.space import Gene, Range
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
        own = slots(frame)
        child = (plan.parent != own) & ~plan.fresh
        coin_key, sample_key = jax.random.split(key)
        # All coins in one draw: every generator in a program takes its time to compile.
        coins = jax.random.uniform(coin_key, (2, len(frame.space.genes), own.shape[0]))
        redraw, up = coins[0] < resample, coins[1] < 0.5
        drawn = frame.space.sample(sample_key, own.shape[0])
        genome = dict(plan.genome)
        for i, (name, gene) in enumerate(frame.space.genes):
            if not gene.structural:
                moved = _nudge(up[i], gene, genome[name], factor)
                explored = jnp.where(redraw[i], drawn[name], moved)
                genome[name] = jnp.where(child, explored, genome[name])
        return plan._replace(genome=genome)

    return stateless(rule, f"perturb({factor=}, {resample=})")


def random() -> Policy:
    """Draws every gene but the structural ones at random before the first round.

    Source: Bergstra and Bengio 2012, Random Search for Hyper-Parameter Optimization, JMLR 13.
    """

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        drawn = frame.space.sample(key, frame.alive.shape[0])
        free = {name: drawn[name] for name, gene in frame.space.genes if not gene.structural}
        return _write_first(free, plan, frame)

    return stateless(rule, "random()")


def grid() -> Policy:
    """Spreads the swarm evenly over the grid of all genes before the first round: `Space.grid`."""

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        del key
        return _write_first(frame.space.grid(frame.alive.shape[0]), plan, frame)

    return stateless(rule, "grid()")


def _write_first(values: Genome, plan: Plan, frame: Frame) -> Plan:
    first = jnp.asarray(frame.round) == 0
    written = {name: jnp.where(first, new, plan.genome[name]) for name, new in values.items()}
    return plan._replace(genome=plan.genome | written)


def _nudge(up: jax.Array, gene: Gene, value: Array, factor: float) -> Array:
    if not isinstance(gene, Range):
        return value
    value = jnp.asarray(value)
    if gene.low > 0:
        return gene.clip(jnp.where(up, value * factor, value / factor))
    return gene.clip(value + jnp.where(up, 1.0, -1.0) * (factor - 1.0) * (gene.high - gene.low))
