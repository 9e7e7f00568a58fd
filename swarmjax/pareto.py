"""Goals in conflict: non-dominated fronts and crowding as one number per member."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from swarmjax import fitness
from swarmjax.types import Array, Frame, InputError


def pareto(**directions: float) -> fitness.Goal:
    """The goal of NSGA-II, as in `pareto(accuracy=1, parameters=-1)`.

    Fitness lies in `(0, 1)` and grows from front to front; within one, members in emptier regions
    come first, its two ends along any objective before all others. A member of which an objective
    is not known has no fitness and dominates nobody. Source: Deb et al. 2002, A Fast and Elitist
    Multiobjective Genetic Algorithm: NSGA-II.

    Args:
        directions: per quantity of `fitness.QUANTITIES` or metric, a number above 0 to maximise it
            or below 0 to minimise it; its size does not matter.

    Raises:
        InputError: no objective, an unknown one, or a direction that is 0 or not finite.
    """
    if not directions:
        raise InputError("pareto needs objectives, such as accuracy=1, parameters=-1")
    for name, direction in directions.items():
        fitness.check_known(name, fitness.QUANTITIES)
        if direction == 0 or not math.isfinite(direction):
            raise InputError(f"{name} needs a direction of 1 or -1, got {direction}")

    def goal(frame: Frame) -> Array:
        signs = {name: math.copysign(1.0, direction) for name, direction in directions.items()}
        values = [sign * fitness.quantity(frame, name) for name, sign in signs.items()]
        return rank_and_crowd(jnp.stack(values, axis=1), jnp.asarray(frame.alive))

    shown = ", ".join(f"{name}={direction}" for name, direction in directions.items())
    goal.__name__ = f"pareto({shown})"
    return goal


@jax.jit
def rank_and_crowd(objectives: Array, living: Array) -> jax.Array:
    """Fitness `[N]` of objectives `[N, M]`, all maximised; NaN where unknown or dead."""
    objectives = jnp.asarray(objectives)
    known = jnp.asarray(living) & jnp.all(jnp.isfinite(objectives), axis=1)
    # Behind everyone else, and a front of their own: they can be nobody's neighbours.
    objectives = jnp.where(known[:, None], objectives, -jnp.inf)
    front = jnp.where(known, fronts(objectives), objectives.shape[0])
    last = jnp.max(jnp.where(known, front, 0))
    # A distance is at most the number of objectives, unless it is infinite.
    most = objectives.shape[1] + 1.0
    share = (1.0 + jnp.minimum(crowding(objectives, front), most)) / (most + 2.0)
    return jnp.where(known, (last - front + share) / (last + 1.0), jnp.nan)


def fronts(objectives: jax.Array) -> jax.Array:
    """Number of the non-dominated front `[N]` int32 of each, 0 the best.

    A front is one more than the last front of whoever dominates its members, and in lexicographic
    order those come before: one pass over the members, at most N x N comparisons, whatever the
    number of fronts.
    """
    members = objectives.shape[0]
    order = jnp.lexsort([-column for column in reversed(objectives.T)])
    ordered = objectives[order]

    def place(i: jax.Array, front: jax.Array) -> jax.Array:
        mine = ordered[i][None]
        dominating = jnp.all(ordered >= mine, axis=1) & jnp.any(ordered > mine, axis=1)
        return front.at[i].set(jnp.max(jnp.where(dominating, front, -1)) + 1)

    front = jax.lax.fori_loop(0, members, place, jnp.zeros(members, jnp.int32))
    return jnp.zeros_like(front).at[order].set(front)


def crowding(objectives: jax.Array, front: jax.Array) -> jax.Array:
    """Crowding distance `[N]` within each front, inf at its ends; 0 where all are the same.

    The sides of the box between a member's two neighbours, each relative to the front's extent.
    """
    return sum((_distance(column, front) for column in objectives.T), jnp.zeros(front.shape))


def _distance(values: jax.Array, front: jax.Array) -> jax.Array:
    order = jnp.lexsort((values, front))
    values, group = values[order], front[order]
    first = jnp.searchsorted(group, group, side="left")
    last = jnp.searchsorted(group, group, side="right") - 1
    place = jnp.arange(len(values))
    extent = values[last] - values[first]
    sides = values[jnp.minimum(place + 1, last)] - values[jnp.maximum(place - 1, first)]
    end = (place == first) | (place == last)
    distance = jnp.where(end, jnp.inf, sides / jnp.where(extent > 0, extent, 1.0))
    return jnp.zeros_like(values).at[order].set(jnp.where(extent > 0, distance, 0.0))
