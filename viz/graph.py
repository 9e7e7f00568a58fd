"""The swarm graph: every member a node, joined to the most similar ones."""

from __future__ import annotations

import math
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from viz import alarms, metrics
from viz.layout import Layout
from viz.source import History
from viz.theme import LIGHT, TOOLS, Look, figure, letters, mixed, pick_colors, styled

MAX_EDGES = 15_000
MAX_GROUPS = 14
# Of more members the hover does not tell the whole genome, which would have to be sent every round.
MAX_TOLD = 2000
_NODE = ["shade", "px", "member", "birth", "color_value", "size_value", "group", "genome", "alarm"]
_HOVER = [
    ("member", "@member"),
    ("network", "@birth"),
    ("color", "@color_value"),
    ("size", "@size_value"),
    ("architecture", "@group"),
    ("genome", "@genome"),
    ("alarms", "@alarm"),
]


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
    parts = [
        _edges(layout, look),
        _living(nodes.loc[nodes.alive].sort_values(by="shade"), layout, look),
        _dead(nodes.loc[~nodes.alive], look),
        _alarmed(nodes.loc[nodes.alive & (nodes.alarm != "")], layout, look),
        _rings(nodes, members, look),
        _names(history, layout, look),
    ]
    return styled(hv.Overlay(parts), **_style())


def node_table(history: History, layout: Layout, *, color: str, size: str) -> pd.DataFrame:
    """One row per member: place, shade in `[0, 1]`, size in screen units, words for the hover."""
    tint, shade = _shade(history, color)
    weight, share = _shade(history, size)
    # Area shows the value; crowded swarms get smaller nodes.
    unit = min(26.0, 400.0 / math.sqrt(history.members + 60))
    return pd.DataFrame(
        {
            "x": layout.positions[:, 0],
            "y": layout.positions[:, 1],
            "member": history.last("member"),
            "birth": history.last("birth"),
            "alive": history.last("alive"),
            "alarm": alarms.words_of(history.last("alarm")),
            "shade": shade,
            "px": unit * np.sqrt(0.08 + 0.92 * share**1.5),
            "color_value": [metrics.text(v, tint) for v in history.last(color).astype(float)],
            "size_value": [metrics.text(v, weight) for v in history.last(size).astype(float)],
            "group": architectures(history),
            "genome": genomes(history) if history.members <= MAX_TOLD else "",
        }
    )


def table(history: History, layout: Layout, *, color: str, size: str) -> pd.DataFrame:
    """The graph in words: every member, its values, and whom it is joined to, best first."""
    nodes = node_table(history, layout, color=color, size=size)
    joined: list[list[int]] = [[] for _ in range(history.members)]
    for a, b in layout.edges.tolist():
        joined[a].append(b)
        joined[b].append(a)
    frame = pd.DataFrame(
        {
            "member": nodes.member, "network": nodes.birth, "architecture": nodes.group,
            "alarm": nodes.alarm,
        }
    )  # fmt: skip
    for name in dict.fromkeys((color, size)):
        frame[name] = history.last(name)
    frame["joined to"] = [" ".join(map(str, others)) for others in joined]
    return frame.iloc[metrics.ranking(history)]


def architectures(history: History) -> list[str]:
    """The structural genes of every member in words, such as `depth 2, width 64`."""
    names = history.space.structural
    columns = [history.last(name).tolist() for name in names]
    return [
        ", ".join(f"{n} {v}" for n, v in zip(names, row, strict=True))
        for row in zip(*columns, strict=True)
    ] or [""] * history.members


def genomes(history: History) -> list[str]:
    """The other genes of every member in words."""
    columns = []
    for name, _ in history.space.genes:
        if name not in history.space.structural:
            metric = metrics.describe(name, history.space)
            values = history.last(name)
            told = (
                [metrics.text(v, metric) for v in values] if _numeric(values) else values.tolist()
            )
            columns.append([f"{name} {value}" for value in told])
    return [", ".join(row) for row in zip(*columns, strict=True)] or [""] * history.members


def _numeric(values: np.ndarray) -> bool:
    return values.dtype.kind in "fiu"


def _shade(history: History, name: str) -> tuple[metrics.Metric, np.ndarray]:
    metric = metrics.describe(name, history.space)
    values = metrics.scaled(history.last(name), metric)
    usable = np.where(history.last("alive"), values, np.nan)
    shades = metrics.shades(usable, metrics.scale(usable), metric)
    return metric, np.where(np.isfinite(shades), shades, 0.0)


def _style() -> dict[str, Any]:
    return figure(
        xaxis=None,
        yaxis=None,
        show_legend=False,
        active_tools=["box_select"],
        shared_axes=False,
        tools=TOOLS,
    )


def _living(nodes: pd.DataFrame, layout: Layout, look: Look) -> hv.Points:
    return styled(
        hv.Points(nodes, ["x", "y"], _NODE, extents=layout.view),
        color="shade",
        cmap=list(look.ramp),
        clim=(0, 1),
        size="px",
        line_color=look.paper,
        line_width=0.8,
        hover_tooltips=_HOVER,
        tools=["hover", "box_select", "lasso_select"],
        nonselection_alpha=1.0,
    )


def _dead(nodes: pd.DataFrame, look: Look) -> hv.Points:
    return styled(
        hv.Points(nodes, ["x", "y"], _NODE),
        marker="x",
        size=9,
        color=look.dead,
        line_width=2.2,
        hover_tooltips=_HOVER,
        tools=["hover"],
        nonselection_alpha=1.0,
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
