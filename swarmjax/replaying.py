"""A stored run repeated from its Plans, and what its directory says of how it was made."""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import jax

from swarmjax import checkpoints, naming, telemetry
from swarmjax.checkpoints import Checkpoint
from swarmjax.experiment import Experiment, Setup, check
from swarmjax.planner import Choices
from swarmjax.result import main_metric
from swarmjax.rounds import begin, budgeted, prepare_jax
from swarmjax.stored import Reader, open_run
from swarmjax.train import LocalTrainer
from swarmjax.types import Frame, InputError, Plan


def replay(
    experiment: Experiment,
    rounds: int | None = None,
    *,
    nearest: bool = False,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[LocalTrainer, Frame]:
    """Repeats a stored run from its Plans, bit for bit, without asking its policy.

    Args:
        experiment: what was run; its `directory` holds the run.
        rounds: how many rounds to repeat, or None for all that are stored.
        nearest: begins with the nearest checkpoint before instead of the seed.
        tell: told after each round how many are done, and of how many.

    Returns:
        The trainer, which holds the weights, and the last Frame.
    """
    prepare_jax()
    if experiment.directory is None:
        raise InputError("replay needs the directory of the run")
    if experiment.nodes:
        raise InputError("a run with nodes cannot be replayed: they train elsewhere")
    with contextlib.closing(open_run(experiment.directory)) as reader:
        setup = check(replace(experiment, directory=None))
        check_same_run(setup, reader)
        trainer, frame = begin(setup, Choices.from_json(reader.engine()))
        if nearest:
            frame = _from_checkpoint(trainer, frame, reader, rounds)
        last = max(reader.rounds(), default=0) if rounds is None else rounds
        for round, table in reader.plans(int(frame.round) + 1):
            if rounds is None or round <= rounds:
                after = trainer.round(telemetry.plan_from_table(table), frame)
                frame = budgeted(after, int(after.remaining), experiment)
                tell(round, max(round, last))
    return trainer, frame


def _from_checkpoint(
    trainer: LocalTrainer, first: Frame, reader: Reader, rounds: int | None
) -> Frame:
    checkpoint, _ = checkpoints.latest(reader.directory, rounds)
    if checkpoint is None:
        return first
    stored = ((round, telemetry.plan_from_table(table)) for round, table in reader.plans(1))
    plans = [plan for round, plan in stored if round <= checkpoint.round]
    return take_up(trainer, first, plans, checkpoint)


def take_up(trainer: Any, first: Frame, plans: Sequence[Plan], checkpoint: Checkpoint) -> Frame:
    """Lets `trainer` hold what a checkpoint does, and returns the Frame of its round.

    Args:
        trainer: a new one, of the same run.
        first: the Frame before anything was trained.
        plans: of all rounds up to the checkpoint's.
        checkpoint: of the run.

    Raises:
        InputError: it is not of such a run, or of another version.
    """
    found = naming.rebuilt(first, checkpoint.arrays, "frame")
    # In the order in which a trainer names them, and a round's columns come.
    frame = found._replace(metrics={name: found.metrics[name] for name in first.metrics})
    trainer.take_up(plans, frame.genome, checkpoint.arrays)
    return frame


def check_same_run(setup: Setup, reader: Reader, *more: str) -> None:
    """Raises InputError if the experiment is not the one that the directory holds.

    `more` of what `described` says must be the same too.
    """
    asked = {**described(setup), "space": setup.recipe.space.to_json()}
    held = {**reader.config, "space": reader.space.to_json()}
    for name in (
        "task",
        "model",
        "members",
        "budget",
        "round_steps",
        "seed",
        "batch",
        "space",
        *more,
    ):
        if asked[name] != held[name]:
            raise InputError(
                f"{reader.directory} holds a run with {name} {held[name]}, not {asked[name]}"
            )


def described(setup: Setup) -> dict[str, Any]:
    """What the run directory says of how it was made."""
    experiment = setup.experiment
    names = ("members", "budget", "round_steps", "seed", "window", "retain")
    given = {name: getattr(experiment, name) for name in names}
    packages = ("swarmjax", "jax", "jaxlib", "flax", "optax", "numpy")
    return given | {
        "task": setup.task.name,
        "builtin": _builtin(experiment),
        "policy": setup.policy.name,
        "model": setup.model,
        "metric": main_metric(setup.task),
        "batch": setup.task.batch,
        "nodes": experiment.nodes,
        "metrics": list(setup.task.metrics),
        "trace": [int(slot) for slot in experiment.trace],
        "parameters": list(experiment.parameters),
        "devices": [str(device) for device in jax.local_devices()],
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "started": time.time(),
    }


def _builtin(experiment: Experiment) -> dict[str, Any] | None:
    """What of an experiment can be said by names; None where more belongs to it."""
    task, model = experiment.task, experiment.model
    if isinstance(task, str) and isinstance(model, str | None) and experiment.optimizer is None:
        metrics = experiment.metrics
        return {"task": task, "model": model, "metrics": metrics and list(metrics)}
    return None


def stored_experiment(reader: Reader) -> Experiment:
    """The experiment of a run of built-in parts, as far as a replay needs it.

    Raises:
        InputError: it was one of the user's own, which only its file defines.
    """
    names: Any = reader.config.get("builtin")
    if not names:
        raise InputError(
            f"{reader.directory} is a run of your own task, model or optimizer; name the file that "
            "defines it: --experiment FILE.py"
        )
    return Experiment(**names, **numbers(reader), space=reader.space)


def numbers(reader: Reader) -> dict[str, Any]:
    """The numbers of a stored run's experiment."""
    return {name: reader.config[name] for name in ("members", "budget", "round_steps", "seed")}
