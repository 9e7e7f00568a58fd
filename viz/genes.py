"""Gene by gene: how well every combination of two genes does."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from swarmjax.space import Choice
from swarmjax.types import Genome
from viz import forest, metrics, scatter
from viz.history import History
from viz.marks import element, overlay
from viz.theme import LIGHT, Look, figure, letters, styled

BINS, FINE = 10, 28
SUMMARIES = {"mean of members": "mean", "best member": "best", "members": "count"}
ESTIMATE = {"forest's estimate": "estimate"}
MAX_NUMBERS = 150


def bins(history: History, name: str, count: int = BINS) -> tuple[np.ndarray, list[str]]:
    """The bin `[N]` of every member by one gene, and what the bins are called."""
    gene, values = history.space[name], np.asarray(history.genome()[name])
    if isinstance(gene, Choice):
        return values.astype(int), [str(option) for option in gene.options]
    unit = np.asarray(gene.encode(values), float)
    metric = metrics.describe(name, history.space)
    middles = np.asarray(gene.decode((np.arange(count) + 0.5) / count), float)
    names = [f"{value:.2g}" for value in middles]
    if len(set(names)) < count:
        names = [metrics.text(value, metric) for value in middles]
    return np.clip((unit * count).astype(int), 0, count - 1), names


def table(history: History, *, x: str, y: str, metric: str, show: str = "mean") -> pd.DataFrame:
    """One row per combination that members have: the genes, how many, mean and best."""
    told = metrics.describe(metric, history.space)
    (a, across), (b, up) = bins(history, x), bins(history, y)
    frame = pd.DataFrame({"x": a, "y": b, "value": scatter.values(history, metric)})
    frame = frame[np.isfinite(frame.value)]
    groups = frame.groupby(["x", "y"]).value
    best = groups.min() if told.better < 0 else groups.max()
    found = pd.DataFrame({"count": groups.size(), "mean": groups.mean(), "best": best})
    found = found.reset_index()
    found.insert(0, "x name", [across[i] for i in found.x])
    found.insert(1, "y name", [up[i] for i in found.y])
    by = "mean" if show == "estimate" else show
    return found.sort_values(by, ascending=told.better < 0 and by != "count", kind="stable")


def grid(history: History, *, x: str, y: str, metric: str, show: str = "mean") -> np.ndarray:
    """The values `[Y, X]` of the cells, NaN where no member is."""
    found = table(history, x=x, y=y, metric=metric, show=show)
    cells = np.full((len(bins(history, y)[1]), len(bins(history, x)[1])), np.nan)
    cells[found.y.to_numpy(int), found.x.to_numpy(int)] = found[show].to_numpy(float)
    return cells


def estimate(history: History, *, x: str, y: str, metric: str) -> np.ndarray:
    """The forest's mean prediction `[Y, X]` over the other genes of the living members."""
    fit = forest.learn(history, metric)
    told = metrics.describe(metric, history.space)
    points = [_levels(history, name) for name in (x, y)]
    if fit.model is None:
        return np.full((len(points[1]), len(points[0])), np.nan)
    genes = list(fit.importance)
    living = np.flatnonzero(history.last("alive"))
    sample = np.random.default_rng(0).choice(living, min(len(living), 24), replace=False)
    right, up = (part.ravel() for part in np.meshgrid(*points))
    held = {name: np.asarray(v) for name, v in history.genome().items()}
    genome: Genome = {name: np.tile(v[sample], len(right)) for name, v in held.items()}
    genome |= {x: np.repeat(right, len(sample)), y: np.repeat(up, len(sample))}
    predicted = fit.model.predict(forest.features(history, genome, genes)[0])
    mean = predicted.reshape(len(points[1]), len(points[0]), len(sample)).mean(axis=2)
    return 10.0**mean if told.log else mean


def _levels(history: History, name: str) -> np.ndarray:
    gene = history.space[name]
    if isinstance(gene, Choice):
        return np.arange(len(gene.options))
    return np.asarray(gene.decode((np.arange(FINE) + 0.5) / FINE))


