"""Detectors of strained resources: step time that stays high, and memory that keeps growing.

They look at one measurement a round. Step time is watched by an exponentially weighted moving
average (Roberts 1959, Technometrics 1) of its logarithm, which stands still while the time is high.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from swarmjax.anomaly import THRESHOLDS
from swarmjax.types import Array, namespace

# Weight of a new value in the moving average, and rounds before it is believed.
WEIGHT, WARMUP = 0.02, 5
# Rounds in which a process may take the memory that it needs: programs, buffers and caches.
SETTLING = 10
# Rounds in a row that must be slow, and that must find more memory used than ever.
SLOW, GROWING = 5, 8
# Deviations of the log step time are not told apart below this, nor peaks closer than the next.
_QUIET, _MORE = 0.1, 1.001


class Strain(NamedTuple):
    """What is remembered of measurements, of members or of anything else that has resources.

    Attributes:
        count: `[N]` int32 step times that the average is made of.
        mean: `[N]` moving average of the log step time.
        variance: `[N]` moving variance of it.
        slow: `[N]` int32 slow rounds in a row so far.
        measured: `[N]` int32 rounds in which memory was measured.
        base: `[N]` bytes before memory began to grow.
        peak: `[N]` most bytes so far.
        growing: `[N]` int32 rounds in a row with a new peak so far.
    """

    count: Array
    mean: Array
    variance: Array
    slow: Array
    measured: Array
    base: Array
    peak: Array
    growing: Array


def init(members: int) -> Strain:
    """Detectors that have seen nothing."""
    zero, none = np.zeros(members, np.float32), np.zeros(members, np.int32)
    return Strain(none, zero, zero, none, none, zero, zero, none)


def observe(strain: Strain, seconds: Array, memory: Array) -> tuple[Strain, dict[str, Array]]:
    """Looks at one round of every member: kind -> value `[N]`, 0 where it is no alarm.

    After an alarm the detector starts anew from what it finds.

    Args:
        strain: what was seen before.
        seconds: `[N]` of one step; NaN: not measured.
        memory: `[N]` bytes in use; NaN: not measured.
    """
    xp = namespace(strain.mean, seconds, memory)
    strain, slow = _step_time(strain, xp.asarray(seconds))
    strain, grown = _memory(strain, xp.asarray(memory))
    return strain, {"slow": slow, "memory": grown}


def _step_time(strain: Strain, seconds: Array) -> tuple[Strain, Array]:
    xp = namespace(strain.mean, seconds)
    known = xp.isfinite(seconds) & (seconds > 0)
    off = xp.log(xp.where(known, seconds, 1.0)) - strain.mean
    z = off / xp.sqrt(xp.maximum(strain.variance, _QUIET**2))
    high = known & (strain.count >= WARMUP) & (z > THRESHOLDS["slow"])
    slow = xp.where(known, xp.where(high, strain.slow + 1, 0), strain.slow)
    late = slow >= SLOW
    weight = xp.where(known & ~high, xp.maximum(WEIGHT, 1.0 / (strain.count + 1)), 0.0)
    return strain._replace(
        count=xp.where(late, 0, strain.count + (known & ~high)),
        mean=strain.mean + weight * off,
        variance=(1.0 - weight) * (strain.variance + weight * off**2),
        slow=xp.where(late, 0, slow),
    ), xp.where(late, z, 0.0)


def _memory(strain: Strain, memory: Array) -> tuple[Strain, Array]:
    xp = namespace(strain.peak, memory)
    measured = strain.measured + xp.isfinite(memory)
    known = xp.isfinite(memory) & (measured > SETTLING)
    first, higher = known & (strain.peak == 0), known & (memory > _MORE * strain.peak)
    growing = xp.where(known, xp.where(higher & ~first, strain.growing + 1, 0), strain.growing)
    base = xp.where(growing > 0, strain.base, xp.where(known, memory, strain.base))
    grown = known & (growing >= GROWING) & (memory > (1.0 + THRESHOLDS["memory"]) * base)
    return strain._replace(
        measured=measured,
        base=xp.where(grown, memory, base),
        peak=xp.where(higher, memory, strain.peak),
        growing=xp.where(grown, 0, growing),
    ), xp.where(grown, memory / xp.where(grown, base, 1.0) - 1.0, 0.0)
