"""Tasks: data, loss and metrics, checked when made; bundled ones need no download."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from swarmjax.types import Array, InputError

Measure = Callable[[jax.Array, jax.Array], jax.Array]

# More outputs than this are a mistake in the labels rather than classes.
_MOST_CLASSES = 2**17


class Data(NamedTuple):
    """Examples: `x` `[n, ...]` float32 or int32, targets `y` `[n]` int32 or `[n, k]` float32."""

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True, eq=False)
class Task:
    """What the swarm learns; make one with `arrays` or `task`.

    Attributes:
        name: a short label.
        train: examples that weights are fitted to.
        valid: examples that members are compared by.
        test: examples for the final result only, or None.
        outputs: numbers a network must return for one example.
        loss: `loss(outputs [B, k], y [B, ...]) -> [B]` loss of each example.
        metrics: name -> `metric(outputs [n, k], y [n, ...]) -> []`, measured on `valid` and `test`.
        batch: examples in a training step.
    """

    name: str
    train: Data
    valid: Data
    test: Data | None
    outputs: int
    loss: Measure
    metrics: Mapping[str, Measure]
    batch: int


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

    Integer targets `[n]` make it a classification (cross entropy, accuracy), real ones `[n]` or
    `[n, k]` a regression (squared error, R2), unless `loss` and `metrics` say otherwise. `batch` is
    64 unless there are fewer training examples.

    Raises:
        InputError: data holds NaN or infinity, lengths or shapes differ, labels are negative, a
            split is empty, there are fewer training examples than `batch`, or `outputs` does not
            fit the targets.
    """
    splits = [_data(label, s) for label, s in (("train", train), ("valid", valid), ("test", test))]
    splits = _same_inputs(splits)
    given = [data for data in splits if data is not None]
    for data in given[1:]:
        _check_same(given[0], data)
    examples = len(given[0].x)
    batch = min(64, examples) if batch is None else batch
    if not 1 <= batch <= examples:
        raise InputError(f"batch {batch} does not fit {examples} training examples; lower batch")
    classes = given[0].y.dtype == np.int32
    needed = int(max(d.y.max() for d in given)) + 1 if classes else int(given[0].y.shape[1])
    if outputs is None:
        outputs = needed
    if loss is None and (outputs < needed if classes else outputs != needed):
        raise InputError(f"outputs {outputs} does not fit the targets, which need {needed}")
    loss = loss or (cross_entropy if classes else squared_error)
    if metrics is None:
        metrics = {"accuracy": accuracy} if classes else {"r2": r2}
    _check_names(metrics)
    return Task(name, splits[0], splits[1], splits[2], outputs, loss, dict(metrics), batch)  # pyright: ignore[reportArgumentType]


def arrays(
    x: Any, y: Any, *, name: str = "arrays", valid: float = 0.2, test: float = 0.2, **options: Any
) -> Task:
    """A task from one set of examples, split at random (seed 0) into train, valid and test.

    Args:
        x: `[n, ...]` inputs.
        y: `[n]` class numbers, or `[n]` or `[n, k]` real targets.
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


def cross_entropy(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Cross entropy `[B]` of logits `[B, k]` against class numbers `[B]`."""
    return optax.softmax_cross_entropy_with_integer_labels(outputs, y)


def squared_error(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared error `[B]` over the targets `[B, k]` of each example."""
    return jnp.mean((outputs - y) ** 2, axis=-1)


def accuracy(outputs: jax.Array, y: jax.Array) -> jax.Array:
    """Share of examples whose largest logit is the right class."""
    return jnp.mean(jnp.argmax(outputs, axis=-1) == y)


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


TASKS: dict[str, Callable[[], Task]] = {
    "digits": digits,
    "digits-noisy": digits_noisy,
    "spirals": spirals,
    "teacher": teacher,
}


def _digits() -> tuple[np.ndarray, np.ndarray]:
    # Imported here: scikit-learn takes a second to import, which other tasks need not pay.
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    return bunch.data / 16.0, bunch.target


def _check_names(metrics: Mapping[str, Measure]) -> None:
    for name in metrics:
        if not (name.isidentifier() and name.isascii()) or name == "loss":
            raise InputError(f"metric name {name!r} must be an identifier other than 'loss'")


def _data(label: str, split: tuple[Any, Any] | None) -> Data | None:
    if split is None:
        return None
    try:
        x, y = _inputs(label, split[0]), np.asarray(split[1])
        real = y.astype(np.float32)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{label} data must be arrays of numbers: {error}") from None
    if len(x) != len(y) or len(x) == 0:
        raise InputError(f"{label} data has {len(x)} inputs and {len(y)} targets; need equal, > 0")
    for part, values in (("inputs", x), ("targets", real)):
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if bad.any():
            raise InputError(
                f"{label} {part} hold NaN or infinity in {bad.sum()} of {len(x)} examples, "
                f"first at {int(bad.argmax())}; clean the data first"
            )
    if y.dtype.kind in "iub" and y.ndim == 1:
        if y.min() < 0 or y.max() >= _MOST_CLASSES:
            raise InputError(
                f"{label} labels must be class numbers from 0 to {_MOST_CLASSES - 1}, got "
                f"{y.min()} to {y.max()}; for a regression make them real numbers"
            )
        return Data(x, y.astype(np.int32))
    return Data(x, real.reshape(len(y), -1))


def _inputs(label: str, given: Any) -> np.ndarray:
    """Inputs as float32, or as int32 where they are whole numbers (tokens, pixels)."""
    x = np.asarray(given)
    if x.dtype.kind == "c":
        raise InputError(f"{label} inputs are complex; split them into real and imaginary parts")
    if x.dtype.kind in "iu" and abs(x).max(initial=0) < 2**31:
        return x.astype(np.int32)
    # What float32 cannot hold becomes infinite, and is refused as such.
    with np.errstate(over="ignore"):
        return x.astype(np.float32)


def _same_inputs(splits: list[Data | None]) -> list[Data | None]:
    """Whole numbers as inputs only if they are so in every split."""
    if len({data.x.dtype for data in splits if data is not None}) == 1:
        return splits
    return [data and data._replace(x=data.x.astype(np.float32)) for data in splits]


def _check_same(first: Data, other: Data) -> None:
    if first.x.shape[1:] != other.x.shape[1:]:
        raise InputError(f"inputs differ in shape: {first.x.shape[1:]} and {other.x.shape[1:]}")
    if first.y.dtype != other.y.dtype or first.y.shape[1:] != other.y.shape[1:]:
        raise InputError(f"targets differ: {first.y.dtype} and {other.y.dtype}, or their shapes")


def measure(task: Task, outputs: Array, y: Array) -> dict[str, jax.Array]:
    """Mean loss and every metric of `outputs` `[n, k]` against `y`, by bare name."""
    scores = {"loss": jnp.mean(task.loss(jnp.asarray(outputs), jnp.asarray(y)))}
    return scores | {name: metric(outputs, y) for name, metric in task.metrics.items()}  # pyright: ignore[reportArgumentType]
