"""Allocation by extrapolated learning curves."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import fitness, memory
from swarmjax.allocate import (
    check_floor,
    fill_unknown,
    integer_shares,
    normalise,
    shown,
    standing,
    with_floor,
)
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy, State

# Exponents of the power laws tried: from late bloomers to what has all but converged.
_EXPONENTS = (0.25, 0.5, 1.0, 2.0)

# Fewer points than this, and any line fits.
_FEWEST = 3


class Curve(NamedTuple):
    """Recent learning curves, the latest point last.

    Attributes:
        step: `[N, W]` float32 training steps behind the weights, NaN before the first point.
        score: `[N, W]` float32 fitness then.
    """

    step: Array
    score: Array


def projected_gain(
    window: int = 8, floor: float = 0.25, goal: fitness.Goal | None = None, cap: float = 16.0
) -> Policy:
    """Grants by the fitness that a member may be expected to gain from an equal grant.

    Each member's recent curve is extrapolated by the power law `c - a * step ** -b` that fits it
    best; a curve that falls promises nothing, and one of less than three points as much as the
    others do on average. A copy goes on with its parent's curve, if this policy stands behind those
    of the chain that select; one made after it begins a curve. Source: the pow3 model of Domhan et
    al. 2015, Speeding Up Automatic Hyperparameter Optimization by Extrapolation of Learning Curves,
    IJCAI.

    Args:
        window: rounds remembered, at least 3.
        floor: share of the quota that is split equally.
        goal: fitness, `fitness.default` unless given.
        cap: no member gets more than so many times the mean of the living.
    """
    if not isinstance(window, int) or window < _FEWEST:
        raise InputError(f"projected_gain needs a window of {_FEWEST} rounds or more, got {window}")
    check_floor("projected_gain", floor, cap)
    measure = goal or fitness.default

    def init(frame: Frame) -> State:
        return memory.blank_memory(_blank(frame, window), frame)

    def update(key: Key, plan: Plan, frame: Frame, state: State) -> tuple[Plan, State]:
        del key
        blank = _blank(frame, window)
        score = fitness.worst_if_dead(measure(frame), frame)
        curve = extend(memory.recall(state, blank, frame), score, frame.total_steps)
        curve = memory.follow(curve, blank, plan)
        _, living = standing(measure, plan, frame)
        ahead = frame.quota / jnp.maximum(jnp.sum(living), 1)
        gain = jnp.where(living, expected_gain(curve, ahead), -jnp.inf)
        share = normalise(fill_unknown(gain), living)
        steps = integer_shares(with_floor(share, living, floor, cap), frame.quota)
        return plan._replace(steps=steps), memory.remember(curve, plan, frame)

    name = f"projected_gain({window=}, {floor=}, {cap=}{shown(goal)})"
    return Policy(init, update, name)


def extend(curve: Curve, score: Array, step: Array) -> Curve:
    """The curves with another point, where a member trained since the last and is scored.

    One whose steps went back, since only its architecture is its parent's, begins again.
    """
    step, latest = jnp.asarray(step, jnp.float32), curve.step[:, -1]
    back = (step < latest)[:, None]
    curve = Curve(*(jnp.where(back, jnp.nan, leaf) for leaf in curve))
    new = (jnp.isfinite(score) & ~(step == latest))[:, None]
    points = Curve(step, jnp.asarray(score))
    return Curve(
        *(
            jnp.where(new, jnp.concatenate([old[:, 1:], point[:, None]], axis=1), old)
            for old, point in zip(curve, points, strict=True)
        )
    )


def expected_gain(curve: Curve, ahead: Array) -> jax.Array:
    """Fitness `[N]` to be gained in `ahead` steps, at least 0; -inf where it cannot be told."""
    fit = jax.vmap(_fit, in_axes=(0, 0, None, None))
    by_law = jax.vmap(fit, in_axes=(None, None, None, 0))
    gain, misfit = by_law(curve.step, curve.score, ahead, jnp.asarray(_EXPONENTS))
    best = jnp.argmin(misfit, axis=0)
    gain = jnp.take_along_axis(gain, best[None], axis=0)[0]
    enough = jnp.sum(jnp.isfinite(curve.step), axis=1) >= _FEWEST
    return jnp.where(enough & jnp.isfinite(gain), jnp.maximum(gain, 0.0), -jnp.inf)


def _fit(step: Array, score: Array, ahead: Array, exponent: Array) -> tuple[jax.Array, jax.Array]:
    """Gain by the law of `exponent` with least squares, and its squared error."""
    known, latest = jnp.isfinite(step), jnp.maximum(step[-1], 1.0)
    count = jnp.maximum(jnp.sum(known), 1)
    # In units of the latest point, so that the variable is about one.
    x = jnp.where(known, (jnp.maximum(step, 1.0) / latest) ** -exponent, 0.0)
    y = jnp.where(known, score, 0.0)
    x = jnp.where(known, x - jnp.sum(x) / count, 0.0)
    y = jnp.where(known, y - jnp.sum(y) / count, 0.0)
    spread = jnp.sum(x * x)
    slope = jnp.sum(x * y) / jnp.where(spread > 0, spread, 1.0)
    gain = slope * ((1.0 + ahead / latest) ** -exponent - 1.0)
    return gain, jnp.sum((y - slope * x) ** 2)


def _blank(frame: Frame, window: int) -> Curve:
    unknown = np.full((*frame.alive.shape, window), np.nan, np.float32)
    return Curve(unknown, unknown)
