"""A metric over time: selected members as lines, the swarm as a band behind them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import holoviews as hv
import numpy as np
from scipy.optimize import isotonic_regression

from viz import metrics
from viz.source import History
from viz.theme import TOOLS, Look, figure, letters, mixed, pick_colors, styled

TOP = 5
BINS = 60
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
    members: tuple[int, ...] = (),
    look: Look,
) -> hv.Overlay:
    """Band, median and one line per member; dots where a slot took over another's weights."""
    told = metrics.describe(metric, history.space)
    x, y = times(history, axis), measured(history, told)
    chosen = shown(history, members, look)
    colors = pick_colors(chosen, look)
    band = widened(spread(x, y))
    drawn = np.concatenate([band.low, band.high, y[:, list(chosen)].ravel()])
    left, right = (float(end) for end in (x.min(), x.max()))
    if left == right:
        left, right = left - 0.5, right + 0.5
    room = _room(drawn[np.isfinite(drawn)], told)
    span = right - left
    # Some space on the right is for the members' numbers.
    extents = (left - 0.02 * span, room[0], right + 0.1 * span, room[1])
    parts = [
        styled(
            hv.Area((band.at, band.low, band.high), "t", ["low", "high"]),
            color=look.band,
            alpha=0.28,
            line_alpha=0,
        ),
        styled(
            hv.Curve((band.at, band.middle), "t", "low"),
            color=look.muted,
            line_width=1.5,
            line_dash="dashed",
        ),
        _lines(x, y, colors),
        _marks(history, x, y, colors, extents),
        *_ends(x, y, colors, extents, told),
    ]
    return styled(hv.Overlay(parts), **_style(told, axis))


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


def _lines(x: np.ndarray, y: np.ndarray, colors: dict[int, str]) -> hv.Contours:
    paths = [
        {"t": x[:, member], "v": y[:, member], "color": color} for member, color in colors.items()
    ] + [{"t": [t], "v": [v], "color": color} for t, v, color in mixed([], *[math.nan] * 2)]
    return styled(hv.Contours(paths, ["t", "v"], "color"), color="color", line_width=2.2)


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
        ylabel="",
        logy=metric.log,
        shared_axes=False,
        show_legend=False,
        show_grid=True,
        gridstyle={"xgrid_line_color": None},
        active_tools=[],
        tools=TOOLS,
    )


def _room(drawn: np.ndarray, metric: metrics.Metric) -> tuple[float, float]:
    """A range around the values, with a margin of one twentieth."""
    if not drawn.size:
        return (0.1, 1.0) if metric.log else (0.0, 1.0)
    low, high = metrics.scaled(np.array([drawn.min(), drawn.max()]), metric)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return metrics.unscaled(low - margin, metric), metrics.unscaled(high + margin, metric)
