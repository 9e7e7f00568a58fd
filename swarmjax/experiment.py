"""What defines a run, and every check that can be made before anything is written."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swarmjax import families, models, optimizers, records, store, tasks
from swarmjax.bus import open_bus, open_if_named
from swarmjax.dials import Dial
from swarmjax.fitness import Goal
from swarmjax.fleet import check_patience
from swarmjax.goals import parse_goal
from swarmjax.lanes import DECK
from swarmjax.links import parse_policy
from swarmjax.members import Recipe
from swarmjax.rehearse import rehearse
from swarmjax.space import Space
from swarmjax.tasks import TASKS, Task
from swarmjax.types import InputError, Policy

_STORAGES = ("auto", "device", "host")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Everything that defines a run.

    Attributes:
        task: what to learn, or the name of a built-in task.
        space: the genes; None for the usual ones of a built-in model.
        model: a Flax module class, Linen or NNX, or a function of the structural genes (and `rngs`
            for NNX) that returns a module; or the name of a built-in family: mlp, cnn or
            transformer, which read the genes depth, width and activation (cnn also kernel). None
            is "transformer" where targets are next tokens, else "mlp".
        optimizer: `optimizer(genes) -> optax transformation` from traced numbers; None for the
            built-in one, which reads learning_rate, weight_decay, momentum and optimizer.
        policy: the policy, the name of a preset, or a chain as `links.parse_policy` reads it.
        goal: what a policy given as text maximises, or a text of it as `goals.parse_goal` reads;
            None for its own. The best network is kept by validation accuracy or loss all the same,
            but within the limits of the goal as long as anyone keeps them. Beside a Policy, whose
            links have goals of their own, it says only what those limits are.
        members: networks alive at a time.
        budget: training steps of all members together.
        round_steps: mean steps of a member in a round.
        directory: where the run is stored; None for a new one below `runs`.
        seed: of everything random.
        storage: keeps members on the `device` or in the memory of the `host`, from where they visit
            the devices a lane at a time; `auto` takes the host only where devices are too small.
        ensemble: most votes of the ensemble that is chosen at the end; 0 for none, and no soup.
        window: training steps that become one row of what is kept of every member's training, a
            power of two up to 512: loss (least, mean, greatest, last) and mean gradient norm. 0:
            none is kept.
        trace: members whose every step is kept.
        parameters: patterns of paths, such as `Dense_*/kernel`, of parameters of which statistics
            and some values are kept, of the members in `trace`, after every round.
        metrics: names in `tasks.METRICS` to measure on validation and test data instead of the
            task's own.
        retain: GiB of windows to keep; older ones are kept eight at a time.
        checkpoint_seconds: that pass at least between checkpoints; 0 makes one after every round.
        checkpoints: how many are kept, the latest.
        nodes: how many of the members, the last ones, are trained by nodes that join over the bus;
            the run begins when they are there. The best network is one of the others.
        bus: URL of the message queue, see `channels`; None for that of the environment. Without
            nodes none is needed; with one the run can be followed from elsewhere.
        swarm: name by which nodes and followers find the run.
        patience: seconds in which a node that lives may take no step of what it was granted; then
            its member counts as dead until it moves again.
    """

    task: Task | str
    space: Space | None = None
    model: Callable[..., Any] | str | None = None
    optimizer: Callable[[dict[str, Any]], Any] | None = None
    policy: Policy | str = "swarm"
    goal: Goal | str | None = None
    members: int = 64
    budget: int = 50_000
    round_steps: int = 50
    directory: str | Path | None = None
    seed: int = 0
    storage: str = "auto"
    ensemble: int = 5
    window: int = 16
    trace: Sequence[int] = ()
    parameters: Sequence[str] = ()
    metrics: Sequence[str] | None = None
    retain: float = 1.0
    checkpoint_seconds: float = 60.0
    checkpoints: int = 2
    nodes: int = 0
    # It may hold a password.
    bus: str | None = field(default=None, repr=False)
    swarm: str = "swarm"
    patience: float = 300.0


# The same function for the same text, so that policies that pursue it are the same.
_goal = lru_cache(maxsize=32)(parse_goal)


