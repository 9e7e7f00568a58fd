"""A metric over time: selected members as lines, the swarm as a band behind them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import holoviews as hv
import numpy as np
import pandas as pd
from scipy.optimize import isotonic_regression

from viz import metrics
from viz.scatter import room
from viz.source import History
from viz.theme import LIGHT, TOOLS, Look, figure, letters, mixed, pick_colors, styled

TOP = 5
BINS = 60
# Kinds of line, of the first metric and of those beside it.
DASHES = ("solid", "dashed", "dotted")
UNIT = "share of each metric's own range"
AXES = {"round": "round", "training steps": "step"}


class Band(NamedTuple):
    """Spread of the living swarm: `[B]` positions and the 10, 50 and 90 % quantiles there."""

    at: np.ndarray
    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray


def shown(history: History, members: tuple[int, ...], look: Look) -> tuple[int, ...]:
    """The members drawn: of the selected as many as there are colours, else the top five."""
    chosen = members or tuple(int(member) for member in metrics.ranking(history)[:TOP])
    return chosen[: len(look.picks)]


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
    x = times(history, axis)
    told, grids = _grids(history, metric, also)
    colors = pick_colors(shown(history, members, look), look)
    band = widened(spread(x, grids[0]))
    drawn = [grid[:, list(colors)].ravel() for grid in grids]
    extents = _extents(x, np.concatenate([band.low, band.high, *drawn]), told)
    parts = [
        *_swarm(band, look),
        *(_lines(x, grid, colors, dash) for grid, dash in zip(grids, DASHES, strict=True)),
        _marks(history, x, grids[0], colors, extents),
        _alarms(history, x, grids[0], colors, look),
        *_ends(x, grids[0], colors, extents, told),
    ]
    return styled(hv.Overlay(parts), **_style(told, axis))


def _grids(
    history: History, metric: str, also: tuple[str, ...]
) -> tuple[metrics.Metric, list[np.ndarray]]:
    """How the vertical axis is told, and the values `[R, N]` for each of `DASHES`, NaN for none."""
    told = metrics.describe(metric, history.space)
    if also:
        names = (metric, *also)[: len(DASHES)]
        told = metrics.Metric(metric, UNIT, 0, False)
        grids = [over_own_range(history, name) for name in names]
    else:
        grids = [measured(history, told)]
    return told, grids + [np.full(grids[0].shape, np.nan)] * (len(DASHES) - len(grids))


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
    area = hv.Area((band.at, band.low, band.high), "t", ["low", "high"])
    middle = hv.Curve((band.at, band.middle), "t", "low")
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
    grid = measured(history, told)
    columns: dict[str, np.ndarray] = {"round": history.rounds}
    rows = [row[np.isfinite(row)] for row in grid]
    for share in (0.1, 0.5, 0.9):
        label = f"{told.label}, {share:.0%} of the swarm"
        columns[label] = np.array([np.quantile(r, share) if r.size else np.nan for r in rows])
    for member in shown(history, members, look):
        if axis != "round":
            columns[f"steps of member {member}"] = times(history, axis)[:, member]
        for name in dict.fromkeys((metric, *also)):
            each = metrics.describe(name, history.space)
            columns[f"{each.label} of member {member}"] = measured(history, each)[:, member]
    return pd.DataFrame(columns)


def over_own_range(history: History, name: str) -> np.ndarray:
    """The metric `[R, N]` from 0, its least value in the run, to 1, its largest."""
    metric = metrics.describe(name, history.space)
    values = metrics.scaled(measured(history, metric), metric)
    if not np.isfinite(values).any():
        return values
    low, high = np.nanmin(values), np.nanmax(values)
    return (values - low) / (high - low) if high > low else values * 0 + 0.5


def times(history: History, axis: str) -> np.ndarray:
    """Where each measurement stands, `[R, N]`: its round, or the steps behind its weights."""
    if axis == "round":
        return np.broadcast_to(history.rounds[:, None], (len(history.rounds), history.members))
    return history.column("step")


def measured(history: History, metric: metrics.Metric) -> np.ndarray:
    """The metric `[R, N]`, NaN where it is not finite, the member dead, or a logarithm undone."""
    raw = history.column(metric.name).astype(float)
    usable = history.column("alive") & np.isfinite(raw)
    return np.where(usable & ((raw > 0) | (not metric.log)), raw, np.nan)


def spread(x: np.ndarray, y: np.ndarray) -> Band:
    """Quantiles of `y` over the members, by position in at most `BINS` bins."""
    distinct = np.unique(x)
    if len(distinct) > BINS:
        edges = np.linspace(distinct[0], distinct[-1], BINS + 1)
        bins = np.clip(np.digitize(x, edges) - 1, 0, BINS - 1)
        distinct = (edges[:-1] + edges[1:]) / 2
    else:
        bins = np.searchsorted(distinct, x)
    usable = np.isfinite(y)
    groups = [y[(bins == i) & usable] for i in range(len(distinct))]
    filled = [i for i, group in enumerate(groups) if group.size]
    quantiles = np.array([np.quantile(groups[i], (0.1, 0.5, 0.9)) for i in filled]).reshape(-1, 3)
    return Band(distinct[filled], *quantiles.T)


def widened(band: Band) -> Band:
    """The band itself, or a stub that can be seen where there is but one position."""
    if len(band.at) != 1:
        return band
    at = band.at[0]
    return Band(np.array([at - 0.2, at + 0.2]), *(np.repeat(part, 2) for part in band[1:]))


def _lines(x: np.ndarray, y: np.ndarray, colors: dict[int, str], dash: str) -> hv.Contours:
    paths = [
        {"t": x[:, member], "v": y[:, member], "color": color} for member, color in colors.items()
    ] + [{"t": [t], "v": [v], "color": color} for t, v, color in mixed([], *[math.nan] * 2)]
    lines = hv.Contours(paths, ["t", "v"], "color")
    return styled(lines, color="color", line_width=2.2, line_dash=dash)


def _alarms(
    history: History, x: np.ndarray, y: np.ndarray, colors: dict[int, str], look: Look
) -> hv.Points:
    """Triangles where a drawn member raised an alarm."""
    raised = (history.column("alarm") != 0) & np.isfinite(y)
    spots = [(x[r, m], y[r, m]) for m in colors for r in np.flatnonzero(raised[:, m])]
    return styled(
        hv.Points(spots, ["t", "v"]), marker="triangle", size=9, color=look.alarm,
        line_color=look.paper, line_width=1,
    )  # fmt: skip


def _marks(
    history: History,
    x: np.ndarray,
    y: np.ndarray,
    colors: dict[int, str],
    extents: tuple[float, float, float, float],
) -> hv.Points:
    copied = history.column("parent") != history.column("member")
    spots = [
        (x[r, member], y[r, member], color)
        for member, color in colors.items()
        for r in np.flatnonzero(copied[:, member] & np.isfinite(y[:, member]))
    ]
    return styled(
        hv.Points(mixed(spots, *[math.nan] * 2), ["t", "v"], "color", extents=extents),
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
    finite = np.isfinite(y)
    last = {m: int(np.flatnonzero(finite[:, m])[-1]) for m in colors if finite[:, m].any()}
    bottom, top = metrics.scaled(np.array(extents[1::2]), metric)
    wished = {m: float(metrics.scaled(y[r, m : m + 1], metric)[0]) for m, r in last.items()}
    gap = 0.06 * (top - bottom)
    heights = spaced(wished, bottom + gap / 2, top - gap / 2, gap=gap) if wished else {}
    reach = 0.03 * (extents[2] - extents[0])
    leaders = [
        (x[last[m], m], y[last[m], m], x[last[m], m] + reach, metrics.unscaled(h, metric), m)
        for m, h in heights.items()
    ]
    return [_leaders(leaders, colors), _numbers(leaders, colors)]


def _leaders(leaders: list[tuple], colors: dict[int, str]) -> hv.Segments:
    rows = mixed(((*line, colors[m]) for *line, m in leaders), *[math.nan] * 4)
    return styled(
        hv.Segments(rows, ["t", "v", "t2", "v2"], "color"), color="color", line_width=1, alpha=0.7
    )


def _numbers(leaders: list[tuple], colors: dict[int, str]) -> hv.Labels:
    rows = mixed(((*line[2:], f" {m}", colors[m]) for *line, m in leaders), *[math.nan] * 3)
    return styled(
        hv.Labels(rows, ["t", "v"], ["text", "color"]),
        text_color="color",
        text_align="left",
        text_font_style="bold",
        **letters(),
    )


def spaced(wished: dict[int, float], bottom: float, top: float, *, gap: float) -> dict[int, float]:
    """Heights as near the wished ones as `gap` allows, between bottom and top where they fit."""
    ascending = sorted(wished, key=lambda key: wished[key])
    steps = gap * np.arange(len(ascending))
    # Less its steps, a sequence with gaps is just one that does not fall.
    free = isotonic_regression(np.array([wished[key] for key in ascending]) - steps).x
    heights = np.clip(free, bottom, max(bottom, top - gap * (len(ascending) - 1))) + steps
    return dict(zip(ascending, heights.tolist(), strict=True))


def _style(metric: metrics.Metric, axis: str) -> dict[str, Any]:
    return figure(
        xlabel="round" if axis == "round" else "training steps",
        ylabel=metric.label if metric.label == UNIT else "",
        logy=metric.log,
        shared_axes=False,
        show_legend=False,
        show_grid=True,
        gridstyle={"xgrid_line_color": None},
        active_tools=[],
        tools=TOOLS,
    )
