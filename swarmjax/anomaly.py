"""Detectors of training that goes wrong: step by step inside compiled programs, and round by round.

Each kind of alarm is a bit of `Frame.alarm` (`KINDS`, in order) and compares a value with its
threshold (`THRESHOLDS`):

- `nonfinite`: a loss or gradient is not a number;
- `rise`: the Page-Hinkley statistic of the log loss (Page 1954, Biometrika 41; Hinkley 1971,
  Biometrika 58): how far it has risen above its mean in all, less `SLACK` a step;
- `spike`: the log gradient norm in standard deviations above its exponentially weighted moving
  average (Roberts 1959, Technometrics 1);
- advisory, from what a round showed: `vanished`, orders of magnitude of the gradient norm below the
  swarm's median; `outlier`, robust z-score of the log loss in the swarm (Iglewicz and Hoaglin
  1993); `gap`, the log ratio of validation to training loss while the former rises by a tenth and
  the latter falls; `dead`, the share of hidden units that make no difference between examples;
- of resources, see `strain`: `slow`, the log step time of the program it trains in, in standard
  deviations above its moving average; `memory`, its growth as a share, which no member of a process
  can be blamed for: events tell of it, no Frame.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.types import Array, Frame, InputError, namespace

THRESHOLDS = {
    "nonfinite": 0.0,
    "rise": 5.0,
    "spike": 6.0,
    "vanished": 6.0,
    "outlier": 3.5,
    "gap": 1.1,
    "slow": 4.0,
    "memory": 0.2,
    "dead": 0.5,
}
KINDS = tuple(THRESHOLDS)
# The kinds that `observe` watches; the others need the swarm or the validation data.
STREAMED = KINDS[:3]

# Of the Page-Hinkley test, in units of the log loss.
SLACK = 0.5
# Weight of a new value in the moving average of the log gradient norm.
WEIGHT = 0.05
# Steps before a spike can be told from the noise.
WARMUP = 20
# Log losses and norms are not told apart below this, nor their deviations below the next.
_LEAST, _QUIET = 1e-3, 0.1
# A validation loss that wavers is not rising.
_RISEN = 1.1


class Detector(NamedTuple):
    """What is remembered of a member's past: 20 bytes.

    Attributes:
        count: `[N]` int32 observations; in a training loop the steps behind the weights.
        level: `[N]` mean log loss so far.
        drift: `[N]` Page-Hinkley statistic of the log loss.
        mean: `[N]` moving average of the log gradient norm.
        variance: `[N]` moving variance of it.
    """

    count: Array
    level: Array
    drift: Array
    mean: Array
    variance: Array


class Flags(NamedTuple):
    """Alarms of the streamed kinds.

    Attributes:
        alarm: `[N]` int32 bits of the kinds that were raised.
        step: `[N, 3]` int32 count when each of `STREAMED` was first raised, -1 where it was not.
        value: `[N, 3]` what exceeded the threshold then, 0 where nothing did.
    """

    alarm: Array
    step: Array
    value: Array


Measured = Mapping[str, Array]


class Event(NamedTuple):
    """One alarm of one member; `step` counts the steps behind its weights."""

    kind: str
    member: int
    round: int
    step: int
    value: float
    threshold: float

    @property
    def text(self) -> str:
        """The alarm as a line of the run's events."""
        known = self.kind != "nonfinite" and math.isfinite(self.value)
        measured = f" ({self.value:.3g} > {self.threshold:g})" if known else ""
        return f"member {self.member}: {_MEANING[self.kind]} at step {self.step}{measured}"


class Line(NamedTuple):
    """What is written down of alarms, as `store.Writer.event` takes it."""

    kind: str
    text: str
    member: int | None
    value: float | None = None
    threshold: float | None = None


_MEANING = {
    "nonfinite": "loss, gradients or weights are no longer finite",
    "rise": "its loss keeps rising",
    "spike": "its gradient jumped",
    "vanished": "its gradient vanished",
    "outlier": "its loss is far above the swarm's",
    "gap": "validation loss rises while training loss falls",
    "slow": "its steps take longer and longer",
    "memory": "its memory keeps growing",
    "dead": "most of its hidden units are dead",
}


