"""Goals: functions from a Frame to `[N]` fitness, higher is better, NaN where nothing is known."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.dials import dial
from swarmjax.types import Array, Frame, InputError, namespace

Goal = Callable[[Frame], Array]

# Beyond it a weighted term might not be finite any more.
_HEAVIEST = 1e9


def metric(frame: Frame, name: str) -> Array:
    """The validation metric `name`, `[N]`; raises InputError, naming what there is, without it."""
    if name not in frame.metrics:
        known = ", ".join(sorted(frame.metrics)) or "no metric"
        raise InputError(f"the goal needs {name}, but the task reports {known}; choose among these")
    return frame.metrics[name]


def accuracy(frame: Frame) -> Array:
    """Prediction quality `[N]` in `[0, 1]`, so that one goal serves every task.

    It is `valid_accuracy`; for a task without it `valid_r2` clipped at 0; else the `loss` term.
    """
    if "valid_accuracy" in frame.metrics:
        return metric(frame, "valid_accuracy")
    return r2(frame) if "valid_r2" in frame.metrics else loss(frame)


def loss(frame: Frame) -> Array:
    """`1 / (1 + valid_loss)`, `[N]`; below a loss of 0 it goes on rising, towards 2."""
    return 1.0 - _bounded(metric(frame, "valid_loss"))


def gap(frame: Frame) -> Array:
    """`-g / (1 + |g|)` of the generalisation gap `g = valid_loss - loss`, `[N]` in `(-1, 1)`.

    `loss` is that of the last round in which the member trained, a mean over changing weights.
    """
    return -_bounded(_gap(frame))


def r2(frame: Frame) -> Array:
    """`valid_r2` clipped at 0, `[N]`."""
    value = metric(frame, "valid_r2")
    return namespace(value).maximum(value, 0.0)


def efficiency(frame: Frame) -> Array:
    """`accuracy` per floating-point operation of a step, `[N]` as a share of the living's best."""
    return _accuracy_per(frame.cost, 1.0, frame)


def efficiency_second(frame: Frame) -> Array:
    """`accuracy` per wall second of a step, `[N]` as a share of the living's best.

    Seconds are never twice the same, nor is a run whose policy looks at them.
    """
    return _accuracy_per(frame.seconds, 1e-9, frame)


def efficiency_byte(frame: Frame) -> Array:
    """`accuracy` per byte of weights and their optimizer state, `[N]`, a share of the best."""
    return _accuracy_per(frame.bytes, 1.0, frame)


def efficiency_parameter(frame: Frame) -> Array:
    """`accuracy` per weight, `[N]` as a share of the living's best."""
    return _accuracy_per(frame.parameters, 1.0, frame)


TERMS: dict[str, Goal] = {
    "accuracy": accuracy,
    "loss": loss,
    "r2": r2,
    "gap": gap,
    "efficiency": efficiency,
    "efficiency_second": efficiency_second,
    "efficiency_byte": efficiency_byte,
    "efficiency_parameter": efficiency_parameter,
}


def _gap(frame: Frame) -> Array:
    with np.errstate(invalid="ignore"):
        return metric(frame, "valid_loss") - namespace(frame.loss).asarray(frame.loss)


# Goals of `diversity` that are taken for terms, and how they are written.
_AROUND = {
    "shared": "sj.shared(sj.weighted(accuracy=1.0), 0.3)",
    "novelty": "sj.novelty(5, goal=sj.weighted(accuracy=1.0), weight=0.1)",
}

# What a member is measured by, as it is: not made a share, nor turned so that more is better.
QUANTITIES: dict[str, Goal] = {
    **TERMS,
    "loss": lambda frame: metric(frame, "valid_loss"),
    "r2": lambda frame: metric(frame, "valid_r2"),
    "gap": _gap,
    "train_loss": lambda frame: frame.loss,
    "gradient_norm": lambda frame: frame.gradient_norm,
    "steps": lambda frame: frame.steps,
    "total_steps": lambda frame: frame.total_steps,
    "cost": lambda frame: frame.cost,
    "parameters": lambda frame: frame.parameters,
    "bytes": lambda frame: frame.bytes,
    "seconds": lambda frame: frame.seconds,
}


def quantity(frame: Frame, name: str) -> Array:
    """The quantity `name` of `QUANTITIES`, or the metric of that name, `[N]` float32."""
    found = QUANTITIES[name](frame) if name in QUANTITIES else metric(frame, name)
    return namespace(found).asarray(found, np.float32)


