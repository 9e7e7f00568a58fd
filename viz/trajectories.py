"""A metric over time: selected members as lines, the swarm as a band behind them."""

from __future__ import annotations

import math
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from viz import metrics
from viz.courses import (
    SHARES,
    Band,
    measured,
    moves,
    over_own_range,
    quantile_rows,
    quantiles,
    shown,
    spread,
    times,
    widened,
)
from viz.history import History
from viz.margins import room, spaced
from viz.marks import element, overlay
from viz.theme import LIGHT, LINES, Look, figure, letters, mixed, pick_colors, styled

# Kinds of line, of the first metric and of those beside it.
DASHES = ("solid", "dashed", "dotted")
UNIT = "share of each metric's own range"


def plot(
    history: History,
    *,
    metric: str,
    axis: str = "round",
    also: tuple[str, ...] = (),
    members: tuple[int, ...] = (),
    look: Look = LIGHT,
) -> hv.Overlay:
    """Band, median and one line per member; dots where a slot took over another's weights.

    With metrics `also` (two at most), every metric goes over its own range, from 0 to 1, and has
    its own kind of line, as in `DASHES`; the band is that of the first.
    """
    colors = pick_colors(shown(history, members, look), look)
    told, grids = _grids(history, metric, also, tuple(colors))
    band = widened(_band(history, metric, axis, also))
    whole = times(history, axis)
    x = whole[:, list(colors)]
    extents = _extents(whole, np.concatenate([band.low, band.high, *map(np.ravel, grids)]), told)
    parts = [
        *_swarm(band, look),
        *(_lines(x, grid, colors, dash) for grid, dash in zip(grids, DASHES, strict=True)),
        _marks(history, x, grids[0], colors, extents),
        _alarms(history, x, grids[0], colors, look),
        *_ends(x, grids[0], colors, extents, told),
    ]
    return styled(overlay(parts), **_style(told, axis))


def _grids(
    history: History, metric: str, also: tuple[str, ...], members: tuple[int, ...]
) -> tuple[metrics.Metric, list[np.ndarray]]:
    """How the vertical axis is told, and the values `[R, K]` for each of `DASHES`, NaN for none."""
    told = metrics.describe(metric, history.space)
    if also:
        names = (metric, *also)[: len(DASHES)]
        told = metrics.Metric(metric, UNIT, 0, False)
        grids = [over_own_range(history, name, members) for name in names]
    else:
        grids = [measured(history, told, members)]
    return told, grids + [np.full(grids[0].shape, np.nan)] * (len(DASHES) - len(grids))


def _band(history: History, metric: str, axis: str, also: tuple[str, ...]) -> Band:
    told = metrics.describe(metric, history.space)
    if axis == "round" and not also:
        return quantiles(history, told)
    every = over_own_range(history, metric) if also else measured(history, told)
    return spread(times(history, axis), every)


def _extents(
    x: np.ndarray, drawn: np.ndarray, told: metrics.Metric
) -> tuple[float, float, float, float]:
    """Of the figure; some space on the right is for the members' numbers."""
    left, right = (float(end) for end in (x.min(), x.max()))
    if left == right:
        left, right = left - 0.5, right + 0.5
    low, high = room(drawn, told)
    span = right - left
    return left - 0.02 * span, low, right + 0.1 * span, high


def _swarm(band: Band, look: Look) -> list[hv.Element]:
    area = element(hv.Area, (band.at, band.low, band.high), "t", ["low", "high"])
    middle = element(hv.Curve, (band.at, band.middle), "t", "low")
    return [
        styled(area, color=look.band, alpha=0.28, line_alpha=0),
        styled(middle, color=look.muted, line_width=1.5, line_dash="dashed"),
    ]


def table(
    history: History,
    *,
    metric: str,
    axis: str = "round",
    also: tuple[str, ...] = (),
    members: tuple[int, ...] = (),
    look: Look = LIGHT,
) -> pd.DataFrame:
    """The lines in numbers, and the swarm's quantiles of the first metric: one row per round."""
    told = metrics.describe(metric, history.space)
    columns: dict[str, np.ndarray] = {"round": history.rounds}
    for share, values in zip(SHARES, quantile_rows(history, told).T, strict=True):
        columns[f"{told.label}, {share:.0%} of the swarm"] = values
    for member in shown(history, members, look):
        if axis != "round":
            columns[f"steps of member {member}"] = times(history, axis)[:, member]
        for name in dict.fromkeys((metric, *also)):
            each = metrics.describe(name, history.space)
            columns[f"{each.label} of member {member}"] = measured(history, each, [member])[:, 0]
    return pd.DataFrame(columns)


