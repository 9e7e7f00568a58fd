"""One optax transformation that equals any of seven optimizers by traced coefficients.

All share one state and one update text, so a member's choice of optimizer is a few numbers and a
swarm of mixed optimizers stays one program. Weight decay is added to the gradient, except for adamw
and lion, where it is decoupled (Loshchilov & Hutter 2019, arXiv:1711.05101).
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

_DEFAULTS = {"learning_rate": 1e-3, "weight_decay": 0.0, "momentum": 0.9}
_SCHEDULE = ("warmup", "decay_steps")
GENES = (*_DEFAULTS, *_SCHEDULE, "optimizer")

_EPSILON = 1e-8
# Of the mean that lion keeps; the gene momentum is that of the mean it follows.
_LION = 0.99


class Rule(NamedTuple):
    """The numbers that make the shared update one optimizer or another.

    Attributes:
        decay: factor of the gradient's running mean.
        gain: weight of a new gradient in that mean.
        old: weight of the mean before in the direction of the step.
        new: weight of the gradient in it.
        second: factor of the running mean of the squared gradient.
        square: weight of a new squared gradient in that mean.
        adaptive: 1 to divide by the root of that mean, else 0.
        corrected: 1 to make up for both means starting at zero, else 0.
        decoupled: 1 to decay weights beside the update, 0 to add the decay to the gradient.
        signed: 1 to keep only the signs of the direction; None if no member of the program does.
    """

    decay: Any
    gain: Any
    old: Any
    new: Any
    second: Any
    square: Any
    adaptive: Any
    corrected: Any
    decoupled: Any
    signed: Any


class Kind(NamedTuple):
    """What an optimizer does, 0 or 1, and `second` and `square` as in `Rule`."""

    momentum: float = 0
    nesterov: float = 0
    averaged: float = 0
    adaptive: float = 0
    corrected: float = 0
    decoupled: float = 0
    signed: float = 0
    second: float = 0.999
    square: float = 0.001


KINDS = {
    "sgd": Kind(),
    "momentum": Kind(momentum=1),
    "nesterov": Kind(momentum=1, nesterov=1),
    "rmsprop": Kind(adaptive=1, second=0.9, square=0.1),
    "adam": Kind(momentum=1, averaged=1, adaptive=1, corrected=1),
    "adamw": Kind(momentum=1, averaged=1, adaptive=1, corrected=1, decoupled=1),
    "lion": Kind(momentum=1, averaged=1, decoupled=1, signed=1),
}


class Moments(NamedTuple):
    """Optimizer state: steps counted, first and second moments `[parameters]` of the gradient."""

    count: jax.Array
    first: jax.Array
    second: jax.Array


def from_genome(space: Space, numbers: Mapping[str, Any]) -> optax.GradientTransformation:
    """The optimizer of one member.

    Args:
        space: tells which options the gene `optimizer` has; without that gene it is adam.
        numbers: `space.numbers(genome)` of the member; genes missing there take usual values.
    """
    genes = _DEFAULTS | dict(numbers)
    kinds = [KINDS[name] for name in _options(space)]
    if len(kinds) == 1:
        chosen = Kind(*map(float, kinds[0]))
    else:
        chosen = Kind(*jnp.asarray(np.asarray(kinds, np.float32))[numbers.get("optimizer", 0)])
    rule = make_rule(chosen, genes["momentum"])
    if not any(kind.signed for kind in kinds):
        rule = rule._replace(signed=None)
    return unified(rule, _schedule(genes), genes["weight_decay"])


def make_rule(kind: Kind, momentum: Any) -> Rule:
    """The rule of an optimizer whose gene `momentum` is given; all may be traced."""
    decay = kind.momentum * momentum
    gain = 1.0 - kind.averaged * decay
    return Rule(
        decay=_choose(kind.signed, _LION, decay),
        gain=_choose(kind.signed, 1.0 - _LION, gain),
        old=_choose(kind.nesterov, decay * decay, decay),
        new=_choose(kind.nesterov, 1.0 + decay, gain),
        second=kind.second,
        square=kind.square,
        adaptive=kind.adaptive,
        corrected=kind.corrected,
        decoupled=kind.decoupled,
        signed=kind.signed,
    )


def _schedule(genes: Mapping[str, Any]) -> Any:
    """The learning rate, or what it is after so many steps where genes say how it changes."""
    if not any(name in genes for name in _SCHEDULE):
        return genes["learning_rate"]

    def rate(count):
        value = genes["learning_rate"]
        if "warmup" in genes:
            value = value * jnp.minimum(1.0, (count + 1.0) / jnp.maximum(genes["warmup"], 1.0))
        if "decay_steps" in genes:
            done = jnp.minimum(1.0, count / jnp.maximum(genes["decay_steps"], 1.0))
            value = value * 0.5 * (1.0 + jnp.cos(jnp.pi * done))
        return value

    return rate


@cache
def for_space(space: Space) -> Callable[[dict[str, Any]], optax.GradientTransformation]:
    """`from_genome` for one space; the same function for the same space, so programs are shared."""
    return partial(from_genome, space)


def check_genes(space: Space) -> None:
    """Raises InputError if an optimizer is not built in, or a number of it is given as text."""
    for name in _options(space):
        if name not in KINDS:
            raise InputError(f"optimizer {name!r} is unknown; choose among {', '.join(KINDS)}")
    for name in (*_DEFAULTS, *_SCHEDULE):
        options = getattr(space[name], "options", ()) if name in space else ()
        if any(isinstance(option, str) for option in options):
            raise InputError(f"gene {name!r} must have numbers to choose from, got {options}")


def unified(rule: Rule, learning_rate: Any, weight_decay: Any) -> optax.GradientTransformation:
    """The shared update as an optax transformation; every number may be traced.

    Args:
        rule: which optimizer.
        learning_rate: a number, or a function of the number of steps taken before.
        weight_decay: a number.
    """

    def init(params):
        zeros = jnp.zeros_like(_flat(params))
        return Moments(jnp.zeros((), jnp.int32), zeros, jnp.zeros_like(zeros))

    def update(gradients, state, params):
        count = state.count + 1
        rate: Any = learning_rate(state.count) if callable(learning_rate) else learning_rate
        first_scale = _choose(rule.corrected, 1.0 - rule.decay**count, 1.0)
        second_scale = _choose(rule.corrected, 1.0 - rule.second**count, 1.0)
        # All leaves as one: a program with the update once compiles faster than one with it often.
        gradient, param, first = _flat(gradients), _flat(params), state.first
        gradient = _plus(gradient, (1.0 - rule.decoupled) * weight_decay, param)
        direction = (rule.old * first + rule.new * gradient) / first_scale
        first = rule.decay * first + rule.gain * gradient
        second = rule.second * state.second + rule.square * gradient * gradient
        root = jnp.sqrt(second / second_scale) + _EPSILON
        direction = direction / _choose(rule.adaptive, root, 1.0)
        if rule.signed is not None:
            direction = _choose(rule.signed, jnp.sign(direction), direction)
        direction = _plus(direction, rule.decoupled * weight_decay, param)
        # Traced factors are float32; moments keep the type of the parameters.
        moments = (moment.astype(param.dtype) for moment in (first, second))
        return _split(-rate * direction, params), Moments(count, *moments)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


# A number that is known when the program is made costs it nothing.
def _choose(flag: Any, yes: Any, no: Any) -> Any:
    if isinstance(flag, float):
        return yes if flag > 0.0 else no
    return jnp.where(flag > 0, yes, no)


def _plus(value: jax.Array, factor: Any, other: jax.Array) -> jax.Array:
    return value if isinstance(factor, float) and factor == 0.0 else value + factor * other


def _flat(tree: Any) -> jax.Array:
    """All leaves as one vector."""
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(tree)])


def _split(vector: jax.Array, like: Any) -> Any:
    """The vector as a tree whose leaves have the shapes of `like`'s."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = zip(jnp.split(vector, ends), leaves, strict=True)
    return jax.tree.unflatten(structure, [part.reshape(leaf.shape) for part, leaf in parts])


def _options(space: Space) -> tuple[str, ...]:
    gene = space["optimizer"] if "optimizer" in space else Choice(("adam",))
    if not isinstance(gene, Choice):
        raise InputError("gene 'optimizer' must be a choice of names, got a range")
    return tuple(str(option) for option in gene.options)
