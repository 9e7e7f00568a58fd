"""Training between two rounds: the loss of selected members, window by window of a few steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import holoviews as hv
import numpy as np
import pandas as pd
import pyarrow as pa

from swarmjax import levels
from viz.margins import room
from viz.marks import element, overlay
from viz.metrics import Metric
from viz.theme import LIGHT, LINES, Look, figure, mixed, pick_colors, styled

# Of a line; where there are more windows, neighbours are put together.
MOST = 500
LOSS = Metric("train_loss", "training loss", -1, True)
NORM = Metric("gradient_norm", "gradient norm", 0, True)
METRICS = {metric.label: metric.name for metric in (LOSS, NORM)}
_NAMES = {
    "birth": "network", "step": "training steps", "steps": "window of",
    "train_loss_min": "least loss", "train_loss": "mean loss", "train_loss_max": "greatest loss",
    "gradient_norm": "gradient norm",
}  # fmt: skip

Columns = Mapping[str, np.ndarray]


def plot(
    windows: pd.DataFrame,
    *,
    members: tuple[int, ...],
    metric: str = "train_loss",
    look: Look = LIGHT,
) -> hv.Overlay:
    """One line per member against the steps behind its weights; thin lines: least and greatest.

    A line ends where the member's network gives way to another one, and the next begins.

    Args:
        windows: rows of a window table of these members, see `swarmjax.telemetry`, by time.
        members: as many are drawn as there are colours.
        metric: `train_loss` or `gradient_norm`.
        look: colours.
    """
    told = LOSS if metric == LOSS.name else NORM
    colors = pick_colors(members, look)
    lines = [line for line in _lives(thinned(windows)) if int(line["member"][0]) in colors]
    ends = ("train_loss_min", "train_loss_max") if told is LOSS else ()
    parts = [
        _lines(lines, colors, ends, line_width=0.8, alpha=0.45),
        _lines(lines, colors, (told.name,), line_width=2.2),
        _frame(lines, (told.name, *ends), told),
    ]
    return styled(
        overlay(parts),
        **figure(xlabel="training steps", ylabel=told.label, logy=told.log, **LINES),
    )


def table(windows: pd.DataFrame) -> pd.DataFrame:
    """Every window, not put together with others, the latest of each member first."""
    order = np.lexsort([-windows[name].to_numpy() for name in ("step", "round")])
    order = order[np.argsort(windows["member"].to_numpy()[order], kind="stable")]
    names = {"member": "member", "round": "round"} | _NAMES
    return pd.DataFrame({to: windows[name].to_numpy()[order] for name, to in names.items()})


def thinned(windows: pd.DataFrame, most: int = MOST) -> pd.DataFrame:
    """At most about `most` windows of every member, neighbours put together as few as need be."""
    lines = [rows for _, rows in windows.groupby("member")]
    parts = [
        levels.coarsen(
            pa.Table.from_pandas(rows, preserve_index=False), -(-len(rows) // most)
        ).to_pandas()
        for rows in lines
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else windows


def lengths(windows: pd.DataFrame) -> str:
    """How many steps a drawn point stands for, in words."""
    steps = thinned(windows)["steps"].to_numpy()
    if not len(steps):
        return "no windows are kept of these members"
    # The last window of a round is as short as the round leaves it: a few are not told of.
    least = int(np.quantile(steps, 0.1, method="inverted_cdf"))
    most = int(steps.max())
    length = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    return f"each point: the mean of a window of {length} step{'s' if most > 1 else ''}"


def _lives(windows: pd.DataFrame) -> list[Columns]:
    """The columns of each network of each member; they are never empty."""
    columns = {name: windows[name].to_numpy() for name in ("member", *_NAMES)}
    other = np.diff(columns["member"]) | np.diff(columns["birth"])
    ends = [0, *(np.flatnonzero(other) + 1).tolist(), len(windows)]
    parts = [slice(*pair) for pair in pairwise(ends) if pair[0] < pair[1]]
    return [{name: values[part] for name, values in columns.items()} for part in parts]


def _lines(
    lives: Sequence[Columns], colors: dict[int, str], names: tuple[str, ...], **options: float
) -> hv.Contours:
    paths = [
        {"t": life["step"], "v": _positive(life[name]), "color": colors[int(life["member"][0])]}
        for life in lives
        for name in names
    ] + [{"t": [t], "v": [v], "color": color} for t, v, color in mixed([], *[math.nan] * 2)]
    return styled(element(hv.Contours, paths, ["t", "v"], "color"), color="color", **options)


def _positive(values: np.ndarray) -> np.ndarray:
    """What a logarithmic axis can show."""
    return np.where(np.isfinite(values) & (values > 0), values, np.nan).astype(float)


def _frame(lives: Sequence[Columns], names: tuple[str, ...], metric: Metric) -> hv.Points:
    """Nothing but the extents of the figure."""
    values = [_positive(life[name]) for life in lives for name in names]
    low, high = room(np.concatenate([[], *values]), metric)
    right = max((int(life["step"][-1]) for life in lives), default=1)
    extents = (-0.02 * right, low, 1.02 * right, high)
    return element(hv.Points, [(math.nan, math.nan)], ["t", "v"], extents=extents)
