"""The detectors of `anomaly` run over what every step of a lane showed, after the lane."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import anomaly
from swarmjax.anomaly import STREAMED, Detector, Flags
from swarmjax.compiling import QUICK
from swarmjax.types import Array


class Series(NamedTuple):
    """Every step of a call of a lane, `[G, L, T]`; what lies beyond a member's steps means nothing.

    Attributes:
        loss: training loss.
        gradient_norm: gradient norm.
    """

    loss: Array
    gradient_norm: Array


def no_detector(shape: tuple[int, ...]) -> Detector:
    """`anomaly.init` on the host, for members of any shape."""
    zero = np.zeros(shape, np.float32)
    return Detector(np.zeros(shape, np.int32), zero, zero, zero, zero)


def no_flags(shape: tuple[int, ...]) -> Flags:
    """`anomaly.silent` on the host, for members of any shape."""
    each = (*shape, len(STREAMED))
    return Flags(np.zeros(shape, np.int32), np.full(each, -1, np.int32), np.zeros(each, np.float32))


def follow(detector: Detector, parent: Array, fresh: Array) -> Detector:
    """Detectors `[N]` after weights moved: those of the `parent` `[N]`, new ones where `fresh`."""
    return jax.tree.map(lambda values: np.where(fresh, 0, values[parent]), detector)


# Beside the lane's own program, over all its members at once: inside, every chunk would pay for it.
@partial(jax.jit, compiler_options=QUICK)
def watch(detector: Detector, flags: Flags, series: Series, steps: Array) -> tuple[Detector, Flags]:
    """Detectors and flags `[G, L]` after `steps` `[G, L]` of `series`."""
    by_step = jax.tree.map(lambda values: jnp.moveaxis(values, -1, 0), series)

    def body(i, carry):
        detector, flags = carry
        loss, norm = (jax.lax.dynamic_index_in_dim(v, i, keepdims=False) for v in by_step)
        detector, raised = anomaly.observe(detector, loss, norm, i < steps)
        return detector, anomaly.join(flags, raised)

    return jax.lax.fori_loop(0, jnp.max(steps), body, (detector, flags))
