"""The ceiling of the engine: a swarm's operations as batched matrix products and nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from paper.swarms import make_work
from paper.workers import serve


def prepare(**case: Any) -> Callable[[], Any]:
    """A round in which as many operations are done as the engine's training steps need.

    Products are `[N, B, W] x [N, W, W]`: batch and width of the swarm, one product a network.
    """
    work = make_work(**case)
    family, batch = work.recipe.family, work.task.batch
    architecture, width = work.architecture(0), work.values(0)["width"]
    needed = (
        family.flops(family.contain(architecture), architecture) * batch * int(work.steps.sum())
    )
    each = 2.0 * len(work.steps) * batch * width * width
    count = math.ceil(needed / each)
    x = jax.random.normal(jax.random.key(0), (len(work.steps), batch, width))
    w = jax.random.normal(jax.random.key(1), (len(work.steps), width, width)) / width**0.5

    def round() -> dict[str, float]:
        jax.block_until_ready(_products(count, x, w))
        return {"operations": each * count}

    return round


@partial(jax.jit, static_argnums=0)
def _products(count, x, w):
    return jax.lax.fori_loop(0, count, lambda _, x: jnp.einsum("nbi,nio->nbo", x, w), x)


if __name__ == "__main__":
    serve(prepare)