def plot(
    history: History,
    *,
    x: str,
    y: str,
    metric: str,
    show: str = "mean",
    members: tuple[int, ...] = (),
    look: Look = LIGHT,
) -> hv.Overlay:
    """Cells in shades of the metric, with their numbers; a dot where a selected member is."""
    if show == "estimate":
        cells = estimate(history, x=x, y=y, metric=metric)
    else:
        cells = grid(history, x=x, y=y, metric=metric, show=show)
    told = describe(history, metric, show)
    values = metrics.scaled(cells, told)
    shade = metrics.shades(values, metrics.scale(values), told)
    if not np.isfinite(shade).any():
        # HoloViews cannot draw what has no value at all.
        shade, cells = np.full(shade.shape, -1.0), np.zeros(cells.shape)
    names = [bins(history, name)[1] for name in (x, y)]
    # However fine the cells are, an axis goes from 0 to the number of its names.
    edges = [np.linspace(0, len(each), n + 1) for each, n in zip(names, cells.T.shape, strict=True)]
    image = hv.QuadMesh((*edges, shade, cells), ["x", "y"], ["shade", "value"])
    none = {"NaN": look.page, "min": look.page}
    parts = [
        styled(
            image, cmap=list(look.ramp), clim=(0, 1), clipping_colors=none,
            line_color=look.paper, line_width=0 if show == "estimate" else 1, tools=["hover"],
            hover_tooltips=[(told.label, "@value{0.0[0000]}")],
        ),
        _numbers(cells, shade, told, show, look),
        _places(history, x, y, members, look),
    ]  # fmt: skip
    return styled(overlay(parts), **_style(history, x, y, names))


def pick(history: History, x: str, y: str, at: tuple[float, float]) -> list[int]:
    """The members in the cell that was tapped, best first."""
    held = np.ones(history.members, bool)
    for name, place in zip((x, y), at, strict=True):
        held &= bins(history, name)[0] == int(np.floor(place))
    held &= history.last("alive")
    return [int(m) for m in metrics.ranking(history) if held[m]]


def describe(history: History, metric: str, show: str) -> metrics.Metric:
    """How the values of the cells are shown."""
    if show == "count":
        return metrics.Metric("steps", "members", 1, True)
    return metrics.describe(metric, history.space)


def _numbers(
    cells: np.ndarray, shade: np.ndarray, told: metrics.Metric, show: str, look: Look
) -> hv.Labels:
    rows = []
    if show != "estimate" and cells.size <= MAX_NUMBERS:
        rows = [
            (
                x + 0.5,
                y + 0.5,
                _brief(float(cells[y, x]), told),
                look.paper if shade[y, x] > 0.55 else look.ink,
            )
            for y, x in np.argwhere(shade >= 0)
        ]
    rows += [(np.nan, np.nan, "", color) for color in (look.paper, look.ink)]
    labels = element(hv.Labels, rows, ["x", "y"], ["text", "color"])
    return styled(labels, text_color="color", **letters())


def _brief(value: float, told: metrics.Metric) -> str:
    return f"{value:.3f}" if told.name == "valid_accuracy" else metrics.text(value, told)


def _places(history: History, x: str, y: str, members: tuple[int, ...], look: Look) -> hv.Points:
    spread = np.random.default_rng(1).uniform(0.2, 0.8, (history.members, 2))
    at = np.stack([bins(history, name)[0] for name in (x, y)], axis=1) + spread
    rows = [tuple(at[m]) for m in members if m < history.members]
    return styled(
        element(hv.Points, rows, ["x", "y"]), size=7, color=look.picks[0], line_color=look.paper,
        nonselection_alpha=1.0,
    )  # fmt: skip


def _style(history: History, x: str, y: str, names: list[list[str]]) -> dict[str, Any]:
    ticks = [
        [(i + 0.5, text[:18].replace("$", "")) for i, text in enumerate(each)] for each in names
    ]
    across, up = (metrics.describe(name, history.space).label for name in (x, y))
    return figure(
        xlabel=across,
        ylabel=up,
        xticks=ticks[0],
        yticks=ticks[1],
        xlim=(0, len(names[0])),
        ylim=(0, len(names[1])),
    )
