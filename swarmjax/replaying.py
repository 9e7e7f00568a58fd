"""A stored run repeated from its Plans, and what its directory says of how it was made."""

from __future__ import annotations

import contextlib
import platform
import time
from dataclasses import replace
from importlib import metadata
from typing import Any

import jax

from swarmjax import telemetry
from swarmjax.experiment import Experiment, Setup, check
from swarmjax.result import main_metric
from swarmjax.rounds import begin, budgeted, prepare_jax
from swarmjax.stored import Reader, open_run
from swarmjax.train import Choices, LocalTrainer
from swarmjax.types import Frame, InputError


def replay(experiment: Experiment, rounds: int | None = None) -> tuple[LocalTrainer, Frame]:
    """Repeats a stored run from its Plans, bit for bit, without asking its policy.

    Args:
        experiment: what was run; its `directory` holds the run.
        rounds: how many rounds to repeat, or None for all that are stored.

    Returns:
        The trainer, which holds the weights, and the last Frame.
    """
    prepare_jax()
    if experiment.directory is None:
        raise InputError("replay needs the directory of the run")
    reader = open_run(experiment.directory)
    if experiment.nodes:
        raise InputError("a run with nodes cannot be replayed: they train elsewhere")
    setup = check(replace(experiment, directory=None))
    _check_same_run(setup, reader)
    trainer, frame = begin(setup, Choices.from_json(reader.engine()))
    with contextlib.closing(reader):
        for round, table in reader.plans():
            if rounds is None or round <= rounds:
                after = trainer.round(telemetry.plan_from_table(table), frame)
                frame = budgeted(after, int(after.remaining), experiment)
    return trainer, frame


def _check_same_run(setup: Setup, reader: Reader) -> None:
    """Raises InputError if the experiment is not the one that the directory holds."""
    asked = {**described(setup), "space": setup.recipe.space.to_json()}
    held = {**reader.config, "space": reader.space.to_json()}
    for name in ("task", "model", "members", "budget", "round_steps", "seed", "batch", "space"):
        if asked[name] != held[name]:
            raise InputError(
                f"{reader.directory} holds a run with {name} {held[name]}, not {asked[name]}"
            )


def described(setup: Setup) -> dict[str, Any]:
    """What the run directory says of how it was made."""
    experiment = setup.experiment
    numbers = {n: getattr(experiment, n) for n in ("members", "budget", "round_steps", "seed")}
    packages = ("swarmjax", "jax", "jaxlib", "flax", "optax", "numpy")
    return numbers | {
        "task": setup.task.name,
        "policy": setup.policy.name,
        "model": setup.model,
        "metric": main_metric(setup.task),
        "batch": setup.task.batch,
        "nodes": experiment.nodes,
        "devices": [str(device) for device in jax.local_devices()],
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "started": time.time(),
    }
