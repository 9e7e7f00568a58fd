"""The cells of a heatmap, members by rounds, as so many as a screen can show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from viz import metrics
from viz.history import History
from viz.selection import Window

MAX_CELLS = 60_000
# Of rounds and members: what is drawn of a large heatmap.
PIXELS = (500, 400)


def cells(history: History) -> int:
    """Cells of the whole heatmap."""
    return len(history.rounds) * history.members


class Pixels(NamedTuple):
    """A picture of a heatmap.

    Attributes:
        at: rounds `[W]` in the middle of its columns.
        row: rows `[H]` of the heatmap in the middle of its own.
        values: `[H, W]`.
        bounds: left, bottom, right and top.
    """

    at: np.ndarray
    row: np.ndarray
    values: np.ndarray
    bounds: Window


def image(
    history: History, metric: metrics.Metric, sequence: np.ndarray, window: Window | None
) -> Pixels:
    """The scaled metric; of a large heatmap or a `window` of it, means of the cells of a pixel."""
    if cells(history) <= MAX_CELLS:
        window = None
    left, bottom, right, top = _cells_in(history, window)
    ends = np.searchsorted(history.rounds, (left, right + 1))
    shown, wide = sequence[bottom : top + 1], right - left + 1
    shape = wide, len(shown)
    if wide * len(shown) > MAX_CELLS:
        shape = min(wide, PIXELS[0]), min(len(shown), PIXELS[1])
    rows = _rows(history, metric, int(ends[0]), int(ends[1]), shape[0])
    found = blocks(rows, (left, right), shown, shape)
    bounds = (left - 0.5, bottom - 0.5, right + 0.5, top + 0.5)
    at, row = (
        low - 0.5 + (np.arange(n) + 0.5) * (high - low + 1) / n
        for low, high, n in ((left, right, shape[0]), (bottom, top, shape[1]))
    )
    return Pixels(at, row, found.T, bounds)


def _cells_in(history: History, window: Window | None) -> tuple[int, int, int, int]:
    """First round, lowest row, last round and highest row of what can be seen."""
    whole = int(history.rounds[0]), 0, int(history.rounds[-1]), history.members - 1
    if window is None:
        return whole
    left, bottom = (int(np.clip(round(window[i]), whole[i], whole[i + 2])) for i in (0, 1))
    right, top = (
        int(np.clip(round(window[i + 2]), (left, bottom)[i], whole[i + 2])) for i in (0, 1)
    )
    return left, bottom, right, top


def _rows(
    history: History, metric: metrics.Metric, first: int, end: int, wide: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers of the rounds from the position `first` to before `end`, and their values `[N]`.

    Of more rounds than twice the `wide`, means over 2, 4, ... rounds, which are kept.
    """
    level = max(0, ((end - first) // max(1, wide)).bit_length() - 1)
    size = 1 << level
    # Only whole groups of rounds are kept: the others still grow.
    lower, upper = -(-first // size), end // size
    grid = metrics.scaled_column(history, metric)
    for position in (*range(first, min(lower * size, end)), *range(max(upper * size, first), end)):
        yield int(history.rounds[position]), grid[position]
    if lower < upper:
        coarse = _halved(history, metric, grid, level)
        for group in range(lower, upper):
            yield int(history.rounds[group * size]), coarse[group]


def _halved(history: History, metric: metrics.Metric, grid: np.ndarray, level: int) -> np.ndarray:
    """Means `[R / 2^level, N]` of pairs of rounds, of pairs of these and so on, where known."""
    if level == 0:
        return grid
    finer = _halved(history, metric, grid, level - 1)
    pairs = range(len(finer) // 2)
    key = ("halved", metric.name, metric.log, level)
    return history.growing.rows(key, pairs, lambda i: _mean(finer[2 * i], finer[2 * i + 1]))


def _mean(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The mean of two, or the one that is known."""
    mean = (one + other) / 2
    return np.where(np.isnan(mean), np.where(np.isnan(one), other, one), mean)


def blocks(
    rows: Iterable[tuple[int, np.ndarray]],
    ends: tuple[int, int],
    sequence: np.ndarray,
    shape: tuple[int, int],
) -> np.ndarray:
    """Means over blocks of cells, NaN where nobody lived: `shape` many, of rounds and members.

    Args:
        rows: numbers of rounds and scaled values `[N]`; refused rounds leave gaps, so that the
            axis stays true.
        ends: the first and the last round to show.
        sequence: the member in each row from the bottom.
        shape: of the result.
    """
    wide, high = shape
    span = ends[1] - ends[0] + 1
    # Rows of a block lie side by side.
    starts = np.arange(high) * len(sequence) // high
    sums, counts = np.zeros(shape), np.zeros(shape)
    sizes = np.diff(starts, append=len(sequence))
    for number, whole in rows:
        values = whole[sequence]
        column = (number - ends[0]) * wide // span
        added, living = np.add.reduceat(values, starts, dtype=float), sizes
        if not np.isfinite(added).all():
            known = np.isfinite(values)
            added = np.add.reduceat(np.where(known, values, 0), starts, dtype=float)
            living = np.add.reduceat(known, starts, dtype=int)
        sums[column] += added
        counts[column] += living
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).astype(np.float32)