def check_plain(name: str) -> None:
    """Raises InputError if `name` is a goal around another one, not something it is made of."""
    if name in _AROUND:
        raise InputError(
            f"a goal has no term {name!r}: that is a goal around another one, which no text tells; "
            f"write it in Python, as in {_AROUND[name]}"
        )


def check_known(name: str, known: Mapping[str, Goal]) -> None:
    """Raises InputError, naming the nearest, if `name` is neither known nor that of a metric."""
    check_plain(name)
    if name not in known and not name.startswith("valid_"):
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)} or valid_*"
        raise InputError(f"a goal has no term {name!r}; {hint}")


def weighted(**weights: float) -> Goal:
    """The goal `sum(weight * term)`, as in `weighted(accuracy=0.7, efficiency=0.3)`.

    Args:
        weights: per term of `TERMS`, quantity that is no term (`cost=-1e-9`) or metric of the task
            (`valid_f1=1.0`), its weight.

    Raises:
        InputError: no weight, an unknown term or a weight that is not finite; when the goal is
            used, a metric that the task does not report.

    Its weights are dials called `goal.accuracy` and so on, the same in all goals of a run.
    """
    if not weights:
        raise InputError(f"a goal needs at least one weight of {', '.join(TERMS)} or valid_*")
    for name, weight in weights.items():
        check_known(name, TERMS | QUANTITIES)
        if not abs(weight) <= _HEAVIEST:
            raise InputError(
                f"the weight of {name} must be finite and at most {_HEAVIEST:g}, got {weight}"
            )

    def goal(frame: Frame) -> Array:
        total = np.zeros(frame.alive.shape, np.float32)
        for name, weight in weights.items():
            term = TERMS[name](frame) if name in TERMS else quantity(frame, name)
            total = total + dial(frame, f"goal.{name}", weight, -_HEAVIEST, _HEAVIEST) * term
        return total

    goal.__name__ = f"weighted({', '.join(f'{k}={v}' for k, v in weights.items())})"
    return goal


def default(frame: Frame) -> Array:
    """`valid_accuracy`, ties broken by `valid_loss`; `-valid_loss` without it, `[N]`."""
    if "valid_accuracy" not in frame.metrics:
        return -metric(frame, "valid_loss")
    quality = metric(frame, "valid_accuracy")
    if "valid_loss" not in frame.metrics:
        return quality
    # One part in ten thousand is below one right answer in any validation set of less than 10k.
    return quality - 1e-4 * (1.0 - loss(frame))


def name_of(goal: Goal) -> str:
    """How a goal is called."""
    return getattr(goal, "__name__", type(goal).__name__)


def worst_if_dead(fitness: Array, frame: Frame) -> Array:
    """`fitness` with -inf for the dead and the unknown: the one guard against non-finite values."""
    xp = namespace(fitness, frame.alive)
    fitness = xp.asarray(fitness, np.float32)
    return xp.where(frame.alive & xp.isfinite(fitness), fitness, -np.inf)


def feasible(goal: Goal | None, frame: Frame) -> np.ndarray:
    """Who keeps within the limits of `goal`, `[N]` bool on the host; everyone where it has none."""
    check = getattr(goal, "feasible", None)
    return np.ones(len(frame.alive), bool) if check is None else np.asarray(check(frame))


def ranks(fitness: Array) -> jax.Array:
    """Places `[N]` int32 by fitness, 0 the best; ties go to the lower slot."""
    order = jnp.argsort(-jnp.asarray(fitness), stable=True)
    places = jnp.arange(order.shape[0], dtype=jnp.int32)
    return jnp.zeros_like(places).at[order].set(places)


def _bounded(value: Array) -> Array:
    """`v / (1 + |v|)`, in `(-1, 1)`."""
    xp = namespace(value)
    with np.errstate(invalid="ignore"):
        return xp.sign(value) * (xp.abs(value) / (1.0 + xp.abs(value)))


def _accuracy_per(quantity: Array, least: float, frame: Frame) -> Array:
    quality = accuracy(frame)
    xp = namespace(quality, quantity, frame.alive)
    gain = quality / xp.maximum(xp.asarray(quantity, np.float32), least)
    best = xp.max(xp.where(frame.alive & xp.isfinite(gain), gain, 0.0))
    return gain / xp.where(best > 0, best, 1.0)
