"""The detectors of `anomaly` run over what every step of a lane showed, after the lane."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from swarmjax import anomaly
from swarmjax.anomaly import Detector, Flags
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
