"""The swarm graph: every member a node, joined to the most similar ones."""

from __future__ import annotations

import math
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from viz import alarms, crowd, metrics
from viz.history import History
from viz.layout import Layout
from viz.marks import element, overlay
from viz.nodes import Hover, architectures, hover_of, node_table
from viz.theme import LIGHT, Look, figure, letters, mixed, pick_colors, styled

MAX_NODES, MAX_EDGES, MAX_OUTLINED = 20_000, 8000, 3000
MAX_GROUPS = 14
_NODE = ["shade", "px", "member", "birth", "color_value", "size_value", "alarm"]


def plot(
    history: History,
    layout: Layout,
    *,
    color: str,
    size: str,
    members: tuple[int, ...] = (),
    look: Look = LIGHT,
) -> hv.Overlay:
    """The graph of the latest round: edges, nodes, group names, rings around the selected.

    The best lie on top; who raises an alarm has a triangle beside it. Of more than `MAX_NODES`
    members the better half of so many, and others evenly by rank, are drawn, and beneath them all
    as one picture.
    """
    nodes = node_table(history, layout, color=color, size=size)
    hover = hover_of(history)
    shown = drawn(history, members)
    some = nodes if shown.all() else nodes.loc[shown]
    parts = [
        _edges(joined(layout, shown), layout, look),
        _living(some.loc[some.alive].sort_values(by="shade"), layout, look, hover, len(some)),
        _dead(some.loc[~some.alive], look, hover),
        _alarmed(some.loc[some.alive & (some.alarm != 0)], layout, look),
        _rings(nodes, members, look),
        _names(history, layout, look),
    ]
    if not shown.all():
        parts.insert(0, crowd.image(nodes, layout.view, look))
    return styled(overlay(parts), **_style())


def drawn(history: History, members: tuple[int, ...] = ()) -> np.ndarray:
    """Which members `[N]` have a node."""
    if history.members <= MAX_NODES:
        return np.ones(history.members, bool)
    ranking, half = metrics.ranking(history), MAX_NODES // 2
    others = np.linspace(half, history.members - 1, MAX_NODES - half).astype(int)
    shown = np.zeros(history.members, bool)
    shown[ranking[:half]] = shown[ranking[others]] = shown[list(members)] = True
    return shown


def joined(layout: Layout, shown: np.ndarray) -> np.ndarray:
    """The edges `[E, 2]` that are drawn: between the `shown`, at most `MAX_EDGES`."""
    edges = layout.edges if shown.all() else layout.edges[shown[layout.edges].all(axis=1)]
    return edges[:MAX_EDGES]


def table(history: History, layout: Layout, *, color: str, size: str) -> pd.DataFrame:
    """The graph in words: every member, its values, and whom it is joined to, best first."""
    nodes = node_table(history, layout, color=color, size=size)
    joined: list[list[int]] = [[] for _ in range(history.members)]
    for a, b in layout.edges.tolist():
        joined[a].append(b)
        joined[b].append(a)
    frame = pd.DataFrame(
        {
            "member": nodes.member, "network": nodes.birth,
            "architecture": architectures(history), "alarm": alarms.words_of(history.last("alarm")),
        }
    )  # fmt: skip
    for name in dict.fromkeys((color, size)):
        frame[name] = history.last(name)
    frame["joined to"] = [" ".join(map(str, others)) for others in joined]
    return frame.iloc[metrics.ranking(history)]


def _style() -> dict[str, Any]:
    return figure(
        xaxis=None,
        yaxis=None,
        active_tools=["box_select"],
    )


def _living(nodes: pd.DataFrame, layout: Layout, look: Look, hover: Hover, shown: int) -> hv.Points:
    told, options = hover
    return styled(
        element(hv.Points, nodes, ["x", "y"], _NODE + told, extents=layout.view),
        color="shade",
        cmap=list(look.ramp),
        clim=(0, 1),
        size="px",
        # Outlines part neighbours; of many, which are small, they would take longest to draw.
        line_color=look.paper if shown <= MAX_OUTLINED else None,
        line_width=0.8,
        tools=["hover", "box_select", "lasso_select"],
        nonselection_alpha=1.0,
        **options,
    )


def _dead(nodes: pd.DataFrame, look: Look, hover: Hover) -> hv.Points:
    told, options = hover
    return styled(
        element(hv.Points, nodes, ["x", "y"], _NODE + told),
        marker="x",
        size=9,
        color=look.dead,
        line_width=2.2,
        tools=["hover"],
        nonselection_alpha=1.0,
        **options,
    )


def _alarmed(nodes: pd.DataFrame, layout: Layout, look: Look) -> hv.Points:
    """A triangle to the upper right of each."""
    wide, high = layout.view[2] - layout.view[0], layout.view[3] - layout.view[1]
    places = (nodes.x + 0.009 * wide, nodes.y + 0.02 * high)
    return styled(
        element(hv.Points, places, ["x", "y"]), marker="triangle", size=9, color=look.alarm,
        line_color=look.paper, line_width=1, nonselection_alpha=1.0,
    )  # fmt: skip


def _edges(edges: np.ndarray, layout: Layout, look: Look) -> hv.Segments:
    ends = np.concatenate([layout.positions[edges[:, 0]], layout.positions[edges[:, 1]]], axis=1)
    return styled(
        element(hv.Segments, tuple(ends.T), ["x", "y", "x1", "y1"]),
        color=look.muted,
        alpha=0.35 if len(edges) < 2000 else 0.16,
        line_width=1,
    )


def _rings(nodes: pd.DataFrame, members: tuple[int, ...], look: Look) -> hv.Points:
    colors = pick_colors(members, look)
    rings = [
        (nodes.x[m], nodes.y[m], nodes.px[m] + 7, colors.get(m, look.ink))
        for m in members
        if m < len(nodes)
    ]
    return styled(
        element(hv.Points, mixed(rings, math.nan, math.nan, 0.0), ["x", "y"], ["px", "ring"]),
        size="px",
        line_color="ring",
        fill_alpha=0,
        line_width=3,
        color="ring",
    )


def _names(history: History, layout: Layout, look: Look) -> hv.Labels:
    """Names of the largest architecture groups, above their members; none over another."""
    frame = pd.DataFrame(layout.positions, columns=["x", "y"]).assign(text=architectures(history))
    groups = frame.groupby("text").agg(x=("x", "median"), y=("y", "max"), size=("x", "size"))
    biggest = groups[groups["size"] > 2].reset_index()
    biggest = biggest.iloc[np.argsort(-biggest["size"].to_numpy(), kind="stable")[:MAX_GROUPS]]
    wide, high = np.ptp(layout.positions, axis=0) * (0.2, 0.07)
    # Half a name fits between these and the edges of the view.
    left, _, right, _ = layout.view
    ends = left + 0.09 * (right - left), right - 0.09 * (right - left)
    kept: list[tuple[float, float, str]] = []
    for x, y, text in zip(biggest.x.clip(*ends), biggest.y, biggest.text, strict=True):
        if all(abs(x - other[0]) > wide or abs(y - other[1]) > high for other in kept):
            kept.append((x, y, text if len(text) <= 30 else text[:29] + "…"))
    return styled(
        element(hv.Labels, kept, ["x", "y"], "text"),
        text_color=look.ink,
        text_baseline="bottom",
        **letters(
            y_offset=-14, background_fill_color=look.paper, background_fill_alpha=0.7, padding=1
        ),
    )
