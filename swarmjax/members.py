"""One member's state, and the programs that make and resize members, a lane at a time.

A lane `[G, L]` has a fixed shape, so that no number of members ever compiles a new program; its
first axis is spread over the groups of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from swarmjax import breed
from swarmjax.compiling import QUICK
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


def new_member(recipe: Recipe, container: Any, key: Key, birth: Array, genome: Genome) -> Member:
    """One fresh member; its randomness is `fold_in(key, birth)`."""
    numbers = recipe.space.numbers(genome)
    variables = recipe.family.init(jax.random.fold_in(key, birth), container, numbers)
    state = recipe.optimizer(numbers).init(variables["params"])
    return Member(variables, state, jnp.zeros((), jnp.int32))


# Run once in a network's life: worth compiling fast, not running fast.
@partial(jax.jit, static_argnums=(0, 1, 2), compiler_options=QUICK)
def new_members(
    recipe: Recipe, container: Any, mesh: Mesh, key: Key, birth: Array, genome: Genome
) -> Member:
    """Fresh members `[G, L]` with birth numbers `birth` `[G, L]` and genes `genome` `[G, L]`."""
    fresh = partial(_fresh, recipe, container, key)
    return _by_group(mesh, lambda mine: fresh(*mine), (birth, genome))


@partial(jax.jit, static_argnums=(0, 1, 2, 3), compiler_options=QUICK)
def resize_members(
    recipe: Recipe,
    source: Any,
    container: Any,
    mesh: Mesh,
    parents: Member,
    key: Key,
    birth: Array,
    old: Genome,
    new: Genome,
) -> Member:
    """Children `[G, L]` in `container` of `parents` `[G, L]` of other architectures in `source`."""
    sizes = recipe.family.sizes

    def one(parent, fresh, old, new):
        assert sizes is not None
        before = sizes(source, recipe.space.numbers(old))
        after = sizes(container, recipe.space.numbers(new))
        params, kept = breed.resize(
            parent.variables["params"], fresh.variables["params"], before, after, container
        )
        return Member({"params": params}, fresh.optimizer, jnp.where(kept, parent.step, 0))

    def group(mine):
        parents, birth, old, new = mine
        fresh = _fresh(recipe, container, key, birth, new)
        return fresh if sizes is None else jax.vmap(one)(parents, fresh, old, new)

    return _by_group(mesh, group, (parents, birth, old, new))


def _by_group(mesh, function, lanes):
    """`function` of every group's part `[L, ...]` of `lanes` `[G, L, ...]`, where that group is."""

    def shard(mine):
        out = function(jax.tree.map(lambda leaf: leaf[0], mine))
        return jax.tree.map(lambda leaf: leaf[None], out)

    spread = P("member")
    return jax.shard_map(shard, mesh=mesh, in_specs=spread, out_specs=spread, check_vma=False)(
        lanes
    )


def _fresh(recipe, container, key, birth, genome):
    # A loop, not vmap: random numbers compile twice as fast.
    return jax.lax.map(lambda args: new_member(recipe, container, key, *args), (birth, genome))
