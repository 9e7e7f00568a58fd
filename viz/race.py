"""The best so far and the distribution of scores, of one or several runs, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import holoviews as hv
import numpy as np

from viz import metrics
from viz.margins import TAIL, room, spaced
from viz.marks import element, overlay
from viz.outcomes import AXES, Outcome, at, distribution, quantiles
from viz.theme import LIGHT, Look, figure, letters, styled


def plot_best(
    runs: Mapping[str, Outcome], *, axis: str = "steps", look: Look = LIGHT
) -> hv.Overlay:
    """Best so far of every run, and of the first what the middle 80 % and the median had."""
    first, *_ = runs.values()
    metric = first.metric
    shown = dict(list(runs.items())[: len(look.picks)])
    rows = [quantiles(row) for row in first.scores]
    low, middle, high = np.array(rows).T
    drawn = np.concatenate([low, high, *(run.best for run in shown.values())])
    bottom, top = room(drawn, metric)
    xs = [at(run, axis) for run in shown.values()]
    left, right = min(x.min() for x in xs), max(x.max() for x in xs)
    span = float(right - left) or 1.0
    extents = (left - 0.03 * span, bottom, right + 0.03 * span, top)
    x = at(first, axis)
    known = np.isfinite(low)
    band = element(hv.Area, (x[known], low[known], high[known]), "t", ["low", "high"])
    parts = [
        styled(band, color=look.band, alpha=0.28, line_alpha=0),
        styled(
            element(hv.Curve, (x[known], middle[known]), "t", "low"), color=look.muted,
            line_dash="dashed", line_width=1.5,
        ),
        _steps(shown, axis, extents, look),
        _tags({n: (float(at(r, axis)[-1]), r.best[-1]) for n, r in shown.items()}, extents, metric,
              look),
    ]  # fmt: skip
    label = next(label for label, name in AXES.items() if name == axis)
    return styled(overlay(parts), **_style(label, metric.label, logy=metric.log))


def plot_shares(runs: Mapping[str, Outcome], *, look: Look = LIGHT) -> hv.Overlay:
    """Share of the members that have a score or a worse one, for every run in its last round.

    Of a single run, some rounds from the first to the last.
    """
    curves = distribution(runs)
    metric = next(iter(runs.values())).metric
    # A few that are far off would take all the room.
    drawn = np.concatenate([*(x[y >= TAIL] for x, y in curves.values()), []])
    left, right = room(drawn, metric)
    extents = (left, -0.03, right, 1.05)
    colors = _colors(list(curves), look)
    paths = [{"t": x, "v": y, "color": colors[name]} for name, (x, y) in curves.items() if x.size]
    paths += [{"t": [np.nan], "v": [np.nan], "color": c} for c in ("black", "white")]
    middles = {
        name: (float(np.interp(0.35 + 0.1 * i, y, x)), 0.35 + 0.1 * i)
        for i, (name, (x, y)) in enumerate(curves.items())
        if x.size
    }
    tags = [(t, v, f"{name[:24]} ", colors[name]) for name, (t, v) in middles.items()]
    tags += [(np.nan, np.nan, "", c) for c in ("black", "white")]
    labels = element(hv.Labels, tags, ["t", "v"], ["text", "color"])
    parts = [
        styled(element(hv.Contours, paths, ["t", "v"], "color"), color="color", line_width=2.2),
        styled(element(hv.Points, [], ["t", "v"], extents=extents), size=1),
        styled(
            labels, text_color="color", text_align="right", text_font_style="bold",
            **letters(background_fill_color=look.paper, background_fill_alpha=0.7),
        ),
    ]  # fmt: skip
    return styled(overlay(parts), **_style(metric.label, "share of members", logx=metric.log))


def _steps(
    runs: Mapping[str, Outcome], axis: str, extents: tuple[float, ...], look: Look
) -> hv.Contours:
    colors = _colors(list(runs), look)
    paths = []
    for name, run in runs.items():
        x, y = at(run, axis), run.best
        paths.append(
            {"t": np.repeat(x, 2)[1:], "v": np.repeat(y, 2)[:-1], "color": colors[name]}
            if len(x) > 1
            else {"t": [x[0], x[0] + 0.3], "v": [y[0], y[0]], "color": colors[name]}
        )
    paths += [{"t": [np.nan], "v": [np.nan], "color": c} for c in ("black", "white")]
    lines = element(hv.Contours, paths, ["t", "v"], "color", extents=extents)
    return styled(lines, color="color", line_width=2.5)


def _tags(
    ends: Mapping[str, tuple[float, float]],
    extents: tuple[float, ...],
    metric: metrics.Metric,
    look: Look,
) -> hv.Labels:
    """Every run's name above the end of its line, none over another."""
    colors = _colors(list(ends), look)
    bottom, top = metrics.scaled(np.array(extents[1::2]), metric)
    gap = 0.07 * (top - bottom)
    wished = {
        i: float(metrics.scaled(np.array([v]), metric)[0]) + gap
        for i, (_, v) in enumerate(ends.values())
        if np.isfinite(v)
    }
    heights = spaced(wished, bottom + gap, top - gap / 2, gap=gap) if wished else {}
    names = list(ends)
    rows = [
        (ends[names[i]][0], metrics.unscaled(h, metric), names[i][:28], colors[names[i]])
        for i, h in heights.items()
    ]
    rows += [(np.nan, np.nan, "", c) for c in ("black", "white")]
    labels = element(hv.Labels, rows, ["t", "v"], ["text", "color"])
    return styled(
        labels, text_color="color", text_align="right", text_font_style="bold",
        **letters(background_fill_color=look.paper, background_fill_alpha=0.7),
    )  # fmt: skip


def _colors(names: list[str], look: Look) -> dict[str, str]:
    return {name: look.picks[i % len(look.picks)] for i, name in enumerate(names)}


def _style(xlabel: str, ylabel: str, **options: Any) -> dict[str, Any]:
    return figure(
        xlabel=xlabel,
        ylabel=ylabel,
        show_grid=True,
        **options,
    )
