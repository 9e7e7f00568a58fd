"""What the first page will ask of a run, worked out before it is opened.

Of a long run of many members that takes a while, in which a page that asks could not be answered.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from viz import courses, heatmap, metrics
from viz.history import Columns, History
from viz.layout import Layouts
from viz.reading import Stored

# Beside the metric by which members are ranked.
_READ = ("alive", "alarm")


def derive(history: History, before: Layouts | None = None) -> Layouts:
    """The layouts of a history, and in its keeping what the first page shows of its rounds."""
    prepare(history, 0 if before is None else len(before.history.frames) - 1)
    return Layouts(history, before)


def prepare(history: History, since: int = 0) -> None:
    """Works through rounds from a place on, of which every column is read once."""
    metric = metrics.describe(metrics.fitness_metric(history), history.space)
    for r in range(since, len(history.frames)):
        frame = _held(history.frames[r], (metric.name, *_READ))
        part = History(history.space, (*history.frames[:r], frame), None, history.growing)
        metrics.scaled_column(part, metric)
        metrics.ends(part, metric)
        courses.quantile_rows(part, metric)
        for name in _READ:
            part.column(name)
    courses.moves(history)
    heatmap.deaths(history)
    heatmap.alarms(history)


def _held(frame: Columns, names: tuple[str, ...]) -> Columns:
    """Some columns of a round, read at once, and where it is stored for the others."""
    return _Held(frame, frame.some(names)) if isinstance(frame, Stored) else frame


class _Held(Mapping[str, np.ndarray]):
    """A stored round, some columns of which are held."""

    def __init__(self, stored: Stored, held: Columns):
        self._stored, self._columns = stored, held

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name] if name in self._columns else self._stored[name]

    def __iter__(self):
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)
