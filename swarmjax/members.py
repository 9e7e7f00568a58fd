"""One member's state and the programs that make, copy and resize members, a lane at a time.

A lane has a fixed length, so that no number of members ever compiles a new program.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from swarmjax import breed
from swarmjax.models import Family, Variables
from swarmjax.space import Space
from swarmjax.types import Array, Genome, Key


class Recipe(NamedTuple):
    """What is the same for every member; hashable, so that it can be static under `jit`.

    Attributes:
        space: the genes.
        family: the networks.
        optimizer: `optimizer(numbers) -> optax transformation` from one member's traced genes.
    """

    space: Space
    family: Family
    optimizer: Callable[[dict[str, Any]], optax.GradientTransformation]


class Member(NamedTuple):
    """What training changes, of one member or stacked.

    Attributes:
        variables: Flax collections; `params` and, where the model has them, others.
        optimizer: optimizer state.
        step: `[]` int32 training steps behind the weights.
    """

    variables: Variables
    optimizer: Any
    step: Array


@jax.jit
def take(stack: Member, rows: Array) -> Member:
    """The members in `rows` `[L]` of a stack; rows beyond its end repeat the last."""
    return jax.tree.map(lambda leaf: leaf.at[rows].get(mode="clip"), stack)


@partial(jax.jit, donate_argnums=0)
def put(stack: Member, rows: Array, members: Member) -> Member:
    """The stack with `members` `[L]` written to `rows` `[L]`; rows beyond its end are dropped."""
    write = lambda leaf, new: leaf.at[rows].set(new, mode="drop")  # noqa: E731
    return jax.tree.map(write, stack, members)


# Run once in a network's life: worth compiling fast, not running fast.
_QUICK = {"xla_backend_optimization_level": 0}


def new_member(recipe: Recipe, container: Any, key: Key, birth: Array, genome: Genome) -> Member:
    """One fresh member; its randomness is `fold_in(key, birth)`."""
    numbers = recipe.space.numbers(genome)
    variables = recipe.family.init(jax.random.fold_in(key, birth), container, numbers)
    state = recipe.optimizer(numbers).init(variables["params"])
    return Member(variables, state, jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnums=(0, 1), compiler_options=_QUICK)
def new_members(recipe: Recipe, container: Any, key: Key, birth: Array, genome: Genome) -> Member:
    """Fresh members `[L]` with birth numbers `birth` `[L]` and genes `genome` `[L]`."""
    return _fresh(recipe, container, key, birth, genome)


@partial(jax.jit, static_argnums=(0, 1, 2), compiler_options=_QUICK)
def resize_members(
    recipe: Recipe,
    source: Any,
    container: Any,
    parents: Member,
    key: Key,
    birth: Array,
    old: Genome,
    new: Genome,
) -> Member:
    """Children `[L]` in `container` of `parents` `[L]` of other architectures in `source`."""
    sizes = recipe.family.sizes
    fresh = _fresh(recipe, container, key, birth, new)
    if sizes is None:
        return fresh

    def one(parent, fresh, old, new):
        before = sizes(source, recipe.space.numbers(old))
        after = sizes(container, recipe.space.numbers(new))
        params, kept = breed.resize(
            parent.variables["params"], fresh.variables["params"], before, after, container
        )
        return Member({"params": params}, fresh.optimizer, jnp.where(kept, parent.step, 0))

    return jax.vmap(one)(parents, fresh, old, new)


def _fresh(recipe, container, key, birth, genome):
    # A loop, not vmap: random numbers compile twice as fast.
    return jax.lax.map(lambda args: new_member(recipe, container, key, *args), (birth, genome))