class Setup(NamedTuple):
    """An experiment found fit to run, with everything it needs.

    `model` is the model's name, `goal` the experiment's as a function, if it has one; `notes` are
    what is legal but hardly meant, in a line each; `dials` numbers of goals and policies that may
    be changed while the run goes on; `even` whether all who are granted steps get as many.
    """

    experiment: Experiment
    task: Task
    policy: Policy
    recipe: Recipe
    directory: Path
    model: str
    goal: Goal | None = None
    notes: tuple[str, ...] = ()
    dials: Mapping[str, Dial] = {}
    even: bool = False


def check(experiment: Experiment) -> Setup:
    """The experiment with its parts resolved; raises InputError on whatever is wrong with it."""
    _check_types(experiment)
    task = tasks.with_metrics(_task(experiment.task), experiment.metrics)
    _check_numbers(experiment)
    model = families.USUAL[task.train.kind] if experiment.model is None else experiment.model
    space = _space(experiment, model)
    if not space.genes:
        raise InputError("the space has no gene; give it at least a learning_rate")
    goal = _goal(experiment.goal) if isinstance(experiment.goal, str) else experiment.goal
    policy = _policy(experiment.policy, goal)
    experiment = replace(experiment, space=space)
    recipe = Recipe(space, _family(model, space, task), _optimizer(experiment, space))
    _check_genes(experiment, recipe)
    rounds = -(-experiment.budget // (experiment.members * experiment.round_steps))
    rehearsed = rehearse(recipe, task, policy, experiment.members, rounds)
    directory = store.check_free(experiment.directory or _new_directory(task.name))
    label = model if isinstance(model, str) else models.name_of(model)
    return Setup(
        experiment, task, policy, recipe, directory, label, goal,
        notes=rehearsed.odd, dials=rehearsed.dials, even=rehearsed.even,
    )  # fmt: skip


def builtin(name: str, model: str | None = None) -> Experiment:
    """The experiment of a built-in task: networks of many sizes, optimizers and activations.

    Args:
        name: of the task.
        model: name of a built-in family; None for the task's own.
    """
    if name not in TASKS:
        raise InputError(f"task {name!r} is unknown; built-in tasks are {', '.join(TASKS)}")
    usual = "transformer" if name == "text" else "mlp"
    space = families.usual_space(model or usual)
    members, budget = SIZES[model or usual]
    return Experiment(task=name, model=model, space=space, members=members, budget=budget)


# Members and budget of the experiment of a built-in task, by its model.
SIZES = {"mlp": (64, 32_000), "cnn": (32, 12_800), "transformer": (16, 6_400)}


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
    return _bundled(given)


@cache
def _bundled(name: str) -> Task:
    """One task for all runs of a process: programs that are compiled for it serve them all."""
    return TASKS[name]()


def _space(experiment: Experiment, model: Callable[..., Any] | str) -> Space:
    if experiment.space is not None:
        return experiment.space
    for own in ("model", "optimizer"):
        value = getattr(experiment, own)
        if value is not None and not isinstance(value, str):
            raise InputError(
                f"a space is needed for {own} {models.name_of(value)}, whose genes are your own; "
                "give space=sj.Space(learning_rate=sj.log_uniform(1e-4, 1e-1), ...)"
            )
    assert isinstance(model, str), "a model of the user's own was refused above"
    return families.usual_space(model)


def _policy(policy: Policy | str, goal: Goal | None) -> Policy:
    if isinstance(policy, str):
        return parse_policy(policy, goal)
    return policy


def _family(model: Callable[..., Any] | str, space: Space, task: Task) -> models.Family:
    example = task.train.x[:1]
    if isinstance(model, str):
        return families.make_family(model, space, example, task.outputs)
    if models.is_nnx(model):
        # Imported here: others need not wait for NNX.
        from swarmjax import nnx_family

        return nnx_family.nnx_family(space, model)
    return models.flax_family(space, model, example)


def _optimizer(experiment: Experiment, space: Space) -> Callable[[dict[str, Any]], Any]:
    if experiment.optimizer is not None:
        return experiment.optimizer
    optimizers.check_genes(space)
    return optimizers.for_space(space)


def _check_genes(experiment: Experiment, recipe: Recipe) -> None:
    """A gene that nothing reads is a mistake, where it can be known."""
    if experiment.optimizer is not None:
        return
    read = recipe.family.genes | set(optimizers.GENES)
    for name, _ in recipe.space.genes:
        if name not in read:
            raise InputError(
                f"gene {name!r} is read by nothing; known are {', '.join(sorted(read))}"
            )


def _check_types(experiment: Experiment) -> None:
    if not isinstance(experiment.space, Space | None):
        raise InputError(f"space must be a Space, got {type(experiment.space).__name__}")
    if not isinstance(experiment.policy, Policy | str):
        raise InputError(
            f"policy must be a Policy such as sj.exploit(), or a preset's name, got "
            f"{type(experiment.policy).__name__}; call the function that makes the policy"
        )
    for name in ("model", "optimizer", "goal"):
        value = getattr(experiment, name)
        named = name != "optimizer" and isinstance(value, str)
        if value is not None and not named and not callable(value):
            raise InputError(f"{name} must be callable, got {type(value).__name__}")


def _check_numbers(experiment: Experiment) -> None:
    for name in ("members", "budget", "round_steps"):
        value = getattr(experiment, name)
        if not _whole(value) or value < 1:
            raise InputError(f"{name} must be a whole number >= 1, got {value!r}")
    if experiment.budget >= 2**31:
        raise InputError(f"budget must be below {2**31} member-steps, got {experiment.budget}")
    if not _whole(experiment.ensemble) or experiment.ensemble < 0:
        raise InputError(f"ensemble must be a whole number >= 0, got {experiment.ensemble!r}")
    if not (isinstance(experiment.storage, str) and experiment.storage in _STORAGES):
        raise InputError(f"storage must be auto, device or host, got {experiment.storage!r}")
    if not _whole(experiment.seed) or not 0 <= experiment.seed < 2**32:
        raise InputError(
            f"seed must be a whole number from 0 to {2**32 - 1}, got {experiment.seed!r}"
        )
    if experiment.budget < experiment.members:
        raise InputError(
            f"budget {experiment.budget} cannot give {experiment.members} members one step each; "
            "raise budget or lower members"
        )
    _check_nodes(experiment)
    _check_checkpoints(experiment)
    _check_kept(experiment)


def _check_nodes(experiment: Experiment) -> None:
    nodes, most = experiment.nodes, experiment.members - 1
    if not _whole(nodes) or not 0 <= nodes <= most:
        raise InputError(f"nodes must be from 0 to {most}, one less than members, got {nodes!r}")
    records.check_name(experiment.swarm)
    check_patience(experiment.patience)
    open_bus(experiment.bus) if nodes else open_if_named(experiment.bus)


def _check_kept(experiment: Experiment) -> None:
    window, local = experiment.window, experiment.members - experiment.nodes
    if not _whole(window) or window < 0 or (window and DECK % window):
        raise InputError(f"window must be 0 or a power of two up to {DECK}, got {window!r}")
    for name, kind in (("trace", int | np.integer), ("parameters", str)):
        given = getattr(experiment, name)
        listed = isinstance(given, Sequence) and not isinstance(given, str)
        if not listed or not all(isinstance(each, kind) for each in given):
            what = "slots" if name == "trace" else "patterns of paths"
            raise InputError(f"{name} must be a list of {what}, got {given!r}")
    if len(set(experiment.trace)) < len(experiment.trace):
        raise InputError(f"trace names a member twice: {list(experiment.trace)}")
    for slot in experiment.trace:
        if not 0 <= slot < local:
            raise InputError(f"trace names member {slot}; those trained here are 0 to {local - 1}")
    if experiment.parameters and not experiment.trace:
        raise InputError("parameters are kept of the members in trace; name some there")
    if not isinstance(experiment.retain, int | float) or not 0 <= experiment.retain < 2**20:
        raise InputError(f"retain must be GiB from 0 on, got {experiment.retain!r}")


def _check_checkpoints(experiment: Experiment) -> None:
    if not _whole(experiment.checkpoints) or experiment.checkpoints < 1:
        raise InputError(f"checkpoints must be at least 1, got {experiment.checkpoints!r}")
    seconds = experiment.checkpoint_seconds
    if not isinstance(seconds, int | float) or not seconds >= 0:
        raise InputError(f"checkpoint_seconds must be a number >= 0, got {seconds!r}")


def _whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
