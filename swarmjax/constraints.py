"""Constraints: goals that put whoever keeps within limits before everyone who does not."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

import numpy as np

from swarmjax import fitness
from swarmjax.types import Array, Frame, InputError, namespace

_LIMIT = re.compile(r"\s*([<>]=?)\s*([-+]?[0-9.]+(?:e[-+]?[0-9]+)?)\s*", re.IGNORECASE)

_LARGEST = float(np.finfo(np.float32).max)


def constrained(goal: fitness.Goal, **limits: str) -> fitness.Goal:
    """`goal` among members within limits, as in `constrained(goal, parameters="<= 1e5")`.

    Whoever breaks a limit ranks below everyone who breaks none, by the sum of its violations, each
    relative to the limit (to 1 where that is 0): the feasibility rule of Deb 2002, in the fitness
    of one number: within limits as `goal` says, beyond them negative. A quantity that is not known
    leaves the fitness unknown. Limits are compared as float32, as all quantities are.

    Args:
        goal: what is maximised.
        limits: per quantity of `QUANTITIES` or metric, `"<= number"`, `"< number"`, or with `>`.

    Raises:
        InputError: no limit, or one that cannot be read.
    """
    if hasattr(goal, "feasible"):
        raise InputError(f"{fitness.name_of(goal)} has limits already; give all limits at once")
    if not limits:
        raise InputError('constrained needs a limit, such as parameters="<= 1e5"')
    read = {name: _limit(name, text) for name, text in limits.items()}

    def violation(frame: Frame) -> Array:
        each = (_violation(fitness.quantity(frame, name), read[name]) for name in read)
        return namespace(frame.alive).asarray(sum(each))

    def within_limits(frame: Frame) -> Array:
        score, broken = goal(frame), violation(frame)
        xp = namespace(score, broken, frame.alive)
        within = xp.asarray(frame.alive) & (broken == 0) & xp.isfinite(score)
        worst = xp.minimum(xp.min(xp.where(within, score, np.inf)), 0.0)
        # The step below the worst outlasts rounding; the logarithm keeps huge violations apart.
        below = worst - xp.maximum(1.0, -worst) * (0.01 + xp.log1p(broken))
        known = xp.where(broken > 0, xp.maximum(below, -_LARGEST), score)
        return xp.where(xp.isnan(broken), np.nan, known)

    shown = ", ".join(f"{name}={text!r}" for name, text in limits.items())
    within_limits.feasible = lambda frame: violation(frame) == 0  # pyright: ignore[reportFunctionMemberAccess]
    within_limits.__name__ = f"constrained({fitness.name_of(goal)}, {shown})"
    return within_limits


class Limit(NamedTuple):
    """What a quantity must keep to.

    Attributes:
        side: 1 where it must be below, -1 above.
        bound: the number.
        strict: whether it must not be reached.
    """

    side: float
    bound: float
    strict: bool


def _limit(name: str, text: str) -> Limit:
    fitness.check_known(name, fitness.QUANTITIES)
    match = _LIMIT.fullmatch(text) if isinstance(text, str) else None
    try:
        value = float(match[2]) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not abs(value) <= _LARGEST:
        raise InputError(
            f'the limit of {name} must read "<= number", "< number" or the like with >, as in '
            f'"<= 1e5", got {text!r}'
        )
    return Limit(1.0 if match[1][0] == "<" else -1.0, value, len(match[1]) == 1)


def _violation(value: Array, limit: Limit) -> Array:
    """`[N]` 0 where the limit is kept, NaN where `value` is."""
    xp, bound = namespace(value), np.float32(limit.bound)
    excess = limit.side * (value - bound) / (abs(limit.bound) or 1.0)
    kept = excess < 0 if limit.strict else excess <= 0
    # At least as much as rounding leaves, and at most so much that sums of them stay finite.
    broken = xp.clip(excess, np.finfo(np.float32).eps, 1e30)
    return xp.where(kept, np.float32(0.0), broken)
