"""Gathers what single training steps show into windows, and what a whole job showed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from swarmjax.clock import Stamp
from swarmjax.errors import InputError
from swarmjax.windows import window


class Totals(NamedTuple):
    """All steps of a job.

    Attributes:
        steps: how many.
        loss: mean; NaN without any.
        gradient_norm: mean of those told; NaN without any.
        seconds: wall seconds of one step; NaN without any.
    """

    steps: int
    loss: float
    gradient_norm: float
    seconds: float


class Recorder:
    """One network's steps; `rows` are the windows not sent yet, for `windows.write_windows`."""

    def __init__(
        self,
        size: int,
        stamp: Callable[[], Stamp],
        usage: Callable[[], Mapping[str, float]],
    ):
        """Begins with the round 0.

        Args:
            size: steps of a window.
            stamp: says when a window ended.
            usage: says what was used during it.
        """
        if type(size) is not int or not 1 <= size <= 10**6:
            raise InputError(f"window must be a whole number from 1 to a million, got {size!r}")
        self._size, self._stamp, self._usage = size, stamp, usage
        self.rows: list[dict[str, Any]] = []
        self.begin(0)

    def begin(self, round: int) -> None:
        """A new job begins, in that round of the swarm."""
        self._round, self._losses, self._norms = round, [], []
        self._loss = self._norm = 0.0
        self._steps = self._normed = 0
        self._begun = self._opened = time.monotonic()

    def add(self, loss: float, gradient_norm: float | None, step: int) -> bool:
        """One step, after which `step` are behind the weights; True if it ended a window."""
        self._losses.append(float(loss))
        self._loss, self._steps = self._loss + self._losses[-1], self._steps + 1
        if gradient_norm is not None:
            self._norms.append(float(gradient_norm))
            self._norm, self._normed = self._norm + self._norms[-1], self._normed + 1
        if len(self._losses) < self._size:
            return False
        self._close(step)
        return True

    def end(self, step: int, told: Mapping[str, float]) -> Totals:
        """The job ends; `told` are columns of its last window, if it has one."""
        if self._losses:
            self._close(step)
        if self.rows:
            self.rows[-1] |= told
        steps, normed = self._steps, self._normed
        return Totals(
            steps,
            self._loss / steps if steps else math.nan,
            self._norm / normed if normed else math.nan,
            (time.monotonic() - self._begun) / steps if steps else math.nan,
        )

    def _close(self, step: int) -> None:
        now = time.monotonic()
        self.rows.append(window(
            self._losses, self._norms, round=self._round, step=step, seconds=now - self._opened,
            usage=self._usage(), stamp=self._stamp(),
        ))  # fmt: skip
        self._losses, self._norms, self._opened = [], [], now
