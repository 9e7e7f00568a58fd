"""The swarm graph: every member a node, joined to the most similar ones."""

from __future__ import annotations

import math
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from viz import metrics
from viz.history import History
from viz.layout import Layout
from viz.nodes import Hover, architectures, hover_of, node_table
from viz.theme import LIGHT, Look, figure, letters, mixed, pick_colors, styled

MAX_EDGES = 15_000
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

    The best lie on top; who raises an alarm has a triangle beside it.
    """
    nodes = node_table(history, layout, color=color, size=size)
    hover = hover_of(history)
    parts = [
        _edges(layout, look),
        _living(nodes.loc[nodes.alive].sort_values(by="shade"), layout, look, hover),
        _dead(nodes.loc[~nodes.alive], look, hover),
        _alarmed(nodes.loc[nodes.alive & (nodes.alarm != "")], layout, look),
        _rings(nodes, members, look),
        _names(history, layout, look),
    ]
    return styled(hv.Overlay(parts), **_style())


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
            "architecture": architectures(history), "alarm": nodes.alarm,
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


def _living(nodes: pd.DataFrame, layout: Layout, look: Look, hover: Hover) -> hv.Points:
    told, options = hover
    return styled(
        hv.Points(nodes, ["x", "y"], _NODE + told, extents=layout.view),
        color="shade",
        cmap=list(look.ramp),
        clim=(0, 1),
        size="px",
        line_color=look.paper,
        line_width=0.8,
        tools=["hover", "box_select", "lasso_select"],
        nonselection_alpha=1.0,
        **options,
    )


def _dead(nodes: pd.DataFrame, look: Look, hover: Hover) -> hv.Points:
    told, options = hover
    return styled(
        hv.Points(nodes, ["x", "y"], _NODE + told),
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
        hv.Points(places, ["x", "y"]), marker="triangle", size=9, color=look.alarm,
        line_color=look.paper, line_width=1, nonselection_alpha=1.0,
    )  # fmt: skip


def _edges(layout: Layout, look: Look) -> hv.Segments:
    edges = layout.edges[:MAX_EDGES]
    ends = np.concatenate([layout.positions[edges[:, 0]], layout.positions[edges[:, 1]]], axis=1)
    return styled(
        hv.Segments(tuple(ends.T), ["x", "y", "x1", "y1"]),
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
        hv.Points(mixed(rings, math.nan, math.nan, 0.0), ["x", "y"], ["px", "ring"]),
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
    kept: list[tuple[float, float, str]] = []
    for x, y, text in zip(biggest.x, biggest.y, biggest.text, strict=True):
        if all(abs(x - other[0]) > wide or abs(y - other[1]) > high for other in kept):
            kept.append((x, y, text if len(text) <= 30 else text[:29] + "…"))
    return styled(
        hv.Labels(kept, ["x", "y"], "text"),
        text_color=look.ink,
        text_baseline="bottom",
        **letters(
            y_offset=-14, background_fill_color=look.paper, background_fill_alpha=0.7, padding=1
        ),
    )
