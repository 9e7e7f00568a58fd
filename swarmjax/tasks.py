"""Tasks: data, loss and metrics, checked when made; bundled ones need no download."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from swarmjax import corpus
from swarmjax.data import Data, check_labels, checked, outputs_needed
from swarmjax.types import Array, InputError

Measure = Callable[[jax.Array, jax.Array], jax.Array]

# Of the text: characters told apart, and windows to validate and to test on.
_CHARACTERS, _HELD_OUT = 95, 256


@dataclass(frozen=True, eq=False)
class Task:
    """What the swarm learns; make one with `arrays` or `task`.

    Attributes:
        name: a short label.
        train: examples that weights are fitted to.
        valid: examples that members are compared by.
        test: examples for the final result only, or None.
        outputs: numbers a network must return for one example, or for each token of it.
        loss: `loss(outputs [B, k] or [B, T, k], y [B, ...]) -> [B]` loss of each example.
        metrics: name -> `metric(outputs [n, k], y [n, ...]) -> []`, measured on `valid` and `test`.
        batch: examples in a training step.
        noise: scale of the noise in the second half of `valid` and `test`, which only the metrics
            look at; 0 where there is no such half: see `robustness.noisy`.
    """

    name: str
    train: Data
    valid: Data
    test: Data | None
    outputs: int
    loss: Measure
    metrics: Mapping[str, Measure]
    batch: int
    noise: float = 0.0


def task(
    name: str,
    train: tuple[Any, Any],
    valid: tuple[Any, Any],
    test: tuple[Any, Any] | None = None,
    *,
    loss: Measure | None = None,
    metrics: Mapping[str, Measure] | None = None,
    outputs: int | None = None,
    batch: int | None = None,
) -> Task:
    """A task from `(x, y)` arrays that are already split.

    What the targets are decides the loss and the metrics, unless these are given:

    - integers `[n]`: a classification (cross entropy, accuracy);
    - integers `[n, T]` beside integer inputs `[n, T]`: next tokens. A network returns `[n, T, k]`
      for a vocabulary of `k`; mean cross entropy of an example's tokens, accuracy of tokens,
      perplexity. The task does not shift: `y[:, t]` is what follows `x[:, :t + 1]`;
    - all others, `[n]` or `[n, k]`: a regression (squared error, R2).

    `batch` is 64 unless there are fewer training examples.

    Raises:
        InputError: data holds NaN or infinity, lengths or shapes differ, labels are negative,
            one-hot, counted from 1 or real numbers 0 and 1, a split is empty, there are fewer
            training examples than `batch`, or `outputs` does not fit the targets.
    """
    splits = checked(train, valid, test)
    given = [data for data in splits if data is not None]
    examples = len(given[0].x)
    batch = min(64, examples) if batch is None else batch
    if not 1 <= batch <= examples:
        raise InputError(f"batch {batch} does not fit {examples} training examples; lower batch")
    if loss is None:
        check_labels(given, outputs)
    outputs = outputs_needed(given) if outputs is None else outputs
    usual = _MEASURES[given[0].kind]
    metrics = usual[1] if metrics is None else metrics
    _check_names(metrics)
    return Task(name, *splits, outputs, loss or usual[0], dict(metrics), batch)


def arrays(
    x: Any, y: Any, *, name: str = "arrays", valid: float = 0.2, test: float = 0.2, **options: Any
) -> Task:
    """A task from one set of examples, split at random (seed 0) into train, valid and test.

    Args:
        x: `[n, ...]` inputs.
        y: `[n]` class numbers, `[n, T]` next tokens, or `[n]` or `[n, k]` real targets.
        name: a short label.
        valid: share of examples to compare members by.
        test: share of examples for the final result.
        options: as for `task`.
    """
    try:
        x, y = np.asarray(x), np.asarray(y)
        examples, targets = len(x), len(y)
    except (TypeError, ValueError) as error:
        raise InputError(f"x and y must be arrays with one entry an example: {error}") from None
    if examples != targets:
        raise InputError(f"x has {examples} examples but y has {targets}")
    if min(valid, test) < 0 or valid == 0 or valid + test >= 1:
        raise InputError(f"shares valid={valid} and test={test} must leave examples to train on")
    order = np.random.default_rng(0).permutation(len(x))
    parts = np.split(order, [round(len(x) * test), round(len(x) * (test + valid))])
    held = (x[parts[0]], y[parts[0]]) if len(parts[0]) else None
    return task(name, (x[parts[2]], y[parts[2]]), (x[parts[1]], y[parts[1]]), held, **options)


def output_shape(task: Task, examples: int) -> tuple[int, ...]:
    """The shape of what a network must return for so many examples."""
    data = task.valid
    return (examples, *(data.y.shape[1:] if data.kind == "tokens" else ()), task.outputs)


def cross_entropy(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Cross entropy `[B]` of logits `[B, ..., k]` against class numbers `[B, ...]`, a mean."""
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, y)
    return jnp.mean(losses, axis=range(1, losses.ndim))


