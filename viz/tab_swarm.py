"""The first tab: graph, heatmap, trajectories and the best members."""

from __future__ import annotations

import holoviews as hv

from viz import (
    captions,
    courses,
    graph,
    heatmap,
    likeness,
    members,
    metrics,
    selection,
    trajectories,
)
from viz.scene import Control, Scene, View, choose_metric

SIMILARITIES = {
    "architecture": "architecture",
    "genome": "genome",
    "predictions": "predictions",
    "outputs": "outputs (CKA)",
}
NONE = {"none": ""}


def _graph_controls(scene: Scene) -> list[Control]:
    kinds = {SIMILARITIES[kind]: kind for kind in likeness.kinds(scene.history)}
    return [
        Control("edges", "Edges: similar", kinds, next(iter(kinds.values()))),
        choose_metric(scene, "size", "Size"),
        choose_metric(scene, "color", "Color"),
    ]


def _graph(scene: Scene, edges: str, size: str, color: str) -> hv.Overlay:
    return graph.plot(
        scene.history, scene.layouts[edges], color=color, size=size, members=scene.members,
        look=scene.look,
    )  # fmt: skip


def _tap_graph(scene: Scene, x: float, y: float, edges: str, **_: str) -> list[int]:
    found = selection.nearest(scene.layouts[edges].positions, x, y)
    return [] if found is None else [found]


GRAPH = View(
    "graph", "Swarm", _graph_controls,
    table=lambda scene, edges, size, color: graph.table(
        scene.history, scene.layouts[edges], color=color, size=size
    ),
    caption=lambda scene, edges, size, color: captions.graph_caption(
        scene.history, scene.layouts[edges], SIMILARITIES[edges], color, scene.look
    ),
    plot=_graph, tap=_tap_graph,
    area=lambda scene, corners, edges, **_: selection.inside(
        corners, scene.layouts[edges].positions
    ),
)  # fmt: skip


def _tap_heatmap(scene: Scene, _x: float, y: float, rows: str, **_: str) -> list[int]:
    found = heatmap.pick(scene.history, rows, y)
    return [] if found is None else [found]


HEATMAP = View(
    "heatmap", "Members over time",
    lambda scene: [
        Control("rows", "Rows", heatmap.choices(scene.history), "rank"),
        choose_metric(scene, "metric", "Color"),
    ],
    table=lambda scene, rows, metric: heatmap.table(scene.history, metric=metric, rows=rows),
    caption=lambda scene, rows, metric: captions.heatmap_caption(scene.history, metric, scene.look),
    plot=lambda scene, rows, metric, window: heatmap.plot(
        scene.history, metric=metric, rows=rows, members=scene.members, look=scene.look,
        window=window,
    ),
    tap=_tap_heatmap, zooms=True,
)  # fmt: skip


def _line_controls(scene: Scene) -> list[Control]:
    more = NONE | metrics.selectable(scene.history)
    return [
        Control("axis", "Against", courses.AXES, "round"),
        choose_metric(scene, "metric", "Metric"),
        Control("second", "And", more, ""),
        Control("third", "And", more, ""),
    ]


def _also(second: str, third: str) -> tuple[str, ...]:
    return tuple(name for name in (second, third) if name)


LINES = View(
    "lines", "Trajectories", _line_controls,
    table=lambda scene, axis, metric, second, third: trajectories.table(
        scene.history, metric=metric, axis=axis, also=_also(second, third),
        members=scene.members, look=scene.look,
    ),
    caption=lambda scene, axis, metric, second, third: captions.trajectory_caption(
        scene.history, scene.members, scene.look, (metric, *_also(second, third))
    ),
    plot=lambda scene, axis, metric, second, third: trajectories.plot(
        scene.history, metric=metric, axis=axis, also=_also(second, third),
        members=scene.members, look=scene.look,
    ),
    axes=("axis", "metric", "second", "third"),
)  # fmt: skip

BEST = View(
    "members", "Best members", lambda scene: [],
    table=lambda scene: members.table(scene.history),
    caption=lambda scene: captions.table_caption(scene.history, scene.members),
)  # fmt: skip
