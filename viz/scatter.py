"""Members as dots between two metrics: one table, one plot, one way to pick, for several views."""

from __future__ import annotations

import math
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from viz import metrics
from viz.history import History
from viz.margins import near, room
from viz.marks import element, overlay
from viz.selection import nearest
from viz.theme import LIGHT, Look, figure, mixed, pick_colors, styled

MAX_DOTS = 4000
_COLUMNS = ["shade", "member", "x_text", "y_text", "color_text"]


def table(history: History, *, x: str, y: str, color: str = "") -> pd.DataFrame:
    """Every member: its values of the metrics, NaN where it has none or an axis cannot show it."""
    columns: dict[str, Any] = {"member": history.last("member")}
    for name in dict.fromkeys(n for n in (x, y, color) if n):
        columns[name] = values(history, name)
    return pd.DataFrame(columns)


def values(history: History, name: str) -> np.ndarray:
    """A metric `[N]` of the latest round, or of the network's whole life; NaN for the dead.

    `spent` are the operations spent on the slot in the whole run, `gain` is what the network has
    gained in fitness since it was first measured.
    """
    alive = history.last("alive")
    if name == "spent":
        spent = history.column("cost").astype(float) * history.column("steps")
        return np.where(alive, spent.sum(axis=0), np.nan)
    if name == "gain":
        return np.where(alive, gain(history), np.nan)
    metric = metrics.describe(name, history.space)
    raw = history.last(name)
    if raw.dtype.kind not in "fiu":
        raw = np.asarray(history.genome()[name])
    usable = np.isfinite(metrics.scaled(raw, metric)) & alive
    return np.where(usable, np.asarray(raw, float), np.nan)


def gain(history: History) -> np.ndarray:
    """Fitness `[N]` now, less that of the same network when it was first measured."""
    fit = metrics.fitness(history)
    same = history.column("birth") == history.last("birth")
    first = np.where(same & np.isfinite(fit), np.arange(len(fit))[:, None], len(fit)).min(axis=0)
    rows = np.minimum(first, len(fit) - 1)
    began = fit[rows, np.arange(history.members)]
    known = (first < len(fit)) & np.isfinite(fit[-1])
    return np.where(known, np.where(known, fit[-1], 0) - np.where(known, began, 0), np.nan)


def plot(
    history: History,
    *,
    x: str,
    y: str,
    color: str,
    front: bool = False,
    members: tuple[int, ...] = (),
    look: Look = LIGHT,
) -> hv.Overlay:
    """Dots in shades of `color`, rings around the selected; and the front that none is better than.

    Of more than `MAX_DOTS` members the best half of so many, a sample and the selected are shown.
    """
    frame = table(history, x=x, y=y, color=color)
    told = [metrics.describe(name, history.space) for name in (x, y)]
    line = frame.iloc[pareto(frame, *told)] if front else frame.iloc[:0]
    parts = [
        styled(
            element(hv.Curve, _stairs(line[[x, y]].to_numpy(float), told), "x", "y"),
            color=look.accent, line_width=1.5, line_dash="dashed", interpolation="linear",
        ),
        _dots(frame, told, color, history, members, look),
        _alarmed(history, frame, told, members, look),
        _rings(frame, x, y, members, look),
    ]  # fmt: skip
    return styled(overlay(parts), **_style(*told))


