"""Policies that write `plan.steps`: how the round's quota is shared among the members.

A member is judged by the network it will start from (`plan.parent`), so an allocation may stand
before or after `exploit` in a chain. The dead get nothing; a living member whose fitness is not
known yet counts as an average one, which makes the first round uniform. Their numbers are dials,
called after them, such as `softmax.temperature`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from swarmjax import extremes, fitness
from swarmjax.dials import dial
from swarmjax.policy import stateless
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy

# Three times the scaled weights must fit in int32: see `integer_shares`.
_SCALE = 2.0**29

# More devices than any host has.
_ALL = 2**20

# Too little to be granted a step, but more than nothing where what a cap cuts off must go.
_NOTHING = 1e-12
_ROUNDING = 1.0 + 1e-6


@jax.jit
def integer_shares(probabilities: Array, total: Array | int) -> jax.Array:
    """Splits `total` into whole shares `[N]` int32 that sum exactly to it, by largest remainder.

    Ties go to the lower slot, and a probability of 0 gets nothing; if all are 0, so is every
    share. Only integers are used after scaling (`weight * total / sum` by long division, one bit
    of `total` at a time), because float32 loses single steps from about 2**24 on. Probabilities are
    rounded to 2**-29, which may move a step or two of a remainder.

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
        # It is less than three wholes: comparing takes less time than dividing.
        more = (rest >= whole).astype(jnp.int32) + (rest >= 2 * whole)
        return 2 * share + more, rest - more * whole

    zeros = jnp.zeros_like(weight)
    share, rest = jax.lax.fori_loop(0, 31, bring_down, (zeros, zeros))
    left = total - jnp.sum(share)
    return share + (extremes.largest(rest, left) & (rest > 0))


def proportional(goal: fitness.Goal | None = None, /, **weights: float) -> Policy:
    """Grants in proportion to a weighted fitness: `probability = fitness / sum(fitness)`.

    `proportional(accuracy=0.7, efficiency=0.3)`; terms as in `fitness.weighted`, or any other goal
    in their place. Fitness below 0 counts as 0. The rule is the plain roulette wheel (Holland
    1975); since accuracies lie close together it is nearly uniform, `softmax` tells members apart.
    """
    if goal is not None and weights:
        raise InputError("proportional takes a goal or weights, got both; put them into the goal")
    measure = fitness.weighted(**weights) if goal is None else goal

    def probabilities(frame: Frame, score: jax.Array, living: jax.Array) -> jax.Array:
        del frame
        return normalise(jnp.maximum(score, 0.0), living)

    given = ", ".join(f"{name}={weight}" for name, weight in weights.items())
    return _allocation(measure, probabilities, f"proportional({given or fitness.name_of(measure)})")


def softmax(
    temperature: float = 1.0,
    floor: float = 0.25,
    goal: fitness.Goal | None = None,
    cap: float = 16.0,
) -> Policy:
    """Grants by the softmax of standardised fitness (Boltzmann selection, Goldberg 1990).

    Args:
        temperature: standard deviations of fitness per factor e of steps.
        floor: share of the quota that is split equally.
        goal: fitness, `fitness.default` unless given.
        cap: no member gets more than so many times the mean of the living, since nobody trains
            beside the last one of a round.
    """
    if not 1e-3 <= temperature <= 1e3:
        raise InputError(f"softmax needs a temperature from 0.001 to 1000, got {temperature}")
    check_floor("softmax", floor, cap)

    def probabilities(frame: Frame, score: jax.Array, living: jax.Array) -> jax.Array:
        heat = dial(frame, "softmax.temperature", temperature, 1e-3, 1e3)
        share = normalise(jnp.exp(_standardise(score, living) / heat), living)
        return with_floor(share, living, dial(frame, "softmax.floor", floor, 0.0, 1.0), cap)

    name = f"softmax({temperature=}, {floor=}, {cap=}{shown(goal)})"
    return _allocation(goal or fitness.default, probabilities, name)


def rank(pressure: float = 1.5, goal: fitness.Goal | None = None) -> Policy:
    """Grants that fall linearly from the best to the worst; equals get equal grants.

    Source: Baker 1985, Adaptive Selection Methods for Genetic Algorithms, ICGA.

    Args:
        pressure: grant of the best, in means; the worst gets `2 - pressure`. From 1 to 2.
        goal: fitness, `fitness.default` unless given.
    """
    if not 1 <= pressure <= 2:
        raise InputError(f"rank needs a pressure between 1 and 2, got {pressure}")

    def probabilities(frame: Frame, score: jax.Array, living: jax.Array) -> jax.Array:
        steep = dial(frame, "rank.pressure", pressure, 1.0, 2.0)
        ordered = jnp.sort(jnp.where(living, score, -jnp.inf))
        below = jnp.searchsorted(ordered, score, side="left") - jnp.sum(~living)
        upto = jnp.searchsorted(ordered, score, side="right") - jnp.sum(~living)
        # The mean place of its equals, from 0 for the worst to 1 for the best.
        place = (below + upto - 1) / 2 / jnp.maximum(jnp.sum(living) - 1, 1)
        return normalise(2.0 - steep + 2.0 * (steep - 1.0) * place, living)

    return _allocation(goal or fitness.default, probabilities, f"rank({pressure=}{shown(goal)})")


