"""What every step of a lane showed, reduced on the devices after the lane.

Alarms by the detectors of `anomaly`, windows of steps, and whole series of chosen members.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import anomaly
from swarmjax.anomaly import Detector, Flags
from swarmjax.compiling import BRISK
from swarmjax.types import Array


class Series(NamedTuple):
    """Every step of a call of a lane, `[G, L, T]`; what lies beyond a member's steps means nothing.

    Attributes:
        loss: training loss.
        gradient_norm: gradient norm.
    """

    loss: Array
    gradient_norm: Array


class Windows(NamedTuple):
    """Neighbouring steps of a member put together, `[G, L, W]`; 0 where there are none.

    The last window of a member may be a short one.

    Attributes:
        loss_min: least training loss of a step; NaN if one is, as for the others.
        loss: mean training loss.
        loss_max: greatest training loss.
        loss_last: training loss of the last step.
        gradient_norm: mean gradient norm.
    """

    loss_min: Array
    loss: Array
    loss_max: Array
    loss_last: Array
    gradient_norm: Array


class Shown(NamedTuple):
    """What single steps of a lane showed, on the host; W windows and T steps of the longest grant.

    Attributes:
        windows: `[G, L, W]`.
        traced: `[M, T]` series of the traced members, in their order.
        held: `[M]` bool, which of them were in this lane.
        wall_ns: `[parts]` wall clock when each call had ended.
        monotonic_ns: `[parts]` monotonic clock then.
    """

    windows: Windows
    traced: Series
    held: np.ndarray
    wall_ns: np.ndarray
    monotonic_ns: np.ndarray


class Wanted(NamedTuple):
    """What is kept of single steps and of weights.

    Attributes:
        window: steps of a window, a divisor of the steps of a call; 0: no windows.
        traced: slots whose every step is kept.
        parameters: patterns of the paths of parameters, such as `Dense_*/kernel`, of which every
            round keeps statistics and, of traced members, values.
    """

    window: int = 16
    traced: tuple[int, ...] = ()
    parameters: tuple[str, ...] = ()


# Beside the lane's own program, over all its members at once: inside, every chunk would pay for it.
@partial(jax.jit, static_argnums=5, compiler_options=BRISK)
def watch(
    detector: Detector, flags: Flags, series: Series, steps: Array, chosen: Array, window: int
) -> tuple[Detector, Flags, Windows, Series]:
    """Reduces `steps` `[G, L]` of `series`.

    Args:
        detector: `[G, L]` what is remembered of every member's steps.
        flags: `[G, L]` alarms so far.
        series: of one call.
        steps: that each member took in it.
        chosen: `[M]` places in the lane, counted through, whose series are kept; -1: none.
        window: steps of a window; 0: none.

    Returns:
        Detectors and flags afterwards, windows, and series `[M, T]` of those chosen.
    """
    by_step = jax.tree.map(lambda values: jnp.moveaxis(values, -1, 0), series)

    def body(i, carry):
        detector, flags = carry
        loss, norm = (jax.lax.dynamic_index_in_dim(v, i, keepdims=False) for v in by_step)
        detector, raised = anomaly.observe(detector, loss, norm, i < steps)
        return detector, anomaly.join(flags, raised)

    detector, flags = jax.lax.fori_loop(0, jnp.max(steps), body, (detector, flags))
    apart = jax.tree.map(lambda v: v.reshape(-1, v.shape[-1]).at[chosen].get(mode="clip"), series)
    return detector, flags, _windows(by_step, jnp.asarray(steps), window), apart


def _windows(by_step: Series, steps: jax.Array, size: int) -> Windows:
    """Windows of series `[T, G, L]`; only those that somebody reached are computed."""
    if not size:
        return Windows(*(jnp.zeros((*steps.shape, 0)) for _ in Windows._fields))
    room = by_step.loss.shape[0] // size

    def body(i, done):
        loss, norm = (jax.lax.dynamic_slice_in_dim(v, i * size, size) for v in by_step)
        place = (i * size + jnp.arange(size)).reshape(-1, 1, 1)
        made = _window(loss, norm, place, jnp.minimum(steps, (i + 1) * size)[None])
        write = partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0)
        return jax.tree.map(write, done, made)

    empty = jnp.zeros((room, *steps.shape))
    used = -(-jnp.max(steps) // size)
    windows = jax.lax.fori_loop(0, used, body, Windows(*(empty for _ in Windows._fields)))
    return jax.tree.map(lambda values: jnp.moveaxis(values, 0, -1), windows)


def _window(loss, norm, place, end) -> Windows:
    """The steps in front of `end` `[1, G, L]` of losses and norms `[size, G, L]`."""
    mine = place < end
    count = jnp.maximum(jnp.sum(mine, axis=0), 1)

    def total(values, which):
        return jnp.sum(jnp.where(which, values, 0.0), axis=0)

    least = jnp.min(jnp.where(mine, loss, jnp.inf), axis=0)
    most = jnp.max(jnp.where(mine, loss, -jnp.inf), axis=0)
    some = jnp.any(mine, axis=0)
    return Windows(
        jnp.where(some, least, 0.0), total(loss, mine) / count, jnp.where(some, most, 0.0),
        total(loss, place == end - 1), total(norm, mine) / count,
    )  # fmt: skip


def places(slots: Sequence[int], lane: np.ndarray) -> np.ndarray:
    """Where in a lane `[G, L]`, counted through, each slot is; -1: nowhere."""
    found = [np.flatnonzero(lane.ravel() == slot) for slot in slots]
    return np.asarray([place[0] if len(place) else -1 for place in found], np.int32)


def joined(parts: Sequence[Any], longest: int, window: int, held: np.ndarray) -> Shown:
    """The parts of a lane one after the other, without what lies behind the longest grant."""

    def end_to_end(trees, used):
        return jax.tree.map(lambda *some: np.concatenate(some, axis=-1)[..., :used], *trees)

    windows, traced, wall, monotonic = zip(*parts, strict=True)
    used = -(-longest // window) if window else 0
    return Shown(
        end_to_end(windows, used), end_to_end(traced, longest), held,
        np.asarray(wall, np.int64), np.asarray(monotonic, np.int64),
    )  # fmt: skip