def shown(history: History, frame: pd.DataFrame, members: tuple[int, ...]) -> np.ndarray:
    """The rows that are drawn: all, or `MAX_DOTS` and the selected."""
    known = frame.drop(columns="member").notna().all(axis=1).to_numpy()
    ranking = metrics.ranking(history)
    ranking = ranking[known[ranking]]
    if len(ranking) <= MAX_DOTS:
        return ranking
    best, rest = ranking[: MAX_DOTS // 2], ranking[MAX_DOTS // 2 :]
    sample = np.random.default_rng(0).choice(rest, MAX_DOTS - len(best), replace=False)
    picked = [m for m in members if m < len(known) and known[m]]
    return np.unique(np.concatenate([best, sample, np.array(picked, int)]))


def pareto(frame: pd.DataFrame, x: metrics.Metric, y: metrics.Metric) -> np.ndarray:
    """Rows that no other is better than in both metrics, by `x`; high is good where neither is."""
    a, b = (frame[m.name].to_numpy(float) * (-1 if m.better < 0 else 1) for m in (x, y))
    known = np.flatnonzero(np.isfinite(a) & np.isfinite(b))
    order = known[np.lexsort((-b[known], -a[known]))]
    best = np.maximum.accumulate(b[order]) if order.size else b[order]
    ahead = np.concatenate([[True], b[order][1:] > best[:-1]]) if order.size else []
    front = order[np.asarray(ahead, bool)]
    return front[np.argsort(frame[x.name].to_numpy(float)[front], kind="stable")]


def _stairs(points: np.ndarray, told: list[metrics.Metric]) -> np.ndarray:
    """The border of what the points dominate: it goes to the next in steps."""
    if len(points) < 2:
        return points
    # Between two of the front, whoever is worse in both has the worse x of one, the worse y of the
    # other.
    low = told[0].better < 0
    corner = np.column_stack(
        [points[1:, 0], points[:-1, 1]] if low else [points[:-1, 0], points[1:, 1]]
    )
    return np.insert(points, np.arange(1, len(points)), corner, axis=0)


def pick(history: History, x: str, y: str, at: tuple[float, float]) -> int | None:
    """The member whose dot was tapped."""
    return nearest(places(history, x, y), *_scaled_point(history, x, y, at))


def places(history: History, x: str, y: str) -> np.ndarray:
    """Where the dots stand `[N, 2]`, logarithms where an axis has them."""
    columns = [
        metrics.scaled(values(history, name), metrics.describe(name, history.space))
        for name in (x, y)
    ]
    return np.stack(columns, axis=1)


def _scaled_point(history: History, x: str, y: str, at: tuple[float, float]) -> list[float]:
    told = (metrics.describe(name, history.space) for name in (x, y))
    return [
        float(metrics.scaled(np.array([v]), metric)[0]) for v, metric in zip(at, told, strict=True)
    ]


def _dots(
    frame: pd.DataFrame,
    told: list[metrics.Metric],
    color: str,
    history: History,
    members: tuple[int, ...],
    look: Look,
) -> hv.Points:
    x, y = told
    tint = metrics.describe(color, history.space)
    scaled = metrics.scaled(frame[color].to_numpy(float), tint)
    shade = metrics.shades(scaled, metrics.scale(scaled), tint)
    rows = frame.assign(shade=shade).iloc[shown(history, frame, members)].sort_values("shade")
    shown_rows = {
        "x": rows[x.name].to_numpy(float),
        "y": rows[y.name].to_numpy(float),
        "shade": rows.shade.to_numpy(float),
        "member": rows.member.to_numpy(),
        **{
            f"{axis}_text": [metrics.text(v, metric) for v in rows[metric.name].astype(float)]
            for axis, metric in (("x", x), ("y", y), ("color", tint))
        },
    }
    table, extents = pd.DataFrame(shown_rows), _extents(frame, x, y)
    return styled(
        element(hv.Points, table, ["x", "y"], _COLUMNS, extents=extents), color="shade",
        cmap=list(look.ramp), clim=(0, 1), size=8 if len(rows) < 600 else 5, line_color=look.paper,
        line_width=0.5, nonselection_alpha=1.0,
        tools=["hover", "box_select", "lasso_select"],
        hover_tooltips=[
            ("member", "@member"), (x.label, "@x_text"), (y.label, "@y_text"),
            (tint.label, "@color_text"),
        ],
    )  # fmt: skip


def _alarmed(
    history: History,
    frame: pd.DataFrame,
    told: list[metrics.Metric],
    members: tuple[int, ...],
    look: Look,
) -> hv.Points:
    """A small triangle on every drawn member that raises an alarm."""
    rows = shown(history, frame, members)
    rows = rows[history.last("alarm")[rows] != 0]
    places = tuple(frame[metric.name].to_numpy(float)[rows] for metric in told)
    return styled(
        element(hv.Points, places, ["x", "y"]), marker="triangle", size=7, color=look.alarm,
        line_color=look.paper, line_width=0.5, nonselection_alpha=1.0,
    )  # fmt: skip


def _rings(frame: pd.DataFrame, x: str, y: str, members: tuple[int, ...], look: Look) -> hv.Points:
    colors = pick_colors(members, look)
    rows = [
        (float(frame[x].iloc[m]), float(frame[y].iloc[m]), colors.get(m, look.ink))
        for m in members
        if m < len(frame)
    ]
    rows = [row for row in rows if math.isfinite(row[0]) and math.isfinite(row[1])]
    rings = element(hv.Points, mixed(rows, math.nan, math.nan), ["x", "y"], "ring")
    return styled(
        rings, size=14, fill_alpha=0, line_color="ring", color="ring", line_width=2.5,
        nonselection_alpha=1.0,
    )  # fmt: skip


def _extents(
    frame: pd.DataFrame, x: metrics.Metric, y: metrics.Metric
) -> tuple[float, float, float, float]:
    ends = [room(near(frame[metric.name].to_numpy(float), metric), metric) for metric in (x, y)]
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def beside(frame: pd.DataFrame, told: list[metrics.Metric]) -> int:
    """How many members the figure does not show at first."""
    outside = np.zeros(len(frame), bool)
    for metric in told:
        values = frame[metric.name].to_numpy(float)
        shown = near(values, metric)
        if shown.size:
            outside |= (values < shown.min()) | (values > shown.max())
    return int(outside.sum())


def _style(x: metrics.Metric, y: metrics.Metric) -> dict[str, Any]:
    return figure(
        xlabel=x.label,
        ylabel=y.label,
        logx=x.log,
        logy=y.log,
        show_grid=True,
        active_tools=["box_select"],
    )