def uniform() -> Policy:
    """Grants the living equal steps, as random search and PBT do (Bergstra and Bengio 2012)."""

    def probabilities(frame: Frame, score: jax.Array, living: jax.Array) -> jax.Array:
        del frame
        return normalise(score, living)

    policy = _allocation(lambda frame: jnp.zeros(frame.alive.shape), probabilities, "uniform()")
    return policy._replace(even=True)


def devices(top: int = 1, each: int | None = None, goal: fitness.Goal | None = None) -> Policy:
    """Lets several devices share the batch of the `top` fittest members; all others have one.

    Data parallelism for some of a population is a rule of this project.

    Args:
        top: how many members, at least 1; ties go to the lower slot.
        each: devices for each of them, at least 1; None for all there are.
        goal: fitness, `fitness.default` unless given.
    """
    for name, value in (("top", top), ("each", each)):
        if value is not None and (not isinstance(value, int) or not 1 <= value < 2**31):
            raise InputError(
                f"devices needs {name} to be a whole number from 1 to 2**31 - 1, got {value!r}"
            )
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        del key
        score, _ = standing(measure, plan, frame)
        chosen = (fitness.ranks(score) < top) & (score > -jnp.inf)
        wanted = min(each or _ALL, _ALL)
        return plan._replace(devices=jnp.where(chosen, wanted, 1).astype(jnp.int32))

    return stateless(rule, f"devices({top=}, {each=}{shown(goal)})")


def standing(goal: fitness.Goal, plan: Plan, frame: Frame) -> tuple[jax.Array, jax.Array]:
    """Fitness `[N]`, -inf where unknown, of the networks that `plan` leaves; and who will live."""
    score = jnp.asarray(fitness.worst_if_dead(goal(frame), frame))[plan.parent]
    living = jnp.asarray(frame.alive)[plan.parent] | plan.fresh
    return jnp.where(plan.fresh, -jnp.inf, score), living


def shown(goal: fitness.Goal | None) -> str:
    """A goal that was given, as it stands in a policy's name."""
    return "" if goal is None else f", goal={fitness.name_of(goal)}"


def _allocation(
    goal: fitness.Goal,
    probabilities: Callable[[Frame, jax.Array, jax.Array], jax.Array],
    name: str,
) -> Policy:
    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        del key
        score, living = standing(goal, plan, frame)
        chance = probabilities(frame, fill_unknown(score), living)
        return plan._replace(steps=integer_shares(chance, frame.quota))

    return stateless(rule, name)


def fill_unknown(score: jax.Array) -> jax.Array:
    """The mean of the known scores in place of -inf."""
    known = score > -jnp.inf
    count = jnp.maximum(jnp.sum(known), 1)
    return jnp.where(known, score, jnp.sum(jnp.where(known, score / count, 0.0)))


def normalise(share: jax.Array, living: jax.Array) -> jax.Array:
    """Probabilities in proportion to `share`; equal ones if it says nothing; 0 for the dead."""
    share = jnp.where(living, share, 0.0)
    peak = jnp.max(share)
    # Dividing by the peak first keeps the sum of huge shares finite.
    share = jnp.where(peak > 0, share / jnp.where(peak > 0, peak, 1.0), living)
    return share / jnp.maximum(jnp.sum(share), 1.0)


def check_floor(policy: str, floor: float, cap: float) -> None:
    """Raises InputError unless `floor` is a share and `cap` a multiple of the mean."""
    if not 0 <= floor <= 1:
        raise InputError(f"{policy} needs a floor between 0 and 1, got {floor}")
    if not cap >= 1:
        raise InputError(f"{policy} needs a cap of at least 1 mean, got {cap}")


def with_floor(share: jax.Array, living: jax.Array, floor: float, cap: float) -> jax.Array:
    """Probabilities: `floor` of them equal, none above `cap` times the mean of the living.

    What is cut off goes to the others in proportion, or equally where they have nothing.
    """
    equal = normalise(jnp.zeros_like(share), living)
    share = floor * equal + (1.0 - floor) * share + _NOTHING * equal
    count, cap = jnp.maximum(jnp.sum(living), 1), min(cap, len(share))
    most = cap / count
    # Cut are those whom the factor that all others are scaled by lifts above the cap.
    factor = _factor(share, most)
    cut = share * factor > most * _ROUNDING
    # Not `1 - most * k`, whose rounding exceeds what is left for the last.
    room, rest = (count - cap * jnp.sum(cut)) / count, jnp.sum(jnp.where(cut, 0.0, share))
    scaled = share * jnp.maximum(room, 0.0) / jnp.where(rest > 0, rest, 1.0)
    return jnp.where(cut, most, jnp.minimum(scaled, most))


def _factor(share: jax.Array, most: jax.Array) -> jax.Array:
    """The largest number times which the shares `[N]`, none above `most`, sum to at most 1.

    It is found bit by bit, as floats >= 0 are in the order of their bits: no sort.
    """

    def narrow(i: jax.Array, bits: jax.Array) -> jax.Array:
        more = bits | (1 << (30 - i))
        factor = jax.lax.bitcast_convert_type(more, jnp.float32)
        fits = jnp.sum(jnp.minimum(share * factor, most)) <= 1.0
        return jnp.where(fits & jnp.isfinite(factor), more, bits)

    bits = jax.lax.fori_loop(0, 31, narrow, jnp.int32(0))
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


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
