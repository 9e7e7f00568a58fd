"""What defines a run, and every check that can be made before anything is written."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import lanes, mlp, models, optimizers, store
from swarmjax.members import Member, Recipe, new_member
from swarmjax.presets import preset
from swarmjax.space import Space, choice, log_uniform, structure
from swarmjax.tasks import TASKS, Data, Task
from swarmjax.types import InputError, Policy


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that defines a run.

    Attributes:
        task: what to learn, or the name of a built-in task.
        space: the genes.
        model: a Flax module class, or a function of the structural genes that returns a module;
            None for the built-in MLP, which reads the genes depth, width and activation.
        optimizer: `optimizer(genes) -> optax transformation` from traced numbers; None for the
            built-in one, which reads learning_rate, weight_decay, momentum and optimizer.
        policy: the policy or the name of a preset.
        members: networks alive at a time.
        budget: training steps of all members together.
        round_steps: mean steps of a member in a round.
        directory: where the run is stored; None for a new one below `runs`.
        seed: of everything random.
    """

    task: Task | str
    space: Space
    model: Callable[..., Any] | None = None
    optimizer: Callable[[dict[str, Any]], Any] | None = None
    policy: Policy | str = "swarm"
    members: int = 64
    budget: int = 50_000
    round_steps: int = 50
    directory: str | Path | None = None
    seed: int = 0


class Setup(NamedTuple):
    """An experiment found fit to run, with everything it needs."""

    experiment: Experiment
    task: Task
    policy: Policy
    recipe: Recipe
    directory: Path


def check(experiment: Experiment) -> Setup:
    """The experiment with its parts resolved; raises InputError on whatever is wrong with it."""
    task, space = _task(experiment.task), experiment.space
    _check_numbers(experiment)
    if not space.genes:
        raise InputError("the space has no gene; give it at least a learning_rate")
    policy = experiment.policy
    policy = preset(policy) if isinstance(policy, str) else policy
    recipe = Recipe(space, _family(experiment, task), _optimizer(experiment))
    _check_genes(experiment, recipe)
    _rehearse(recipe, task)
    directory = store.check_free(experiment.directory or _new_directory(task.name))
    return Setup(experiment, task, policy, recipe, directory)


def builtin(name: str) -> Experiment:
    """The experiment of a built-in task: MLPs of many sizes, optimizers and activations."""
    if name not in TASKS:
        raise InputError(f"task {name!r} is unknown; built-in tasks are {', '.join(TASKS)}")
    space = Space(
        learning_rate=log_uniform(1e-4, 1e-1),
        weight_decay=log_uniform(1e-6, 1e-2),
        activation=choice("relu", "gelu", "silu", "tanh"),
        optimizer=choice("sgd", "momentum", "adam", "adamw"),
        depth=structure(1, 2, 3),
        width=structure(16, 32, 64, 128),
    )
    return Experiment(task=name, space=space, budget=32_000)


def _new_directory(task: str) -> Path:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", task)[:40] + time.strftime("-%Y%m%d-%H%M%S")
    names = (stem, *(f"{stem}-{i}" for i in range(2, 1000)))
    return next(path for path in map(Path("runs").joinpath, names) if not path.exists())


def _task(given: Task | str) -> Task:
    if isinstance(given, Task):
        return given
    if not isinstance(given, str):
        raise InputError(f"task must be a Task or a name, got {type(given).__name__}; see sj.tasks")
    if given not in TASKS:
        raise InputError(f"task {given!r} is unknown; built-in tasks are {', '.join(TASKS)}")
    return TASKS[given]()


def _family(experiment: Experiment, task: Task) -> models.Family:
    example = task.train.x[:1]
    if experiment.model is None:
        return mlp.mlp(experiment.space, int(np.prod(example.shape)), task.outputs)
    return models.flax_family(experiment.space, experiment.model, example)


def _optimizer(experiment: Experiment) -> Callable[[dict[str, Any]], Any]:
    if experiment.optimizer is not None:
        return experiment.optimizer
    optimizers.check_genes(experiment.space)
    return optimizers.for_space(experiment.space)


def _check_genes(experiment: Experiment, recipe: Recipe) -> None:
    """A gene that nothing reads is a mistake, where it can be known."""
    if experiment.optimizer is not None or experiment.model is not None:
        return
    read = recipe.family.genes | set(optimizers.GENES)
    for name, _ in experiment.space.genes:
        if name not in read:
            raise InputError(
                f"gene {name!r} is read by nothing; known are {', '.join(sorted(read))}"
            )


def _rehearse(recipe: Recipe, task: Task) -> None:
    """Traces one member's evaluation and training step, without computing anything."""
    genome = {name: np.asarray(v) for name, v in recipe.space.sample(jax.random.key(0), 1).items()}
    values = recipe.space.values(genome, 0)
    container = recipe.family.contain(models.architecture_of(recipe.space, values))
    genome = {name: column[0] for name, column in genome.items()}
    numbers = recipe.space.numbers(genome)
    data, key = Data(task.valid.x[:2], task.valid.y[:2]), jax.random.key(0)

    def outputs():
        variables = recipe.family.init(key, container, numbers)
        return recipe.family.apply(container, variables, data.x, numbers)[0]

    def step():
        member = new_member(recipe, container, key, np.zeros((), np.int32), genome)
        return member, lanes.step(recipe, task, container, data, key, True, genome, member)[0]

    shape = _traced("the model fails on two examples", outputs).shape
    if shape != (2, task.outputs):
        raise InputError(
            f"the model returns shape {shape} for 2 examples, but task {task.name} needs "
            f"{(2, task.outputs)}; change the model's last layer"
        )
    _check_measures(task)
    before, after = _traced("one training step fails", step)
    _check_state(before, after)


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
    outputs = jax.ShapeDtypeStruct((2, task.outputs), np.float32)
    y = jax.ShapeDtypeStruct((2, *task.valid.y.shape[1:]), task.valid.y.dtype)
    losses = _traced("the loss fails", task.loss, outputs, y).shape
    if losses != (2,):
        raise InputError(f"the loss returns shape {losses} for 2 examples, but must return (2,)")
    for name, metric in task.metrics.items():
        shape = _traced(f"metric {name!r} fails", metric, outputs, y).shape
        if shape != ():
            raise InputError(f"metric {name!r} must return one number, got shape {shape}")


def _traced(complaint: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The shapes that `function` returns; whatever it raises becomes one line."""
    try:
        return jax.eval_shape(function, *arguments)
    except Exception as error:
        line = next(iter(str(error).splitlines()), "")
        raise InputError(f"{complaint}: {type(error).__name__}: {line}") from error


def _check_numbers(experiment: Experiment) -> None:
    for name in ("members", "budget", "round_steps"):
        value = getattr(experiment, name)
        if not _whole(value) or value < 1:
            raise InputError(f"{name} must be a whole number >= 1, got {value!r}")
    if experiment.budget >= 2**31:
        raise InputError(f"budget must be below {2**31} member-steps, got {experiment.budget}")
    if not _whole(experiment.seed) or not 0 <= experiment.seed < 2**32:
        raise InputError(
            f"seed must be a whole number from 0 to {2**32 - 1}, got {experiment.seed!r}"
        )
    if experiment.budget < experiment.members:
        raise InputError(
            f"budget {experiment.budget} cannot give {experiment.members} members one step each; "
            "raise budget or lower members"
        )


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
