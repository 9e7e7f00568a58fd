"""Parallel coordinates: every member a line through its genes to its fitness."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from swarmjax.space import Choice
from swarmjax.types import Genome
from viz import metrics, scatter
from viz.history import History
from viz.marks import element, overlay
from viz.theme import LIGHT, TOOLS, Look, figure, letters, mixed, pick_colors, styled

MAX_LINES = 1000
TICKS = 4
SHADES = 24


def axes(history: History, metric: str) -> list[str]:
    """Columns with an axis each, from left to right: the genes, then the metric."""
    return [*(name for name, _ in history.space.genes if name != metric), metric]


def heights(history: History, metric: str) -> np.ndarray:
    """Where every member crosses every axis, `[N, A]` from 0 to 1; NaN where it does not."""
    genome = history.genome()
    units = np.asarray(history.space.encode(genome), float)
    names = [name for name, _ in history.space.genes]
    columns = [units[:, names.index(n)] for n in axes(history, metric) if n != metric]
    told = metrics.describe(metric, history.space)
    values = metrics.scaled(scatter.values(history, metric), told)
    return np.column_stack([*columns, _along(values, metrics.scale(values))])


def _along(values: np.ndarray, scale: metrics.Scale) -> np.ndarray:
    """Heights on the axis of the metric, on which as on a legend the many have room too."""
    return np.where(np.isfinite(values), np.interp(values, scale.knots, scale.shades), np.nan)


def plot(
    history: History, *, metric: str, members: tuple[int, ...] = (), look: Look = LIGHT
) -> hv.Overlay:
    """Lines in shades of the metric, the best on top, the selected in their colours.

    Of more than `MAX_LINES` members the best half of so many and a sample are shown.
    """
    grid = heights(history, metric)
    told = metrics.describe(metric, history.space)
    values = metrics.scaled(scatter.values(history, metric), told)
    shade = metrics.shades(values, metrics.scale(values), told)
    rows = shown(history, metric)
    rows = rows[np.argsort(shade[rows], kind="stable")]
    at = np.arange(grid.shape[1])
    faint = _bundles(at, grid[rows], shade[rows])
    chosen = [
        {"x": at, "y": grid[m], "color": c} for m, c in pick_colors(members, look).items()
    ] + [{"x": [x], "y": [y], "color": c} for x, y, c in mixed([], np.nan, np.nan)]
    lines = element(hv.Contours, faint, ["x", "y"], "shade")
    parts = [
        styled(
            lines, color="shade", cmap=list(look.ramp), clim=(0, 1), line_width=1,
            alpha=0.55 if len(rows) < 300 else 0.3, tools=["box_select"], nonselection_alpha=0.3,
        ),
        styled(element(hv.Contours, chosen, ["x", "y"], "color"), color="color", line_width=3),
        _posts(len(at), look),
        _ticks(history, metric, look),
    ]  # fmt: skip
    return styled(
        overlay(parts),
        **_style([metrics.describe(n, history.space).label for n in axes(history, metric)]),
    )


def _bundles(at: np.ndarray, lines: np.ndarray, shade: np.ndarray) -> list[dict[str, Any]]:
    """The lines `[N, A]` in at most `SHADES` paths with gaps: one path a line takes seconds."""
    level = np.clip(np.rint(shade * (SHADES - 1)), 0, SHADES - 1)
    paths = []
    for each in np.unique(level):
        own = lines[level == each]
        gap = np.full((len(own), 1), np.nan)
        x = np.concatenate([np.broadcast_to(at, own.shape), gap], axis=1)
        paths.append(
            {"x": x.ravel(), "y": np.hstack([own, gap]).ravel(), "shade": each / (SHADES - 1)}
        )
    # Two more, which are nowhere: without any there would be nothing to give shades to.
    return paths + [{"x": [np.nan], "y": [np.nan], "shade": float(i)} for i in (0, 1)]


def shown(history: History, metric: str) -> np.ndarray:
    """Members that are drawn, `MAX_LINES` at most."""
    known = np.asarray(np.isfinite(heights(history, metric)).all(axis=1))
    ranking = metrics.ranking(history)
    ranking = ranking[known[ranking]]
    half = MAX_LINES // 2
    if len(ranking) <= MAX_LINES:
        return ranking
    rest = np.random.default_rng(0).choice(ranking[half:], MAX_LINES - half, replace=False)
    return np.concatenate([ranking[:half], rest])


def table(history: History, *, metric: str) -> pd.DataFrame:
    """Genes and metric of every member, best first."""
    frame = pd.DataFrame({"member": history.last("member")})
    for name in axes(history, metric):
        frame[name] = history.last(name) if name in history.names else scatter.values(history, name)
    return frame.iloc[metrics.ranking(history)]


def brushed(history: History, metric: str, box: tuple[float, float, float, float]) -> list[int]:
    """Members, best first, whose lines cross every axis within a box (left, bottom, right, top)."""
    left, bottom, right, top = box
    grid = heights(history, metric)
    covered = [a for a in range(grid.shape[1]) if left <= a <= right]
    if not covered:
        return []
    through = (grid[:, covered] >= bottom) & (grid[:, covered] <= top)
    held = np.asarray(through.all(axis=1))
    return [int(m) for m in metrics.ranking(history) if held[m]]


def _posts(count: int, look: Look) -> hv.Segments:
    rows = [(i, 0.0, i, 1.0) for i in range(count)]
    return styled(
        element(hv.Segments, rows, ["x", "y", "x1", "y1"]), color=look.muted, line_width=1
    )


def _ticks(history: History, metric: str, look: Look) -> hv.Labels:
    """Values beside each axis."""
    rows = []
    names = axes(history, metric)
    for i, name in enumerate(names):
        rows += [(i, height, f" {text}") for height, text in _told(history, name)]
    return styled(
        element(hv.Labels, rows, ["x", "y"], "text"), text_color=look.ink, text_align="left",
        **letters(background_fill_color=look.paper, background_fill_alpha=0.6),
    )  # fmt: skip


def _told(history: History, name: str) -> list[tuple[float, str]]:
    gene = history.space[name] if name in history.space else None
    if isinstance(gene, Choice):
        count = len(gene.options)
        shown = sorted({round(i) for i in np.linspace(0, count - 1, min(count, 8))})
        at = np.asarray(history.space.encode(_probe(history, name, np.arange(count))), float)
        column = [n for n, _ in history.space.genes].index(name)
        return [(float(at[i, column]), str(gene.options[i])[:16]) for i in shown]
    metric = metrics.describe(name, history.space)
    if gene is not None:
        unit = np.linspace(0, 1, TICKS)
        column = [n for n, _ in history.space.genes].index(name)
        points = np.full((TICKS, len(history.space.genes)), 0.5)
        points[:, column] = unit
        values = np.asarray(history.space.decode(points)[name], float)
        return [(u, metrics.text(v, metric)) for u, v in zip(unit, values, strict=True)]
    scale = metrics.scale(metrics.scaled(scatter.values(history, name), metric))
    texts = [metrics.text(metrics.unscaled(knot, metric), metric) for knot in scale.knots]
    told: list[tuple[float, str]] = []
    for height, text in zip(scale.shades, texts, strict=True):
        if not told or height - told[-1][0] > 0.08:
            told.append((height, text))
    return told


def _probe(history: History, name: str, values: np.ndarray) -> Genome:
    """Genomes that take each of the values of one gene."""
    middle = history.space.decode(np.full((len(values), len(history.space.genes)), 0.5))
    return {**middle, name: values}


def _style(labels: list[str]) -> dict[str, Any]:
    return figure(
        xlabel="",
        yaxis=None,
        xticks=list(enumerate(labels)),
        xlim=(-0.25, len(labels) - 0.35),
        ylim=(-0.06, 1.08),
        xrotation=20 if len(labels) > 6 else 0,
        active_tools=["box_select"],
        tools=[*TOOLS, "box_select"],
    )
