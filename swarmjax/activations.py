"""Activation functions by name, and one formula with traced coefficients that equals any of them.

Under `vmap` a `lax.switch` would compute every branch for every member. All functions here are
`(a + b x) s(z) + c + d x` with the logistic `s` and `z = e x + f x^3`, so a member's choice is six
numbers. Each maps 0 to 0, which keeps zero-padded units at zero.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.types import Array

# For relu the logistic is a step: its argument overflows only beyond |x| = 3e18.
_STEEP = 1e20

_COEFFICIENTS = {
    "relu": (0.0, 1.0, 0.0, 0.0, _STEEP, 0.0),
    "leaky_relu": (0.0, 0.99, 0.0, 0.01, _STEEP, 0.0),
    "silu": (0.0, 1.0, 0.0, 0.0, 1.0, 0.0),
    "gelu": (0.0, 1.0, 0.0, 0.0, 1.5957691216, 0.0713548162),
    "tanh": (2.0, 0.0, -1.0, 0.0, 2.0, 0.0),
}

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "silu": nn.silu,
    "gelu": nn.gelu,
    "tanh": nn.tanh,
}


def coefficients(names: tuple[str, ...]) -> np.ndarray:
    """The six coefficients `[len(names), 6]` of each named activation."""
    return np.asarray([_COEFFICIENTS[name] for name in names], np.float32)


def one_of(names: tuple[str, ...], index: Array) -> Callable[[jax.Array], jax.Array]:
    """The activation that a member's `index` `[]` picks among `names`, without computing others."""
    if len(names) == 1:
        return ACTIVATIONS[names[0]]
    return partial(activate, coefficient=jnp.asarray(coefficients(names))[index])


def activate(x: jax.Array, coefficient: Array) -> jax.Array:
    """The activation whose `coefficient` `[6]` is given, applied to every element of `x`."""
    a, b, c, d, e, f = (coefficient[i] for i in range(6))
    logistic = 0.5 * jnp.tanh(0.5 * (e * x + f * x * x * x)) + 0.5
    return (a + b * x) * logistic + c + d * x
