"""One member's state, and the programs that make and resize members, a lane at a time.

A lane `[G, L]` has a fixed shape, so that no number of members ever compiles a new program; its
first axis is spread over the groups of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from swarmjax import crossover
from swarmjax.compiling import QUICK
from swarmjax.models import Family, Variables
from swarmjax.resize import repad, resize
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


class Network(NamedTuple):
    """One network taken out of the swarm, on the host.

    Attributes:
        container: the padded shape its variables have.
        member: variables, optimizer state and step.
        genome: its genes, as scalars.
    """

    container: Any
    member: Member
    genome: Genome


def new_member(recipe: Recipe, container: Any, key: Key, birth: Array, genome: Genome) -> Member:
    """One fresh member; its randomness is `fold_in(key, birth)`."""
    numbers = recipe.space.numbers(genome)
    variables = recipe.family.init(jax.random.fold_in(key, birth), container, numbers)
    state = recipe.optimizer(numbers).init(variables["params"])
    return Member(variables, state, jnp.zeros((), jnp.int32))


@lru_cache(maxsize=1024)
def shapes(recipe: Recipe, container: Any) -> Member:
    """Shapes and types of what one member of `container` holds."""
    make = partial(new_member, recipe, container)
    return jax.eval_shape(make, jax.random.key(0), np.zeros((), np.int32), recipe.space.blank())


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
        params, kept = resize(
            parent.variables["params"], fresh.variables["params"], before, after, container
        )
        return Member({"params": params}, fresh.optimizer, jnp.where(kept, parent.step, 0))

    def group(mine):
        parents, birth, old, new = mine
        fresh = _fresh(recipe, container, key, birth, new)
        return fresh if sizes is None else jax.vmap(one)(parents, fresh, old, new)

    return _by_group(mesh, group, (parents, birth, old, new))


@partial(jax.jit, static_argnums=(0, 1, 2), compiler_options=QUICK)
def repad_members(
    recipe: Recipe, container: Any, mesh: Mesh, members: Member, genome: Genome
) -> Member:
    """Members `[G, L]` of genes `genome` `[G, L]` as they are, but padded as `container` is."""
    like = shapes(recipe, container).variables

    def one(member, genes):
        room = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like["params"])
        held, blank = member.variables["params"], recipe.optimizer(recipe.space.numbers(genes))
        params = repad(held, room, held, room)
        state = repad(member.optimizer, blank.init(room), held, room)
        return Member({"params": params}, state, member.step)

    return _by_group(mesh, lambda mine: jax.vmap(one)(*mine), (members, genome))


# Grows with the operators, runs seldom.
@partial(jax.jit, static_argnums=(0, 1, 2, 3), compiler_options=QUICK)
def cross_members(
    recipe: Recipe,
    sources: tuple[Any, Any],
    container: Any,
    mesh: Mesh,
    parents: tuple[Member, Member],
    key: Key,
    birth: Array,
    operator: Array,
    old: tuple[Genome, Genome],
    new: Genome,
) -> Member:
    """Children `[G, L]` in `container` of parents and mates `[G, L]` by `operator` `[G, L]`.

    A mate whose weights cannot be brought to the size of the parent is left out. The optimizer
    state starts anew. Containers of parents and mates are `sources`, their genes `old`.
    """
    cross = partial(_crossed, recipe, sources, container, key)

    def group(mine):
        # One child at a time: only the operator that it asks for is computed.
        return jax.lax.map(lambda child: cross(*child), mine)

    return _by_group(mesh, group, (parents, birth, operator, old, new))


def _crossed(recipe, sources, container, key, parents, birth, operator, old, new) -> Member:
    fresh = new_member(recipe, container, key, birth, new)
    key = jax.random.fold_in(jax.random.fold_in(key, birth), 1)
    a, b = (parent.variables["params"] for parent in parents)
    young, step = fresh.variables["params"], parents[0].step
    if recipe.family.sizes is None:
        child = crossover.combine(operator, key, a, b, None)
    else:
        places = zip((*sources, container), (*old, new), strict=True)
        sizes = [recipe.family.sizes(box, recipe.space.numbers(genes)) for box, genes in places]
        child, kept = _bred(operator, key, (a, b, young), sizes, sources, container)
        step = jnp.where(kept, step, 0)
    perturbed = crossover.perturb(child, young)
    shrunk = operator == crossover.OPERATORS.index("perturb")
    child = jax.tree.map(lambda x, y: jnp.where(shrunk, x, y), perturbed, child)
    return Member(parents[0].variables | {"params": child}, fresh.optimizer, step)


def _bred(operator, key, weights, sizes, sources, container):
    """Weights of a child of padded dense layers, and whether they were inherited."""
    (a, b, fresh), (mine, other, after) = weights, sizes
    mate, fits = resize(b, jax.tree.map(jnp.zeros_like, a), other, mine, sources[0])
    mate = jax.tree.map(lambda x, y: jnp.where(fits, x, y), mate, a)
    child, kept = resize(
        crossover.combine(operator, key, a, mate, mine), fresh, mine, after, container
    )
    wide, can = _united(weights, sizes, sources, container)
    united = (operator == crossover.OPERATORS.index("union")) & can
    return jax.tree.map(lambda x, y: jnp.where(united, x, y), wide, child), kept | united


def _united(weights, sizes, sources, container):
    """The union of two parents brought to the child's size, and whether that can be."""
    (a, b, fresh), (mine, other, after) = weights, sizes
    box = sources[0]._replace(width=sources[1].width)
    room = {
        name: jax.tree.map(jnp.zeros_like, b.get(name, {
            "kernel": jnp.zeros((box.width, box.width)), "bias": jnp.zeros(box.width)
        }))
        for name in a
    }  # fmt: skip
    tall, fits = resize(b, room, other, other._replace(depth=mine.depth), box)
    width, idempotent = mine.width + other.width, mine.idempotent & other.idempotent
    both = mine._replace(width=width, idempotent=idempotent)
    child, kept = resize(crossover.union(a, tall, mine.width), fresh, both, after, container)
    return child, kept & fits


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
