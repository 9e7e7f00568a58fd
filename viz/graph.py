"""The swarm graph: every member a node, joined to the most similar ones."""

from __future__ import annotations

import math
from typing import NamedTuple

import holoviews as hv
import numpy as np
import pandas as pd

from swarmjax import similarity
from swarmjax.space import Space
from viz import metrics
from viz.source import History
from viz.theme import TOOLS, Look, figure, pick_colors

NEIGHBOURS = 3
MAX_EDGES = 15_000
MAX_GROUPS = 14


class Layout(NamedTuple):
    """Where the members of one round lie.

    Attributes:
        positions: `[N, 2]`.
        edges: `[E, 2]` pairs of members.
        round: the round it was made for.
    """

    positions: np.ndarray
    edges: np.ndarray
    round: int


def link(history: History, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Features `[N, F]` and edges `[E, 2]` to the nearest members by `kind` of similarity."""
    genome = history.genome()
    features = similarity.features(history.space, genome)
    if kind == "architecture":
        # Among equal architectures the genome decides, faintly.
        shape = similarity.features(history.space, genome, history.space.structural)
        features = np.concatenate([shape, 0.05 * features], axis=1)
    near = similarity.nearest(features, NEIGHBOURS)
    pairs = np.stack([np.repeat(np.arange(len(near)), near.shape[1]), near.ravel()], axis=1)
    return features, np.unique(np.sort(pairs, axis=1), axis=0)


def kinds(space: Space) -> list[str]:
    """Similarities that can be shown; the first is the default."""
    return ["architecture", "genome"] if space.structural else ["genome"]


def arrange_all(history: History, before: dict[str, Layout] | None) -> dict[str, Layout]:
    """The layout of the latest round for every kind of similarity."""
    before = before or {}
    return {kind: arrange(history, kind, before.get(kind)) for kind in kinds(history.space)}


def arrange(history: History, kind: str, before: Layout | None = None) -> Layout:
    """The layout of the latest round: survivors near where they were, children at a parent."""
    features, edges = link(history, kind)
    number = int(history.rounds[-1])
    if before is None or len(before.positions) != history.members:
        return Layout(_settle(_spread(features), edges, steps=220, heat=0.3), edges, number)
    positions = before.positions
    for frame in history.frames[int(np.searchsorted(history.rounds, before.round, "right")) :]:
        moved = frame["parent"] != frame["member"]
        jitter = np.random.default_rng(int(frame["round"][0])).normal(0, 0.03, positions.shape)
        positions = positions[frame["parent"]] + jitter * moved[:, None]
    return Layout(_settle(positions, edges, steps=12, heat=0.03), edges, number)


def _spread(features: np.ndarray) -> np.ndarray:
    """A first guess `[N, 2]`: the two widest directions of the features, with some noise."""
    centred = features - features.mean(0)
    noise = np.random.default_rng(0).normal(0, 0.3, (len(features), 2))
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    flat = centred @ axes.T
    wide = flat / max(float(np.abs(flat).max()), 1e-6) * math.sqrt(len(features)) / 2
    return np.pad(wide, ((0, 0), (0, 2 - wide.shape[1]))) + noise


def _settle(positions: np.ndarray, edges: np.ndarray, steps: int, heat: float) -> np.ndarray:
    """Moves the nodes down the gradient of attraction along edges and repulsion from samples.

    The unit of length is the wished distance between neighbours. Repulsion is estimated from a
    few random others per step (negative sampling, as in Tang et al. 2016, LargeVis).
    """
    random = np.random.default_rng(len(edges))
    members = len(positions)
    samples = min(members, 24)
    a, b = edges.T
    for step in range(steps):
        pull = positions[b] - positions[a]
        force = np.zeros_like(positions)
        for axis in range(2):
            force[:, axis] += np.bincount(a, pull[:, axis], members)
            force[:, axis] -= np.bincount(b, pull[:, axis], members)
        others = random.integers(0, members, (members, samples))
        away = positions[:, None] - positions[others]
        distance = (away**2).sum(-1, keepdims=True) + 0.05
        force += (away / distance).sum(1) * (1.2 * min(members, 60) / samples)
        force -= 0.05 * positions
        size = np.linalg.norm(force, axis=1, keepdims=True)
        cooling = heat * (1 - step / steps)
        positions = positions + force / np.maximum(size, 1e-9) * np.minimum(size * 0.2, 2) * cooling
    return positions


def plot(
    history: History,
    layout: Layout,
    *,
    color: str,
    size: str,
    members: tuple[int, ...] = (),
    look: Look,
) -> hv.Overlay:
    """The graph of the latest round: Segments, nodes, group names, rings on the selected."""
    nodes = node_table(history, layout, color=color, size=size)
    alive, dead = nodes[nodes.alive], nodes[~nodes.alive]
    hover = [("member", "@member"), ("network", "@birth"), ("color", "@color_value"),
             ("size", "@size_value"), ("architecture", "@group")]  # fmt: skip
    dims = ["x", "y"], ["shade", "px", "member", "birth", "color_value", "size_value", "group"]
    points = hv.Points(alive, *dims).opts(
        color="shade", cmap=list(look.ramp), clim=(0, 1), size="px",
        line_color=look.paper, line_width=0.8, hover_tooltips=hover,
        tools=["hover", "box_select"], nonselection_alpha=1.0,
    )  # fmt: skip
    crosses = hv.Points(dead, *dims).opts(
        marker="x", size="px", color=look.dead, line_width=2.2, hover_tooltips=hover,
        tools=["hover"], nonselection_alpha=1.0,
    )  # fmt: skip
    parts = [_edges(layout, look), points, crosses, _rings(nodes, members, look)]
    return hv.Overlay([*parts, _names(history, layout, look)]).opts(
        hv.opts.Overlay(
            **figure(
                xaxis=None,
                yaxis=None,
                data_aspect=1,
                padding=0.06,
                show_legend=False,
                active_tools=["box_select"],
                shared_axes=False,
                framewise=True,
                xlim=_extent(layout, 0),
                ylim=_extent(layout, 1),
                tools=TOOLS,
            )  # fmt: skip
        )
    )


def node_table(history: History, layout: Layout, *, color: str, size: str) -> pd.DataFrame:
    """One row per member: place, shade in `[0, 1]`, size in screen units, words for the hover."""
    tint, shade = _shade(history, color)
    weight, share = _shade(history, size)
    # Area shows the value; crowded swarms get smaller nodes.
    unit = min(30.0, 560.0 / math.sqrt(history.members + 60))
    return pd.DataFrame(
        {
            "x": layout.positions[:, 0],
            "y": layout.positions[:, 1],
            "member": history.last("member"),
            "birth": history.last("birth"),
            "alive": history.last("alive"),
            "shade": shade,
            "px": unit * np.sqrt(0.08 + 0.92 * share**1.5),
            "color_value": [metrics.text(v, tint) for v in history.last(color).astype(float)],
            "size_value": [metrics.text(v, weight) for v in history.last(size).astype(float)],
            "group": architectures(history),
        }
    )


def architectures(history: History) -> list[str]:
    """The structural genes of every member in words, such as `depth 2, width 64`."""
    names = history.space.structural
    columns = [history.last(name).tolist() for name in names]
    return [
        ", ".join(f"{n} {v}" for n, v in zip(names, row, strict=True))
        for row in zip(*columns, strict=True)
    ] or [""] * history.members


def pick(layout: Layout, x: float, y: float) -> int | None:
    """The member nearest to a tap, None when the tap is far from all."""
    distance = np.hypot(*(layout.positions - (x, y)).T)
    reach = 0.03 * float(np.ptp(layout.positions, axis=0).max() + 1)
    return int(distance.argmin()) if distance.min() < reach else None


def inside(layout: Layout, bounds: tuple[float, float, float, float]) -> list[int]:
    """Members within a box (left, bottom, right, top)."""
    x, y = layout.positions.T
    left, bottom, right, top = bounds
    return np.flatnonzero((x >= left) & (x <= right) & (y >= bottom) & (y <= top)).tolist()


def _shade(history: History, name: str) -> tuple[metrics.Metric, np.ndarray]:
    metric = metrics.describe(name, history.space)
    values = metrics.scaled(history.last(name), metric)
    usable = np.where(history.last("alive"), values, np.nan)
    shades = metrics.shades(usable, metrics.limits(usable, metric), metric)
    return metric, np.where(np.isfinite(shades), shades, 0.0)


def _edges(layout: Layout, look: Look) -> hv.Segments:
    edges = layout.edges[:MAX_EDGES]
    ends = np.concatenate([layout.positions[edges[:, 0]], layout.positions[edges[:, 1]]], axis=1)
    return hv.Segments(tuple(ends.T), ["x", "y", "x1", "y1"]).opts(
        color=look.muted, alpha=0.35 if len(edges) < 2000 else 0.16, line_width=1
    )


def _rings(nodes: pd.DataFrame, members: tuple[int, ...], look: Look) -> hv.Points:
    chosen = nodes.loc[[m for m in members if m < len(nodes)], ["x", "y", "px"]]
    colors = pick_colors(members, look)
    rings = chosen.assign(px=chosen.px + 7, ring=[colors.get(m, look.ink) for m in chosen.index])
    return hv.Points(rings, ["x", "y"], ["px", "ring"]).opts(
        size="px", line_color="ring", fill_alpha=0, line_width=3, color="ring"
    )


def _names(history: History, layout: Layout, look: Look) -> hv.Labels:
    """Names of the largest architecture groups, above their members."""
    frame = pd.DataFrame(layout.positions, columns=["x", "y"]).assign(text=architectures(history))
    groups = frame.groupby("text").agg(x=("x", "median"), y=("y", "max"), size=("x", "size"))
    biggest = groups[groups["size"] > 2].nlargest(MAX_GROUPS, "size").reset_index()
    return hv.Labels(biggest, ["x", "y"], "text").opts(
        text_color=look.muted, text_font_size="8.5pt", yoffset=0.35, text_baseline="bottom"
    )


def _extent(layout: Layout, axis: int) -> tuple[float, float]:
    """A range that holds all nodes, in coarse steps so that it rarely changes."""
    low, high = layout.positions[:, axis].min(), layout.positions[:, axis].max()
    step = max(2.0, 2 ** round(math.log2(max(float(high - low), 1.0) / 8)))
    return math.floor((low - 0.5) / step) * step, math.ceil((high + 0.8) / step) * step
