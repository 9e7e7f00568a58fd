"""Robustness as a metric: a second copy of the validation examples, with noise on their inputs."""

from __future__ import annotations

import math
from dataclasses import replace

import jax
import numpy as np

from swarmjax.data import Data
from swarmjax.tasks import Measure, Task
from swarmjax.types import InputError


def noisy(task: Task, scale: float, seed: int = 0) -> Task:
    """The task with one metric more for each it has: the same under noise on the inputs.

    `noisy(tasks.digits(), 0.3)` reports `valid_noisy_accuracy` beside `valid_accuracy`, and on test
    data alike. Training, loss and the other metrics are as before; evaluation takes twice as long.

    Args:
        task: its inputs must be real numbers.
        scale: standard deviation of the Gaussian noise, in the units of the inputs.
        seed: of the noise, which is the same for all members and rounds.

    Raises:
        InputError: the scale is not positive, or the task has tokens, noise or no metric.
    """
    if not 0 < scale < math.inf:
        raise InputError(f"noise needs a finite scale > 0, got {scale}")
    if not np.issubdtype(task.valid.x.dtype, np.floating):
        raise InputError(f"task {task.name} has inputs that are no real numbers; it takes no noise")
    if task.noise:
        raise InputError(f"task {task.name} has noise of scale {task.noise} already; give it once")
    if not task.metrics:
        raise InputError(f"task {task.name} has no metric to measure under noise; give it one")
    clean = {name: _half(metric, 0) for name, metric in task.metrics.items()}
    under = {f"noisy_{name}": _half(metric, 1) for name, metric in task.metrics.items()}
    return replace(
        task,
        name=f"{task.name}-noise-{scale:g}",
        valid=_doubled(task.valid, scale, seed),
        test=None if task.test is None else _doubled(task.test, scale, seed + 1),
        metrics=clean | under,
        noise=float(scale),
    )


def _doubled(data: Data, scale: float, seed: int) -> Data:
    noise = np.random.default_rng(seed).normal(0.0, scale, data.x.shape)
    both = np.concatenate([data.x, data.x + noise]).astype(data.x.dtype)
    return Data(both, np.concatenate([data.y, data.y]))


def _half(metric: Measure, which: int) -> Measure:
    def measured(outputs: jax.Array, y: jax.Array) -> jax.Array:
        start = which * (len(y) // 2)
        end = start + len(y) // 2
        return metric(outputs[start:end], y[start:end])

    return measured
