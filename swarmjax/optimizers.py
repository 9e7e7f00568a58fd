"""One optax transformation that equals sgd, momentum, adam or adamw by traced coefficients.

All four share one state and one update text, so a member's choice of optimizer is a few numbers and
a swarm of mixed optimizers stays one program. Weight decay is added to the gradient, except for
adamw, where it is decoupled (Loshchilov & Hutter 2019, arXiv:1711.05101).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from swarmjax.space import Choice, Space
from swarmjax.types import InputError

GENES = ("learning_rate", "weight_decay", "momentum", "optimizer")

_DEFAULTS = {"learning_rate": 1e-3, "weight_decay": 0.0, "momentum": 0.9}
_SECOND, _EPSILON = 0.999, 1e-8


class Rule(NamedTuple):
    """The numbers that make the shared update one optimizer or another.

    Attributes:
        decay: factor of the gradient's running mean; the gene `momentum`, or 0 for sgd.
        gain: weight of a new gradient in that mean.
        adaptive: 1 to divide by the root of the running second moment, else 0.
        decoupled: 1 to decay weights beside the update, 0 to add the decay to the gradient.
    """

    decay: Any
    gain: Any
    adaptive: Any
    decoupled: Any


class Moments(NamedTuple):
    """Optimizer state: steps counted, and the first and second moments of the gradient."""

    count: jax.Array
    first: Any
    second: Any


# has momentum, is adaptive, decouples weight decay
_KINDS = {"sgd": (0, 0, 0), "momentum": (1, 0, 0), "adam": (1, 1, 0), "adamw": (1, 1, 1)}


def from_genome(space: Space, numbers: Mapping[str, Any]) -> optax.GradientTransformation:
    """The optimizer of one member.

    Args:
        space: tells which options the gene `optimizer` has; without that gene it is adam.
        numbers: `space.numbers(genome)` of the member; genes missing there take usual values.
    """
    genes = _DEFAULTS | dict(numbers)
    names = _options(space)
    kinds = jnp.asarray(np.asarray([_KINDS[name] for name in names], np.float32))
    has_momentum, adaptive, decoupled = kinds[numbers.get("optimizer", 0)]
    decay = has_momentum * genes["momentum"]
    rule = Rule(decay, 1.0 - adaptive * decay, adaptive, decoupled)
    return unified(rule, genes["learning_rate"], genes["weight_decay"])


@cache
def for_space(space: Space) -> Callable[[dict[str, Any]], optax.GradientTransformation]:
    """`from_genome` for one space; the same function for the same space, so programs are shared."""
    return partial(from_genome, space)


def check_genes(space: Space) -> None:
    """Raises InputError if an optimizer is not built in, or a number of it is given as text."""
    for name in _options(space):
        if name not in _KINDS:
            raise InputError(f"optimizer {name!r} is unknown; choose among {', '.join(_KINDS)}")
    for name in _DEFAULTS:
        options = getattr(space[name], "options", ()) if name in space else ()
        if any(isinstance(option, str) for option in options):
            raise InputError(f"gene {name!r} must have numbers to choose from, got {options}")


def unified(rule: Rule, learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
    """The shared update as an optax transformation; every argument may be traced."""

    def init(params):
        zeros = jax.tree.map(jnp.zeros_like, params)
        return Moments(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(gradients, state, params):
        count = state.count + 1
        first_scale = jnp.where(rule.adaptive > 0, 1.0 - rule.decay**count, 1.0)
        second_scale = 1.0 - _SECOND**count

        def leaf(gradient, first, second, param):
            gradient = gradient + (1.0 - rule.decoupled) * weight_decay * param
            first = rule.decay * first + rule.gain * gradient
            second = _SECOND * second + (1.0 - _SECOND) * gradient * gradient
            root = jnp.sqrt(second / second_scale) + _EPSILON
            direction = first / first_scale / jnp.where(rule.adaptive > 0, root, 1.0)
            direction = direction + rule.decoupled * weight_decay * param
            # Traced factors are float32; moments keep the type of their parameter.
            moments = (moment.astype(param.dtype) for moment in (first, second))
            return -learning_rate * direction, *moments

        leaves = jax.tree.map(leaf, gradients, state.first, state.second, params)
        updates, first, second = jax.tree.transpose(
            jax.tree.structure(gradients), jax.tree.structure((0, 0, 0)), leaves
        )
        return updates, Moments(count, first, second)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _options(space: Space) -> tuple[str, ...]:
    gene = space["optimizer"] if "optimizer" in space else Choice(("adam",))
    if not isinstance(gene, Choice):
        raise InputError("gene 'optimizer' must be a choice of names, got a range")
    return tuple(str(option) for option in gene.options)
