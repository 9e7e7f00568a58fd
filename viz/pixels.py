"""The cells of a heatmap, members by rounds, as so many as a screen can show."""

from __future__ import annotations

import holoviews as hv
import numba
import numpy as np
from holoviews.operation.datashader import rasterize

from viz import metrics
from viz.history import History
from viz.selection import Window

MAX_CELLS = 60_000
# Of rounds and members: what is drawn of a large heatmap, and what that is made from.
PIXELS, BLOCKS = (900, 400), (1800, 1600)


def cells(history: History) -> int:
    """Cells of the whole heatmap."""
    return len(history.rounds) * history.members


def image(
    history: History, metric: metrics.Metric, sequence: np.ndarray, window: Window | None
) -> hv.Image:
    """The scaled metric; of a large heatmap or a `window` of it, means drawn by datashader."""
    if cells(history) <= MAX_CELLS:
        window = None
    left, bottom, right, top = _cells_in(history, window)
    within = slice(*np.searchsorted(history.rounds, (left, right + 1)))
    grid = metrics.scaled_column(history, metric)[within]
    found = blocks(grid, history.rounds[within], (left, right), sequence[bottom : top + 1])
    bounds = (left - 0.5, bottom - 0.5, right + 0.5, top + 0.5)
    axes = [
        low - 0.5 + (np.arange(n) + 0.5) * (high - low + 1) / n
        for low, high, n in ((left, right, found.shape[0]), (bottom, top, found.shape[1]))
    ]
    # One round or one member has no spacing to read the size of a cell from.
    dense = {
        "xdensity": len(axes[0]) / (right - left + 1),
        "ydensity": len(axes[1]) / (top - bottom + 1),
    }
    shown = hv.Image((*axes, found.T), ["at", "row"], ["z"], bounds=bounds, **dense)
    small = found.shape[0] <= PIXELS[0] and found.shape[1] <= PIXELS[1]
    # Of a single column or row datashader cannot tell how large a cell is.
    if cells(history) <= MAX_CELLS or small or 1 in found.shape:
        return shown
    wide, high = (min(most, n) for most, n in zip(PIXELS, found.shape, strict=True))
    spans = {"x_range": bounds[::2], "y_range": bounds[1::2], "width": wide, "height": high}
    return rasterize(shown, dynamic=False, **spans)


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


def blocks(
    grid: np.ndarray, rounds: np.ndarray, ends: tuple[int, int], sequence: np.ndarray
) -> np.ndarray:
    """Means over blocks of cells, NaN where nobody lived: at most `BLOCKS`, of rounds and rows.

    Args:
        grid: `[R, N]` scaled values.
        rounds: `[R]` their numbers; refused rounds leave gaps, so that the axis stays true.
        ends: the first and the last round to show.
        sequence: the member in each row from the bottom.
    """
    span = ends[1] - ends[0] + 1
    wide, high = min(span, BLOCKS[0]), min(len(sequence), BLOCKS[1])
    columns, rows = (rounds - ends[0]) * wide // span, np.arange(len(sequence))
    sums, counts = np.zeros((wide, high)), np.zeros((wide, high), np.int64)
    # A block holds the rows from the place of its own first one on.
    starts = np.arange(high) * len(sequence) // high
    _add(grid, sequence, columns, np.searchsorted(starts, rows, "right") - 1, sums, counts)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


@numba.njit(nogil=True)
def _add(
    grid: np.ndarray,
    sequence: np.ndarray,
    columns: np.ndarray,
    blocks: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Adds every known value to the sum of its block, and counts it there."""
    for r in range(len(grid)):
        for i in range(len(sequence)):
            value = grid[r, sequence[i]]
            if np.isfinite(value):
                sums[columns[r], blocks[i]] += value
                counts[columns[r], blocks[i]] += 1
