"""One training step and one evaluation of one member: what a lane does to many.

Members are independent: everything here is for one of them, and is vmapped elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from swarmjax.data import Data
from swarmjax.members import Member, Recipe
from swarmjax.tasks import Task, measure
from swarmjax.types import Array, Genome, Key

# Validation examples whose outputs describe a member.
PROBES = 32

# Training batches that a member is evaluated on at a time: about the memory of a training step.
EVALUATED = 4


def step(
    recipe: Recipe,
    task: Task,
    container: Any,
    deepest: Any,
    batch: Data,
    key: Key,
    active: Any,
    genome: Genome,
    member: Member,
) -> tuple[Member, jax.Array, jax.Array]:
    """One training step of one member, its loss and gradient norm; none of it if not `active`."""
    numbers = recipe.space.numbers(genome)
    key = jax.random.fold_in(key, member.step)

    def objective(params):
        variables = member.variables | {"params": params}
        outputs, extra = recipe.family.apply(container, variables, batch.x, numbers, key, deepest)
        return jnp.mean(task.loss(outputs, batch.y)), extra  # pyright: ignore[reportArgumentType]

    params = member.variables["params"]
    (loss, extra), gradient = jax.value_and_grad(objective, has_aux=True)(params)
    updates, state = recipe.optimizer(numbers).update(gradient, member.optimizer, params)
    variables = member.variables | dict(extra) | {"params": optax.apply_updates(params, updates)}
    after = Member(variables, state, member.step + 1)
    after = jax.tree.map(lambda new, old: jnp.where(active, new, old), after, member)
    norm = optax.tree.norm(gradient)
    return after, jnp.where(active, loss, 0.0), jnp.where(active, norm, 0.0)


def evaluate(
    recipe: Recipe,
    task: Task,
    container: Any,
    data: Data,
    genome: Genome,
    member: Member,
    deepest: Any = None,
) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """One member's loss and metrics on `data`, whether it is finite, and what describes it.

    Finite are its loss and its weights. It is described `[P, C]` by the first outputs. The metric
    `dead_units` is the share of hidden units that make no difference between those examples.
    """
    numbers = recipe.space.numbers(genome)

    def outputs(x):
        return recipe.family.apply(container, member.variables, x, numbers, deepest=deepest)[0]

    made = in_parts(outputs, data.x, EVALUATED * task.batch)
    scores = measure(task, made, data.y)
    if recipe.family.dead is not None:
        probes = jnp.asarray(data.x[: probed(task)[0]])
        scores["dead_units"] = recipe.family.dead(container, member.variables, probes, numbers)
    leaves = jax.tree.leaves((member.variables, scores["loss"]))
    finite = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
    return scores, finite, _describe(task, made)


def _describe(task: Task, outputs: jax.Array) -> jax.Array:
    """Probabilities, or numbers, of the first examples; of tokens those of the last place."""
    first = outputs[: probed(task)[0]]
    if task.valid.kind == "tokens":
        first = first[:, -1]
    described = first if task.valid.kind == "numbers" else jax.nn.softmax(first, axis=-1)
    return described.astype(jnp.float16)


def in_parts(function: Callable[[Array], jax.Array], x: Array, size: int) -> jax.Array:
    """`function` of all examples `x` `[n, ...]`, at most `size` of them at a time."""
    if len(x) <= size:
        return function(x)
    parts = -(-len(x) // size)
    # The last part is filled up with examples from the start, whose outputs are cut off.
    filled = jnp.concatenate([x, x[: parts * size - len(x)]])
    outputs = jax.lax.map(function, filled.reshape(parts, size, *x.shape[1:]))
    return outputs.reshape(-1, *outputs.shape[2:])[: len(x)]


def measures(recipe: Recipe, task: Task) -> tuple[str, ...]:
    """Names of what `evaluate` measures."""
    return ("loss", *task.metrics, *(("dead_units",) if recipe.family.dead else ()))


def probed(task: Task) -> tuple[int, int]:
    """How many examples describe a member, and by how many numbers each."""
    return min(PROBES, len(task.valid.x)), task.outputs
