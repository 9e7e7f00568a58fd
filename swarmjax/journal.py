"""Writes down what every round showed beside its Frame, and what this process used meanwhile."""

from __future__ import annotations

import time
from typing import Protocol

import pyarrow as pa

from swarmjax import clock, levels, telemetry
from swarmjax.clock import Stamp
from swarmjax.curves import Rows
from swarmjax.space import Range
from swarmjax.types import Frame
from swarmjax.usage import Usage


class Keeper(Protocol):
    """What keeps tables, as `store.Writer` does."""

    def rows(self, kind: str, round: int, table: pa.Table) -> None:
        """Stores many rows of a round."""
        ...

    def summary(self, kind: str, round: int, table: pa.Table) -> None:
        """Stores a few rows about a round."""
        ...


class Journal:
    """Of one process that trains."""

    def __init__(self, keeper: Keeper):
        """Begins to watch what this process uses."""
        self._keeper, self._usage, self._then = keeper, Usage(), time.monotonic()

    def write(self, round: int, table: pa.Table, frame: Frame, shown: Rows) -> None:
        """Stores what a round showed; `table` is that of its `frame`."""
        keep = self._keeper
        keep.rows("windows", round, telemetry.window_table(frame, shown.windows))
        keep.rows("steps", round, telemetry.window_table(frame, shown.steps))
        keep.rows("parameters", round, telemetry.parameter_table(frame, shown.parameters))
        keep.summary("quantiles", round, levels.quantiles(table, _spread(frame)))
        # Nobody else's clock is compared with: it is the controller's own.
        stamp, now = Stamp(*clock.read(), 0, 0), time.monotonic()
        used = telemetry.usage_table(round, now - self._then, self._usage.sample(), stamp)
        keep.summary("usage", round, used)
        self._then = now


def _spread(frame: Frame) -> list[str]:
    """Columns whose quantiles are kept: scores, and genes that are numbers of a range."""
    ranges = [name for name, gene in frame.space.genes if isinstance(gene, Range)]
    return ["train_loss", "gradient_norm", *frame.metrics, *ranges]
