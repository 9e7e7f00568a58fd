"""What members cost beside what they are worth."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pandas as pd

from viz import captions, courses, members, metrics, scatter, selection, spending
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


def _islands(scene: Scene) -> dict[str, np.ndarray]:
    """Columns of what every island did in the latest round."""
    assert scene.islands is not None, "the view stands only where there are islands"
    return {str(name): scene.islands[name].to_numpy() for name in scene.islands.columns}


def _island_table(scene: Scene, **_: str) -> pd.DataFrame:
    """What every island did in the latest round, and how it fares."""
    rows = _islands(scene)
    return pd.DataFrame({
        "island": rows["island"], "host": rows["host"], "process": rows["pid"],
        "members": rows["members"], "steps": rows["steps"], "seconds": rows["seconds"],
        "load": rows["seconds"] / max(float(rows["seconds"].max()), 1e-30),
        "CPU cores": rows["cpu"], "memory (MiB)": rows["memory"] / 2**20, "GPU": rows["gpu"],
        "networks that came": rows["arrived"],
        "health": ["well" if n == 1 else f"made anew {n - 1} times" for n in rows["begun"]],
    })  # fmt: skip


def _island_caption(scene: Scene, **_: str) -> str:
    rows = _islands(scene)
    said = [event for event in scene.events if event.kind == "island"]
    came, size = int(rows["arrived"].sum()), float(rows["arrived_bytes"].sum()) / 2**20
    return captions.caption(
        f"{len(rows['island']):,} islands in round {int(rows['round'].max()):,}; {came:,} networks "
        f"({size:,.1f} MiB) went between them",
        f"round {said[-1].round:,}: {said[-1].text}" if said else "",
    )


ISLANDS = View(
    "islands", "Islands", lambda scene: [], _island_table, _island_caption, hears=True,
    when=lambda scene: scene.islands is not None,
)  # fmt: skip


def _layers(scene: Scene) -> pd.DataFrame:
    """The layers of the members that are drawn elsewhere: the selected, or the best."""
    history, known = scene.history, scene.layers
    assert known is not None, "the view stands only where layers are told of"
    rows = []
    for member in courses.shown(history, scene.members, scene.look):
        genes = history.space.structural
        has = ", ".join(f"{name}={history.last(name)[member]}" for name in genes)
        mine = np.flatnonzero(known["architecture"].to_numpy() == has)
        names, kinds, sizes, inputs = (
            known[column].to_numpy()[mine].tolist()
            for column in ("layer", "kind", "sizes", "inputs")
        )
        for name, kind, size, fed in zip(names, kinds, sizes, inputs, strict=True):
            by = ", ".join(names[int(place)] for place in fed.split(", ") if place)
            rows.append((member, has, name, kind, size.replace(", ", " → "), by))
    columns = ["member", "architecture", "layer", "type", "features", "fed by"]
    return pd.DataFrame(rows, columns=columns)


def _layer_caption(scene: Scene) -> str:
    assert scene.layers is not None, "the view stands only where layers are told of"
    many = captions.counted(len(set(scene.layers["architecture"])), "architecture")
    shown = len(courses.shown(scene.history, scene.members, scene.look))
    of = f"of {len(scene.members):,} selected" if scene.members else "best (none selected)"
    return captions.caption(f"{shown} {of} shown; {many} in this run so far")


LAYERS = View(
    "layers", "Layers", lambda scene: [], _layers, _layer_caption,
    when=lambda scene: scene.layers is not None,
)  # fmt: skip
