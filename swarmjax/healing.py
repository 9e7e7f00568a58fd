"""The policy that acts on alarms: members in trouble are replaced, or learn more slowly."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import anomaly, fitness
from swarmjax.policy import slots, stateless
from swarmjax.space import Range
from swarmjax.succession import take_over
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy


def heal(
    replace: Sequence[str] = ("nonfinite", "rise"),
    slow: Sequence[str] = ("spike",),
    *,
    factor: float = 0.5,
    gene: str = "learning_rate",
    fraction: float = 0.2,
    goal: fitness.Goal | None = None,
) -> Policy:
    """Treats members by the alarms of `frame.alarm`; the dead count as `nonfinite`.

    Healthy are those without any of the alarms named here; advisory ones are no reason not to be a
    parent. What earlier policies of the chain replaced is left alone. Where no healthy member is to
    be had, those to be replaced carry on, and the dead among them start fresh with new genes. A
    rule of this project.

    Args:
        replace: alarms that make a member start from one of the best healthy members.
        slow: alarms that multiply `gene` by `factor`, unless the member is replaced.
        factor: above 0 and below 1.
        gene: a range of the space; it stays within it.
        fraction: share of the healthy that parents are drawn from, at least one.
        goal: fitness, `fitness.default` unless given.
    """
    replaced_by, slowed_by = anomaly.bits(replace), anomaly.bits(slow)
    if not 0 < factor < 1:
        raise InputError(f"heal needs 0 < factor < 1, got {factor}")
    if not 0 < fraction <= 1:
        raise InputError(f"heal needs 0 < fraction <= 1, got {fraction}")
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        alarm = _alarms(frame)
        score = fitness.worst_if_dead(measure(frame), frame)
        own = (plan.parent == slots(frame)) & ~plan.fresh
        hit = own & (alarm & replaced_by != 0)
        healthy = alarm & (replaced_by | slowed_by) == 0
        plan = _replace(key, plan, frame, jnp.where(healthy, score, -jnp.inf), hit, fraction)
        calmed = own & ~hit & (alarm & slowed_by != 0)
        return _slow(plan, frame, calmed, gene, factor) if slowed_by else plan

    shown = "" if goal is None else f", goal={goal.__name__}"
    name = f"heal({tuple(replace)}, {tuple(slow)}, {factor=}, {gene=}, {fraction=}{shown})"
    return stateless(rule, name)


def _alarms(frame: Frame) -> jax.Array:
    """Alarms `[N]` of the last round, if there was one."""
    dead = jnp.where(frame.alive, 0, anomaly.bits(["nonfinite"]))
    return jnp.where(frame.round >= 1, jnp.asarray(frame.alarm) | dead, 0)


def _replace(key: Key, plan: Plan, frame: Frame, score: Array, hit: Array, fraction: float) -> Plan:
    """Starts those who are `hit` `[N]` from the best by `score` `[N]`, -inf where not healthy."""
    members = frame.alive.shape[0]
    parent_key, genome_key = jax.random.split(key)
    healthy = jnp.sum(score > -jnp.inf)
    parents = jnp.where(healthy > 0, jnp.maximum(1, jnp.floor(fraction * healthy)), 0)
    place = jnp.floor(jax.random.uniform(parent_key, (members,)) * parents).astype(jnp.int32)
    parent = jnp.argsort(fitness.ranks(score))[place].astype(jnp.int32)
    copied, reborn = hit & (parents > 0), hit & (parents == 0) & ~jnp.asarray(frame.alive)
    return take_over(genome_key, plan, frame, parent, copied, reborn)


def _slow(plan: Plan, frame: Frame, which: Array, gene: str, factor: float) -> Plan:
    if gene not in frame.space or not isinstance(limits := frame.space[gene], Range):
        raise InputError(
            f"heal lowers {gene!r}, which is no range of the space; name another or pass slow=()"
        )
    lowered = limits.clip(jnp.asarray(plan.genome[gene]) * np.float32(factor))
    values = jnp.where(which, lowered, plan.genome[gene])
    return plan._replace(genome=plan.genome | {gene: values})