def bits(kinds: Iterable[str]) -> int:
    """The bit set of `kinds`; raises InputError, naming all, if there is no such kind."""
    total = 0
    for kind in kinds:
        if kind not in KINDS:
            raise InputError(f"no alarm is called {kind!r}; known: {', '.join(KINDS)}")
        total |= 1 << KINDS.index(kind)
    return total


def init(*shape: int) -> Detector:
    """Detectors that have seen nothing, on the host, for members of any shape."""
    zero = np.zeros(shape, np.float32)
    return Detector(np.zeros(shape, np.int32), *(zero.copy() for _ in range(4)))


def silent(*shape: int) -> Flags:
    """No alarm, on the host, for members of any shape."""
    each = (*shape, len(STREAMED))
    return Flags(np.zeros(shape, np.int32), np.full(each, -1, np.int32), np.zeros(each, np.float32))


def observe(
    detector: Detector, loss: Array, gradient_norm: Array, active: Array
) -> tuple[Detector, Flags]:
    """Looks at one step of every member; those not `active` `[N]` are left as they are.

    A loss below 0.001, or of no sign, counts as that: `rise` is blind there.
    """
    finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
    seen = active & finite
    after, rise = _page_hinkley(detector, _log(loss, finite))
    after, spike = _moving_average(after, _log(gradient_norm, finite))
    # Of what is not finite only that is known.
    raised = (
        active & ~finite,
        seen & (rise > THRESHOLDS["rise"]),
        seen & (spike > THRESHOLDS["spike"]),
    )
    after = after._replace(count=detector.count + 1, drift=jnp.where(raised[1], 0.0, after.drift))
    after = jax.tree.map(lambda new, old: jnp.where(seen, new, old), after, detector)
    return after, _flags(raised, detector.count, (jnp.ones_like(rise), rise, spike))


def _flags(raised: Sequence[Array], count: Array, values: Sequence[Array]) -> Flags:
    alarm = sum(jnp.where(fired, 1 << i, 0) for i, fired in enumerate(raised))
    step = [jnp.where(fired, count, -1) for fired in raised]
    value = [jnp.where(fired, value, 0.0) for fired, value in zip(raised, values, strict=True)]
    return Flags(jnp.asarray(alarm, jnp.int32), jnp.stack(step, axis=-1), jnp.stack(value, axis=-1))


def _log(value: Array, finite: Array) -> jax.Array:
    return jnp.log(jnp.maximum(jnp.where(finite, value, 1.0), _LEAST))


def _page_hinkley(detector: Detector, x: jax.Array) -> tuple[Detector, jax.Array]:
    """The statistic is never below 0: that is the sum of excesses less the least sum so far."""
    level = detector.level + (x - detector.level) / (detector.count + 1)
    drift = jnp.maximum(detector.drift + x - level - SLACK, 0.0)
    return detector._replace(level=level, drift=drift), drift


def _moving_average(detector: Detector, x: jax.Array) -> tuple[Detector, jax.Array]:
    """Deviations above the average of earlier steps; 0 as long as these are too few."""
    off = x - detector.mean
    z = off / jnp.sqrt(jnp.maximum(detector.variance, _QUIET**2))
    # A plain average until there are enough of them.
    weight = jnp.maximum(WEIGHT, 1.0 / (detector.count + 1))
    variance = (1.0 - weight) * (detector.variance + weight * off**2)
    after = detector._replace(mean=detector.mean + weight * off, variance=variance)
    return after, jnp.where(detector.count >= WARMUP, z, 0.0)


def join(before: Flags, after: Flags) -> Flags:
    """All alarms of both, each with the step and value of its first."""
    first = before.step >= 0
    return Flags(
        before.alarm | after.alarm,
        jnp.where(first, before.step, after.step),
        jnp.where(first, before.value, after.value),
    )


def inherit(detector: Detector, parent: Array, fresh: Array) -> Detector:
    """Detectors after weights moved: those of the `parent` `[N]` slots, new ones where `fresh`."""
    xp = namespace(*detector, parent, fresh)

    def moved(values):
        return xp.where(fresh, xp.zeros_like(values), values[parent])

    return Detector(*(moved(xp.asarray(values)) for values in detector))


