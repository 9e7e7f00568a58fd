"""A rehearsal of a run on shapes alone: what cannot work is found before anything is written."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from functools import lru_cache, partial
from itertools import islice, product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import chains, training
from swarmjax.data import Data
from swarmjax.dials import Dial
from swarmjax.frames import first_frame
from swarmjax.members import Member, Recipe, new_member
from swarmjax.models import Architecture
from swarmjax.policy import leaves
from swarmjax.space import Choice, Space
from swarmjax.tasks import Task, output_shape
from swarmjax.types import InputError, Policy

# Architectures of a user's module whose outputs are tried, and whose training step is.
_OUTPUTS, _STEPS = 64, 4


class Rehearsed(NamedTuple):
    """What a rehearsal found out about a policy.

    Attributes:
        odd: what is legal but hardly meant, in a line each.
        dials: its numbers that may be changed.
        even: it grants as many steps to all who get any.
    """

    odd: tuple[str, ...]
    dials: dict[str, Dial]
    even: bool


def rehearse(recipe: Recipe, task: Task, policy: Policy, members: int, rounds: int) -> Rehearsed:
    """Traces networks, loss, metrics, a training step and the policy, computing nothing.

    Of a policy that runs on the host only `init` is called: an update may be costly. What was
    rehearsed in this process already is not rehearsed again.

    Args:
        recipe: what all members share.
        task: what they learn.
        policy: of the run.
        members: how many.
        rounds: that the budget is enough for.

    Raises:
        InputError: one of them fails or returns something of the wrong shape or type.
    """
    try:
        return _kept(recipe, task, policy, members, rounds)
    except TypeError:
        # What a user made may hold what has no hash.
        return _rehearsed(recipe, task, policy, members, rounds)


def _rehearsed(recipe: Recipe, task: Task, policy: Policy, members: int, rounds: int) -> Rehearsed:
    # Padded layers fit by construction; a module of one's own may fail for some sizes only.
    most = _OUTPUTS if recipe.family.layers is None else 1
    architectures = list(islice(_architectures(recipe.space), most))
    for architecture in architectures:
        _check_outputs(recipe, task, architecture)
    _check_measures(task)
    for architecture in architectures[:_STEPS]:
        _check_step(recipe, task, architecture)
    return _check_policy(recipe, task, policy, members, rounds)


_kept = lru_cache(maxsize=8)(_rehearsed)


def _architectures(space: Space):
    """All architectures of the space, the first options first."""
    genes = [space[name] for name in space.structural]
    for options in product(*(gene.options for gene in genes if isinstance(gene, Choice))):
        yield tuple(zip(space.structural, options, strict=True))


def _genome(space: Space, architecture: Architecture) -> dict[str, Any]:
    """One genome as scalars: the given architecture, else the first option or the lowest value."""
    chosen = dict(architecture)
    genome: dict[str, Any] = {}
    for name, gene in space.genes:
        if isinstance(gene, Choice):
            index = gene.options.index(chosen[name]) if name in chosen else 0
            genome[name] = np.asarray(index, np.int32)
        else:
            genome[name] = np.asarray(gene.low, np.float32)
    return genome


def _check_outputs(recipe: Recipe, task: Task, architecture: Architecture) -> None:
    container, key = recipe.family.contain(architecture), jax.random.key(0)
    genome = _genome(recipe.space, architecture)

    def outputs(x):
        numbers = recipe.space.numbers(genome)
        variables = recipe.family.init(key, container, numbers)
        return recipe.family.apply(container, variables, x, numbers)[0]

    sizes = ", ".join(f"{name}={value}" for name, value in architecture)
    which = f"the model with {sizes}" if sizes else "the model"
    shape = _traced(f"{which} fails on two examples", outputs, task.valid.x[:2]).shape
    if shape != output_shape(task, 2):
        raise InputError(
            f"{which} returns shape {shape} for 2 examples, but task {task.name} needs "
            f"{output_shape(task, 2)}; change the model's last layer"
        )


def _check_step(recipe: Recipe, task: Task, architecture: Architecture) -> None:
    container, key = recipe.family.contain(architecture), jax.random.key(0)
    genome, data = _genome(recipe.space, architecture), Data(task.valid.x[:2], task.valid.y[:2])

    def step(data):
        member = new_member(recipe, container, key, np.zeros((), np.int32), genome)
        return member, training.step(
            recipe, task, container, None, data, key, True, genome, member
        )[0]

    before, after = _traced("one training step fails", step, data)
    _check_state(before, after)


def _check_policy(
    recipe: Recipe, task: Task, policy: Policy, members: int, rounds: int
) -> Rehearsed:
    frame = first_frame(recipe, task, members, recipe.space.blank(members))
    links = [
        _tried(f"policy {link.name} fails", chains.trace, link, frame) for link in leaves(policy)
    ]
    chains.check_order(links, units=recipe.family.sizes is not None)
    dials = ChainMap(*(dict(link.dials) for link in links))
    odd = tuple(chains.oddities(links, rounds))
    return Rehearsed(odd, dict(dials), chains.grants_evenly(links))


def _check_state(before: Member, after: Member) -> None:
    """A training step must leave a state of the kind it found, which the host can hold."""
    for (path, old), new in zip(
        jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        name = jax.tree_util.keystr(path)
        if jnp.issubdtype(old.dtype, jax.dtypes.prng_key):
            raise InputError(f"state {name} is a typed random key; make it by jax.random.PRNGKey")
        if (old.shape, old.dtype) != (new.shape, new.dtype):
            raise InputError(
                f"a training step turns state {name} from {old.dtype}{old.shape} into "
                f"{new.dtype}{new.shape}; keep one type"
            )


def _check_measures(task: Task) -> None:
    outputs = jax.ShapeDtypeStruct(output_shape(task, 2), np.float32)
    y = jax.ShapeDtypeStruct((2, *task.valid.y.shape[1:]), task.valid.y.dtype)
    losses = _traced("the loss fails", task.loss, outputs, y).shape
    if losses != (2,):
        raise InputError(f"the loss returns shape {losses} for 2 examples, but must return (2,)")
    for name, metric in task.metrics.items():
        shape = _traced(f"metric {name!r} fails", metric, outputs, y).shape
        if shape != ():
            raise InputError(f"metric {name!r} must return one number, got shape {shape}")


def _traced(complaint: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The shapes that `function` returns."""
    return _tried(complaint, partial(jax.eval_shape, function), *arguments)


def _tried(complaint: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """What `function` returns; whatever it raises becomes one line."""
    try:
        return function(*arguments)
    except Exception as error:
        line = next(iter(str(error).splitlines()), "")
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        raise InputError(f"{complaint}: {kind}{line}") from error
