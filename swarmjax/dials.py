"""Numbers of goals and policies that a person may change while a run goes on.

Where a goal or policy has such a number it asks `dial` for it. Which there are is found out by
tracing the policy once with `Found`; in a run they are arrays in `Frame.dials`, so that turning one
compiles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from swarmjax.types import Array, Frame, namespace


class Dial(NamedTuple):
    """A number that may be changed.

    Attributes:
        value: what it was made with; of several that share a name, the first.
        low: the least it may be.
        high: the most it may be.
    """

    value: float
    low: float
    high: float


# Static, so that it is the same object wherever a Frame is taken apart and put together.
@jax.tree_util.register_static
class Found:
    """In place of `Frame.dials`: notes in `dials` every one that is asked for."""

    def __init__(self):
        self.dials: dict[str, Dial] = {}


def dial(frame: Frame, name: str, value: float, low: float, high: float) -> Any:
    """What the number `name` is now: `value`, unless somebody turned it.

    Args:
        frame: whose `dials` may hold it.
        name: such as `softmax.temperature`; those of one name are turned together.
        value: as made.
        low: the least it may be.
        high: the most it may be.
    """
    dials = frame.dials
    if isinstance(dials, Found):
        dials.dials.setdefault(name, Dial(float(value), low, high))
    elif name in dials:
        turned = dials[name]
        xp = namespace(turned)
        return xp.where(xp.isnan(turned), np.float32(value), turned)
    return value


def at_rest(found: Mapping[str, Dial]) -> dict[str, Array]:
    """`Frame.dials` of which nobody turned any: NaN, `[]` float32 each."""
    return {name: np.full((), np.nan, np.float32) for name in sorted(found)}


def turned(resting: Mapping[str, Array], values: Mapping[str, float | None]) -> dict[str, Array]:
    """`Frame.dials` after somebody set some; None puts one back."""
    changed = {
        name: np.asarray(np.nan if value is None else value, np.float32)
        for name, value in values.items()
    }
    return {**resting, **changed}
