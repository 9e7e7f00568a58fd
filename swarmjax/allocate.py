"""Policies that write `plan.steps`: how the round's quota is shared among the members.

A member is judged by the network it will start from (`plan.parent`), so an allocation may stand
before or after `exploit` in a chain. The dead get nothing; a living member whose fitness is not
known yet counts as an average one, which makes the first round uniform.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from swarmjax import fitness
from swarmjax.policy import stateless
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy

# Three times the scaled weights must fit in int32: see `integer_shares`.
_SCALE = 2.0**29


@jax.jit
def integer_shares(probabilities: Array, total: Array | int) -> jax.Array:
    """Splits `total` into whole shares `[N]` int32 that sum exactly to it, by largest remainder.

    Ties go to the lower slot, and a probability of 0 gets nothing; if all are 0, so is every
    share. Only integers are used after scaling (`weight * total / sum` by long division, one bit
    of `total` at a time), because float32 loses single steps from about 2**24 on.

    Args:
        probabilities: `[N]` non-negative, summing to 1 but for rounding, or all 0.
        total: `[]` below 2**31.
    """
    weight = jnp.round(jnp.asarray(probabilities, jnp.float32) * _SCALE).astype(jnp.int32)
    whole = jnp.maximum(jnp.sum(weight), 1)
    total = jnp.asarray(total, jnp.int32)

    def bring_down(i: jax.Array, carry: tuple[jax.Array, jax.Array]):
        share, rest = carry
        rest = 2 * rest + weight * ((total >> (30 - i)) & 1)
        return 2 * share + rest // whole, rest % whole

    zeros = jnp.zeros_like(weight)
    share, rest = jax.lax.fori_loop(0, 31, bring_down, (zeros, zeros))
    left = total - jnp.sum(share)
    return share + ((fitness.ranks(rest) < left) & (rest > 0))


def proportional(**weights: float) -> Policy:
    """Grants in proportion to a weighted fitness: `probability = fitness / sum(fitness)`.

    `proportional(accuracy=0.7, efficiency=0.3)`; terms as in `fitness.weighted`. Fitness below 0
    counts as 0. The rule is the plain roulette wheel (Holland 1975); since accuracies lie close
    together it is nearly uniform, `softmax` tells members apart.
    """
    goal = fitness.weighted(**weights)

    def probabilities(score: jax.Array, living: jax.Array) -> jax.Array:
        return _normalise(jnp.maximum(score, 0.0), living)

    given = ", ".join(f"{name}={weight}" for name, weight in weights.items())
    return _allocation(goal, probabilities, f"proportional({given})")


def softmax(
    temperature: float = 1.0, floor: float = 0.25, goal: fitness.Goal | None = None
) -> Policy:
    """Grants by the softmax of standardised fitness (Boltzmann selection, Goldberg 1990).

    Args:
        temperature: standard deviations of fitness per factor e of steps.
        floor: share of the quota that is split equally.
        goal: fitness, `fitness.default` unless given.
    """
    if not temperature > 0:
        raise InputError(f"softmax needs temperature > 0, got {temperature}")
    if not 0 <= floor <= 1:
        raise InputError(f"softmax needs a floor between 0 and 1, got {floor}")

    def probabilities(score: jax.Array, living: jax.Array) -> jax.Array:
        share = jnp.exp(_standardise(score, living) / temperature)
        equal = _normalise(jnp.zeros_like(score), living)
        return floor * equal + (1.0 - floor) * _normalise(share, living)

    shown = "" if goal is None else f", goal={goal.__name__}"
    name = f"softmax({temperature=}, {floor=}{shown})"
    return _allocation(goal or fitness.default, probabilities, name)


def uniform() -> Policy:
    """Grants the living equal steps."""
    return _allocation(lambda frame: jnp.zeros(frame.alive.shape), _normalise, "uniform()")


def _allocation(
    goal: fitness.Goal,
    probabilities: Callable[[jax.Array, jax.Array], jax.Array],
    name: str,
) -> Policy:
    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        del key
        score = fitness.worst_if_dead(goal(frame), frame)[plan.parent]
        score = jnp.where(plan.fresh, -jnp.inf, score)
        living = jnp.asarray(frame.alive)[plan.parent] | plan.fresh
        chance = probabilities(_fill_unknown(score), living)
        return plan._replace(steps=integer_shares(chance, frame.quota))

    return stateless(rule, name)


def _fill_unknown(score: jax.Array) -> jax.Array:
    """The mean of the known scores in place of -inf."""
    known = score > -jnp.inf
    count = jnp.maximum(jnp.sum(known), 1)
    return jnp.where(known, score, jnp.sum(jnp.where(known, score / count, 0.0)))


def _normalise(share: jax.Array, living: jax.Array) -> jax.Array:
    """Probabilities in proportion to `share`; equal ones if it says nothing; 0 for the dead."""
    share = jnp.where(living, share, 0.0)
    peak = jnp.max(share)
    # Dividing by the peak first keeps the sum of huge shares finite.
    share = jnp.where(peak > 0, share / jnp.where(peak > 0, peak, 1.0), living)
    return share / jnp.maximum(jnp.sum(share), 1.0)


def _standardise(score: jax.Array, living: jax.Array) -> jax.Array:
    """Score less its mean, in standard deviations of the living; at most 0 at the best."""
    count = jnp.maximum(jnp.sum(living), 1)
    # Scaled to at most 1 first: neither differences nor squares overflow.
    widest = jnp.max(jnp.where(living, jnp.abs(score), 0.0))
    score = jnp.where(living, score, 0.0) / jnp.where(widest > 0, widest, 1.0)
    spread = jnp.where(living, score - jnp.sum(score) / count, 0.0)
    deviation = jnp.sqrt(jnp.sum(spread**2) / count)
    z = spread / jnp.where(deviation > 0, deviation, 1.0)
    return jnp.where(living, z - jnp.max(jnp.where(living, z, -jnp.inf)), 0.0)