def _lines(x: np.ndarray, y: np.ndarray, colors: dict[int, str], dash: str) -> hv.Contours:
    paths = [
        {"t": x[:, i], "v": y[:, i], "color": color} for i, color in enumerate(colors.values())
    ] + [{"t": [t], "v": [v], "color": color} for t, v, color in mixed([], *[math.nan] * 2)]
    lines = element(hv.Contours, paths, ["t", "v"], "color")
    return styled(lines, color="color", line_width=2.2, line_dash=dash)


def _alarms(
    history: History, x: np.ndarray, y: np.ndarray, colors: dict[int, str], look: Look
) -> hv.Points:
    """Triangles where a drawn member raised an alarm."""
    alarm = history.column("alarm")
    spots = [
        (x[r, i], y[r, i])
        for i, m in enumerate(colors)
        for r in np.flatnonzero((alarm[:, m] != 0) & np.isfinite(y[:, i]))
    ]
    return styled(
        element(hv.Points, spots, ["t", "v"]), marker="triangle", size=9, color=look.alarm,
        line_color=look.paper, line_width=1,
    )  # fmt: skip


def _marks(
    history: History,
    x: np.ndarray,
    y: np.ndarray,
    colors: dict[int, str],
    extents: tuple[float, float, float, float],
) -> hv.Points:
    moved = moves(history)
    spots = [
        (x[r, i], y[r, i], color)
        for i, (member, color) in enumerate(colors.items())
        for r in moved[moved[:, 1] == member, 0]
        if np.isfinite(y[r, i])
    ]
    return styled(
        element(hv.Points, mixed(spots, *[math.nan] * 2), ["t", "v"], "color", extents=extents),
        color="color",
        size=7,
        line_color="white",
        line_width=1,
    )


def _ends(
    x: np.ndarray,
    y: np.ndarray,
    colors: dict[int, str],
    extents: tuple[float, float, float, float],
    metric: metrics.Metric,
) -> list[hv.Element]:
    """Each line's member number behind its last finite value, none above another; and leaders."""
    finite = {m: np.flatnonzero(np.isfinite(y[:, i])) for i, m in enumerate(colors)}
    place = {m: i for i, m in enumerate(colors)}
    last = {m: (int(known[-1]), place[m]) for m, known in finite.items() if known.size}
    bottom, top = metrics.scaled(np.array(extents[1::2]), metric)
    wished = {m: float(metrics.scaled(y[at][None], metric)[0]) for m, at in last.items()}
    gap = 0.06 * (top - bottom)
    heights = spaced(wished, bottom + gap / 2, top - gap / 2, gap=gap) if wished else {}
    reach = 0.03 * (extents[2] - extents[0])
    leaders = [
        (x[last[m]], y[last[m]], x[last[m]] + reach, metrics.unscaled(h, metric), m)
        for m, h in heights.items()
    ]
    return [_leaders(leaders, colors), _numbers(leaders, colors)]


def _leaders(leaders: list[tuple], colors: dict[int, str]) -> hv.Segments:
    rows = mixed(((*line, colors[m]) for *line, m in leaders), *[math.nan] * 4)
    return styled(
        element(hv.Segments, rows, ["t", "v", "t2", "v2"], "color"),
        color="color",
        line_width=1,
        alpha=0.7,
    )


def _numbers(leaders: list[tuple], colors: dict[int, str]) -> hv.Labels:
    rows = mixed(((*line[2:], f" {m}", colors[m]) for *line, m in leaders), *[math.nan] * 2, "")
    return styled(
        element(hv.Labels, rows, ["t", "v"], ["text", "color"]),
        text_color="color",
        text_align="left",
        text_font_style="bold",
        **letters(),
    )


def _style(metric: metrics.Metric, axis: str) -> dict[str, Any]:
    return figure(
        xlabel="round" if axis == "round" else "training steps",
        ylabel=metric.label if metric.label == UNIT else "",
        logy=metric.log,
        **LINES,
    )