def assess(before: Frame, frame: Frame) -> dict[str, Array]:
    """What the last round says about each member, advisory kind -> value `[N]`.

    Members that did not train in the round show nothing, and neither do the dead.
    """
    xp = namespace(frame.loss, frame.alive)
    trained = xp.asarray(frame.alive) & (frame.steps > 0)
    trained = trained & xp.isfinite(frame.loss) & xp.isfinite(frame.gradient_norm)
    loss = xp.log(xp.maximum(xp.where(trained, frame.loss, 1.0), _LEAST))
    norm = xp.log10(xp.maximum(xp.where(trained, frame.gradient_norm, 1.0), 1e-30))
    centre = _median(loss, trained)
    deviation = xp.maximum(_median(xp.abs(loss - centre), trained) / 0.6745, _QUIET)
    values = {"vanished": _median(norm, trained) - norm, "outlier": (loss - centre) / deviation}
    values["gap"] = _gap(before, frame, trained)
    if "valid_dead_units" in frame.metrics:
        values["dead"] = frame.metrics["valid_dead_units"]
    return {kind: xp.where(trained, value, 0.0) for kind, value in values.items()}


def _gap(before: Frame, frame: Frame, trained: Array) -> Array:
    xp = namespace(frame.loss, trained)
    old, new = (each.metrics.get("valid_loss", each.loss) for each in (before, frame))
    sure = trained & xp.isfinite(new) & (frame.loss > 0) & (new > 0)
    grows = sure & (new > _RISEN * old) & (frame.loss < before.loss) & (frame.birth == before.birth)
    ratio = xp.where(grows, new, 1.0) / xp.where(grows, frame.loss, 1.0)
    return xp.log(ratio)


def _median(values: Array, which: Array) -> Array:
    """The median of the chosen ones, the lower of two; 0 if there are none."""
    xp = namespace(values, which)
    count = xp.sum(which)
    ordered = xp.sort(xp.where(which, values, np.inf))
    return xp.where(count > 0, ordered[xp.maximum(count - 1, 0) // 2], 0.0)


def alarms(
    before: Frame, frame: Frame, flags: Flags | None = None, measured: Measured | None = None
) -> Array:
    """The bit set `[N]` int32 for `frame.alarm`: what `flags`, the round and what was measured say.

    `measured` are values of other kinds than those of `assess`.
    """
    xp = namespace(frame.loss, frame.alive)
    alarm = xp.where(frame.alive, 0, bits(["nonfinite"]))
    for kind, value in (assess(before, frame) | dict(measured or {})).items():
        alarm = alarm | xp.where(value > THRESHOLDS[kind], bits([kind]), 0)
    return xp.asarray(alarm if flags is None else alarm | flags.alarm, np.int32)


def events(
    before: Frame, frame: Frame, flags: Flags | None = None, measured: Measured | None = None
) -> list[Event]:
    """The alarms of `frame` that the same network did not show in `before`; on the host.

    `measured` as in `alarms`.
    """
    alarm, same = np.asarray(frame.alarm), np.asarray(frame.birth == before.birth)
    raised = alarm & ~np.where(same, before.alarm, 0)
    shown = assess(before, frame) | dict(measured or {})
    values = {kind: np.asarray(value) for kind, value in shown.items()}
    found = []
    for i, kind in enumerate(KINDS):
        for member in np.flatnonzero(raised & (1 << i)).tolist():
            step = int(frame.total_steps[member])
            # Of a streamed kind without flags only that it was raised is known.
            value = float(values[kind][member]) if kind in values else math.nan
            if flags is not None and kind in STREAMED and flags.step[member, i] >= 0:
                step, value = int(flags.step[member, i]), float(flags.value[member, i])
            found.append(Event(kind, member, int(frame.round), step, value, THRESHOLDS[kind]))
    return found


def told(found: Sequence[Event], most: int = 16) -> list[Line]:
    """Every line worth writing down: at most so many of a kind.

    How many more there were is told in a line of no member; the Frame shows them all. Of those who
    are slow one is told, since all who train in one program are.
    """
    lines, more, written = [], Counter(), Counter()
    for event in found:
        written[event.kind] += 1
        if written[event.kind] <= (1 if event.kind == "slow" else most):
            alarm = event.kind, event.text, event.member, event.value, event.threshold
            lines.append(Line(*alarm))
        else:
            more[event.kind] += 1
    return lines + [Line(kind, f"and {n} members more: {kind}", None) for kind, n in more.items()]
