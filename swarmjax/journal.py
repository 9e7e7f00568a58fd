"""Writes down what every round showed beside its Frame, and what this process used meanwhile."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from swarmjax import clock, levels, telemetry
from swarmjax.anatomy import Layer
from swarmjax.clock import Stamp
from swarmjax.curves import Rows
from swarmjax.space import Range
from swarmjax.types import Frame, Genome
from swarmjax.usage import Usage

Described = Sequence[tuple[str, Sequence[Layer]]]
_USED = ("cpu", "memory", "gpu", "gpu_memory")


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

    def __init__(self, keeper: Keeper, describe: Callable[[Genome], Described] = lambda genome: []):
        """Begins to watch what this process uses; `describe` as `anatomy.Describer`."""
        self._keeper, self._usage, self._then = keeper, Usage(), time.monotonic()
        self._describe = describe

    def write(
        self,
        round: int,
        table: pa.Table,
        frame: Frame,
        shown: Rows,
        islands: pa.Table | None = None,
    ) -> None:
        """Stores what a round showed; `table` is that of its `frame`.

        What `islands` used that trained for this process is added to what it used itself. That is
        stored last: with it, all of the round is there.
        """
        keep = self._keeper
        keep.rows("windows", round, telemetry.window_table(frame, shown.windows))
        keep.rows("steps", round, telemetry.window_table(frame, shown.steps))
        keep.rows("parameters", round, telemetry.parameter_table(frame, shown.parameters))
        keep.summary("quantiles", round, levels.quantiles(table, _spread(frame)))
        if found := self._describe(frame.genome):
            keep.summary("layers", round, telemetry.layer_table(round, found))
        elsewhere: list[dict[str, float]] = []
        if islands is not None:
            keep.summary("islands", round, islands)
            elsewhere = islands.select(list(_USED)).to_pylist()
        # Nobody else's clock is compared with: it is the controller's own.
        stamp, now = Stamp(*clock.read(), 0, 0), time.monotonic()
        used = together([self._usage.sample(), *elsewhere])
        table = telemetry.usage_table(round, now - self._then, used, stamp)
        keep.summary("usage", round, table)
        self._then = now


def together(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What several processes used; of GPUs the mean share of time, where anything is known."""
    known = {n: [s[n] for s in samples if not math.isnan(s[n])] for n in _USED}
    total = {n: sum(values) if values else math.nan for n, values in known.items()}
    return total | {"gpu": total["gpu"] / max(len(known["gpu"]), 1)}


def _spread(frame: Frame) -> list[str]:
    """Columns whose quantiles are kept: scores, and genes that are numbers of a range."""
    ranges = [name for name, gene in frame.space.genes if isinstance(gene, Range)]
    return ["train_loss", "gradient_norm", *frame.metrics, *ranges]
