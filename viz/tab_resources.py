"""What members cost beside what they are worth."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pandas as pd

from viz import captions, members, metrics, scatter, selection, spending
from viz.scene import Control, Scene, View, choose_any, first


def _cheapest(scene: Scene) -> str:
    return "spent" if len(scene.history.rounds) else "cost"


def _scatter_plot(scene: Scene, x: str, y: str, color: str, front: bool) -> hv.Overlay:
    return scatter.plot(
        scene.history, x=x, y=y, color=color, front=front, members=scene.members, look=scene.look
    )


def _scatter_caption(scene: Scene, x: str, y: str, color: str, front: bool) -> str:
    history = scene.history
    frame = scatter.table(history, x=x, y=y, color=color)
    tint = metrics.describe(color, history.space)
    told = [metrics.describe(name, history.space) for name in (x, y)]
    drawn = len(scatter.shown(history, frame, scene.members))
    beside = scatter.beside(frame, told)
    texts = [f"{drawn:,} of {history.members:,} members shown"]
    texts += [f"{beside:,} of them lie beside the figure: zoom out"] if beside else []
    if front:
        count = len(scatter.pareto(frame, *told))
        texts.append(f"dashed: {count} that no other beats in both")
    shades = metrics.scaled(frame[color].to_numpy(float), tint)
    return captions.shaded(shades, tint, scene.look, *texts)


def _scatter_tap(scene: Scene, at_x: float, at_y: float, x: str, y: str) -> list[int]:
    found = scatter.pick(scene.history, x, y, (at_x, at_y))
    return [] if found is None else [found]


def _scatter_area(scene: Scene, corners: np.ndarray, x: str, y: str) -> list[int]:
    told = [metrics.describe(name, scene.history.space) for name in (x, y)]
    moved = [metrics.scaled(corners[:, i], metric) for i, metric in enumerate(told)]
    places = scatter.places(scene.history, x, y)
    found = selection.inside(np.stack(moved, axis=1), np.nan_to_num(places, nan=np.inf))
    order = np.argsort(metrics.ranking(scene.history))
    return sorted(found, key=lambda member: order[member])


FRONTIER = View(
    "frontier", "Efficiency frontier",
    lambda scene: [
        choose_any(scene, "x", "Across", _cheapest(scene)),
        choose_any(scene, "y", "Up", first(scene)),
        choose_any(scene, "color", "Color", first(scene)),
    ],
    table=lambda scene, x, y, color: scatter.table(scene.history, x=x, y=y, color=color),
    caption=lambda scene, x, y, color: _scatter_caption(scene, x, y, color, True),
    plot=lambda scene, x, y, color: _scatter_plot(scene, x, y, color, True),
    tap=lambda scene, at_x, at_y, x, y, **_: _scatter_tap(scene, at_x, at_y, x, y),
    area=lambda scene, corners, x, y, **_: _scatter_area(scene, corners, x, y),
    axes=("x", "y"),
)  # fmt: skip

BROUGHT = FRONTIER._replace(
    name="brought", title="Compute and gain",
    controls=lambda scene: [
        choose_any(scene, "x", "Across", "spent"),
        choose_any(scene, "y", "Up", "gain"),
        choose_any(scene, "color", "Color", first(scene)),
    ],
    caption=lambda scene, x, y, color: _scatter_caption(scene, x, y, color, False),
    plot=lambda scene, x, y, color: _scatter_plot(scene, x, y, color, False),
)  # fmt: skip

SPENDING = View(
    "spending", "Allocation over time",
    lambda scene: [Control("group", "Members by", spending.GROUPS, "rank")],
    table=lambda scene, group: spending.table(scene.history, group=group),
    caption=lambda scene, group: captions.caption(_share_text(scene)),
    plot=lambda scene, group: spending.plot(scene.history, group=group, look=scene.look),
    axes=("group",),
)  # fmt: skip


def _share_text(scene: Scene) -> str:
    spent = scatter.values(scene.history, "spent")
    spent = np.sort(spent[np.isfinite(spent)])[::-1]
    if not spent.size or not spent.sum():
        return "nothing was spent yet"
    tenth = max(1, len(spent) // 10)
    share = spent[:tenth].sum() / spent.sum()
    return f"a tenth of the {len(spent):,} living members took {share:.0%} of the FLOPs in all"


def _resource_table(scene: Scene, **_: str) -> pd.DataFrame:
    """Every member's costs beside its fitness, the best first."""
    history = scene.history
    ranking = metrics.ranking(history)
    frame = pd.DataFrame({"member": ranking})
    names = [metrics.fitness_metric(history), "parameters", "bytes", "cost", "seconds", "steps"]
    for name in [name for name in names if name in history.names]:
        frame[metrics.describe(name, history.space).label] = history.last(name)[ranking]
    spent = scatter.values(history, "spent")
    frame["FLOPs spent"] = spent[ranking]
    frame["share of all"] = spent[ranking] / max(float(np.nansum(spent)), 1.0)
    frame["gain"] = scatter.values(history, "gain")[ranking]
    return frame


def _resource_caption(scene: Scene, **_: str) -> str:
    history = scene.history
    alive = history.last("alive")
    seconds = (history.column("seconds").astype(float) * history.column("steps")).sum(axis=1)
    total = float(np.nansum(seconds))
    held = float(history.last("bytes")[alive].sum()) / 2**20
    flops = float((history.column("cost").astype(float) * history.column("steps")).sum())
    shown = min(members.LIMIT, history.members)
    return captions.caption(
        f"in all {flops:.3g} FLOPs, {total:,.1f} s of training, {held:,.1f} MiB of weights and "
        "optimizer state",
        f"{shown:,} of {history.members:,} members shown",
    )


COSTS = View("costs", "Resources", lambda scene: [], _resource_table, _resource_caption)