def squared_error(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared error `[B]` over the targets `[B, k]` of each example."""
    return jnp.mean((outputs - y) ** 2, axis=-1)


def accuracy(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Share of examples, or of tokens, whose largest logit is the right class."""
    return jnp.mean(jnp.argmax(outputs, axis=-1) == y)


def perplexity(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Exponential of the mean cross entropy: as good as a guess among so many tokens."""
    return jnp.exp(jnp.mean(cross_entropy(outputs, y)))


def bits_per_character(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Mean cross entropy in bits, where tokens are characters."""
    return jnp.mean(cross_entropy(outputs, y)) / math.log(2.0)


def balanced_accuracy(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Mean over the classes that occur of the share of their examples that is found."""
    hit, _, real = _counts(outputs, y)
    return jnp.sum(hit / jnp.maximum(real, 1.0)) / jnp.maximum(jnp.sum(real > 0), 1)


def f1(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """F1, the harmonic mean of precision and recall, as a mean over classes.

    Those count that occur, in truth or as an answer.
    """
    hit, told, real = _counts(outputs, y)
    both = told + real
    return jnp.sum(2.0 * hit / jnp.maximum(both, 1.0)) / jnp.maximum(jnp.sum(both > 0), 1)


def _counts(outputs: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """For each class `[k]`: examples found, answers given, and examples there are."""
    classes = outputs.shape[-1]
    told = jax.nn.one_hot(jnp.argmax(outputs, axis=-1).ravel(), classes)
    real = jax.nn.one_hot(y.ravel(), classes)
    return jnp.sum(told * real, axis=0), jnp.sum(told, axis=0), jnp.sum(real, axis=0)


def mae(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Mean absolute error, over examples and targets."""
    return jnp.mean(jnp.abs(outputs - y))


def rmse(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Root of the mean squared error, over examples and targets."""
    return jnp.sqrt(jnp.mean((outputs - y) ** 2))


def r2(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Coefficient of determination, pooled over targets."""
    center = jnp.mean(y, axis=0, keepdims=True)
    return 1.0 - jnp.sum((outputs - y) ** 2) / jnp.maximum(jnp.sum((y - center) ** 2), 1e-12)


def digits() -> Task:
    """Handwritten digits, 8 x 8 pixels, 1797 examples (UCI, bundled with scikit-learn)."""
    x, y = _digits()
    return arrays(x, y, name="digits")


def digits_noisy() -> Task:
    """`digits` with the labels of 20 % of the training examples redrawn; the rest stays clean."""
    clean = digits()
    rng = np.random.default_rng(1)
    y = clean.train.y.copy()
    redrawn = rng.permutation(len(y))[: round(0.2 * len(y))]
    y[redrawn] = rng.integers(0, clean.outputs, len(redrawn))
    return task("digits-noisy", (clean.train.x, y), clean.valid, clean.test)


def spirals() -> Task:
    """Three interleaved noisy spirals in the plane, 3000 examples."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 3000)
    radius = np.sqrt(rng.uniform(0.01, 1.0, y.shape))
    angle = 3.0 * np.pi * radius + y * (2.0 * np.pi / 3.0)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return arrays(x + rng.normal(0.0, 0.03, x.shape), y, name="spirals")


def teacher() -> Task:
    """Labels of a seeded random network (16-64-64-8, tanh), with 8192 validation examples."""
    rng = np.random.default_rng(3)
    sizes = (16, 64, 64, 8)
    layers = [
        rng.normal(0, 2.0 / np.sqrt(a), (a, b)) for a, b in zip(sizes, sizes[1:], strict=False)
    ]
    x = rng.normal(0.0, 1.0, (4096 + 8192 + 8192, sizes[0]))
    hidden = np.tanh(np.tanh(x @ layers[0]) @ layers[1])
    y = np.argmax(hidden @ layers[2], axis=1)
    cuts = [4096, 4096 + 8192]
    splits = list(zip(np.split(x, cuts), np.split(y, cuts), strict=True))
    return task("teacher", splits[0], splits[1], splits[2])


def text(length: int = 64) -> Task:
    """The next character of Python's own help pages in English, about 370 kB, in windows.

    Training, validation and test windows come from parts of the text that follow one another.
    """
    help = corpus.python_help()
    codes = corpus.encode(help, corpus.vocabulary(help, _CHARACTERS))
    parts = np.split(codes, [len(codes) * 8 // 10, len(codes) * 9 // 10])
    train, valid, test = (
        corpus.windows(part, length, most)
        for part, most in zip(parts, (None, _HELD_OUT, _HELD_OUT), strict=True)
    )
    metrics = {"accuracy": accuracy, "bits_per_character": bits_per_character}
    outputs = _CHARACTERS + 1
    return task("text", train, valid, test, metrics=metrics, outputs=outputs, batch=16)


_MEASURES: dict[str, tuple[Measure, Mapping[str, Measure]]] = {
    "classes": (cross_entropy, {"accuracy": accuracy}),
    "tokens": (cross_entropy, {"accuracy": accuracy, "perplexity": perplexity}),
    "numbers": (squared_error, {"r2": r2}),
}

# What may be asked for by name, and of which kinds of targets it makes sense.
METRICS: dict[str, tuple[Measure, tuple[str, ...]]] = {
    "accuracy": (accuracy, ("classes", "tokens")),
    "balanced_accuracy": (balanced_accuracy, ("classes", "tokens")),
    "f1": (f1, ("classes", "tokens")),
    "mae": (mae, ("numbers",)),
    "perplexity": (perplexity, ("classes", "tokens")),
    "r2": (r2, ("numbers",)),
    "rmse": (rmse, ("numbers",)),
}


def with_metrics(task: Task, names: Sequence[str] | None) -> Task:
    """The task with these of `METRICS` instead of its own; itself where None are named.

    Raises:
        InputError: there is no such metric, or none for such targets.
    """
    if names is None:
        return task
    kind = task.valid.kind
    fit = [name for name, (_, kinds) in METRICS.items() if kind in kinds]
    listed = isinstance(names, Sequence) and not isinstance(names, str)
    for name in names if listed else (names,):
        if not isinstance(name, str) or name not in fit:
            raise InputError(f"metric {name!r} is none for {kind}; there are {', '.join(fit)}")
    if not listed:
        raise InputError(f"metrics must be a list of names, got {names!r}")
    # A noisy half of the data is measured by the task's own metrics alone.
    if task.noise:
        raise InputError("metrics cannot be replaced in a task with noise; give them to the task")
    return replace(task, metrics={name: METRICS[name][0] for name in names})


TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits,
    "digits-noisy": digits_noisy,
    "spirals": spirals,
    "teacher": teacher,
    "text": text,
}


def _digits() -> tuple[np.ndarray, np.ndarray]:
    # Read as the file it is: scikit-learn takes two seconds to import.
    package = importlib.util.find_spec("sklearn")
    assert package is not None and package.origin is not None, "scikit-learn is a dependency"
    table = np.loadtxt(
        Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz", delimiter=","
    )
    return table[:, :-1] / 16.0, table[:, -1].astype(int)


# Measured in any case.
_TAKEN = ("loss", "dead_units")


def _check_names(metrics: Mapping[str, Measure]) -> None:
    for name in metrics:
        if not (name.isidentifier() and name.isascii()) or name in _TAKEN:
            raise InputError(
                f"metric name {name!r} must be an identifier other than {' and '.join(_TAKEN)}"
            )


def measure(task: Task, outputs: Array, y: Array) -> dict[str, jax.Array]:
    """Mean loss and every metric of `outputs` `[n, k]` against `y`, by bare name."""
    clean = len(y) // 2 if task.noise else len(y)
    scores = {"loss": jnp.mean(task.loss(jnp.asarray(outputs[:clean]), jnp.asarray(y[:clean])))}
    found = {name: metric(outputs, y) for name, metric in task.metrics.items()}  # pyright: ignore[reportArgumentType]
    return scores | {name: jnp.asarray(score, jnp.float32) for name, score in found.items()}
