"""Descent, and what went wrong."""

from __future__ import annotations

import numpy as np

from viz import alarms, captions, courses, lineage, members, metrics, spending
from viz.scene import Scene, View, choose_metric, first

FAMILIES = View(
    "families", "Founders", lambda scene: [],
    table=lambda scene: lineage.families(scene.history),
    caption=lambda scene: captions.caption(_families_text(scene)),
    plot=lambda scene: lineage.plot_families(scene.history, look=scene.look),
)  # fmt: skip


def _families_text(scene: Scene) -> str:
    living = scene.history.last("lineage")[scene.history.last("alive")]
    names = spending.FOUNDERS
    count = len(np.unique(living))
    shown = f"; {names} largest named" if count > names else ""
    return f"{len(living):,} living members descend from {count:,} founders{shown}"


ANCESTRY = View(
    "ancestry", "Ancestry",
    lambda scene: [choose_metric(scene, "metric", "Along it", _schedule(scene))],
    table=lambda scene, metric: lineage.table(
        scene.history, metric=metric, members=scene.members, look=scene.look
    ),
    caption=lambda scene, metric: captions.caption(
        f"{_drawn(scene)}; dot: clone, star: crossover; the lines go back through parents"
    ),
    plot=lambda scene, metric: lineage.plot(
        scene.history, metric=metric, members=scene.members, look=scene.look
    ),
    axes=("metric",),
)  # fmt: skip


def _schedule(scene: Scene) -> str:
    names = metrics.selectable(scene.history).values()
    return "learning_rate" if "learning_rate" in names else first(scene)


def _drawn(scene: Scene) -> str:
    drawn = len(courses.shown(scene.history, scene.members, scene.look))
    if scene.members:
        return f"{drawn} of {len(scene.members):,} selected shown"
    return f"best {min(drawn, lineage.MAX_LINES)} (none selected)"


def _births_caption(scene: Scene) -> str:
    found = lineage.births(scene.history)
    counts = found.event.value_counts()
    kinds = ("birth", "clone", "crossover", "death")
    told = ", ".join(f"{counts.get(kind, 0):,} {kind}s" for kind in kinds)
    shown = min(members.LIMIT, len(found))
    return captions.caption(told, f"{shown:,} of {len(found):,} shown, latest first")


BIRTHS = View(
    "births", "Births and deaths", lambda scene: [],
    table=lambda scene: lineage.births(scene.history), caption=_births_caption,
)  # fmt: skip

ALARMS = View(
    "alarms", "Alarms over time", lambda scene: [],
    table=lambda scene: alarms.timeline(scene.history).rename(columns={"at": "round"}),
    caption=lambda scene: captions.caption(
        _alarm_text(scene), "a tap selects the members of a dot"
    ),
    plot=lambda scene: alarms.plot(scene.history, members=scene.members, look=scene.look),
    tap=lambda scene, x, y: alarms.pick(scene.history, x, y),
)  # fmt: skip


def _alarm_text(scene: Scene) -> str:
    now = int((scene.history.last("alarm") != 0).sum())
    ever = int((scene.history.column("alarm") != 0).any(axis=0).sum())
    if not ever:
        return "no alarm so far: nothing went wrong that the detectors know"
    return f"{now:,} of {scene.history.members:,} members raise an alarm now, {ever:,} ever did"


def _alarm_caption(scene: Scene) -> str:
    count = len(alarms.table(scene.history, scene.events))
    return captions.caption(
        f"{min(count, members.LIMIT):,} of {count:,} alarms shown, latest first"
    )


ALARM_LIST = View(
    "alarm-list", "Alarms", lambda scene: [],
    table=lambda scene: alarms.table(scene.history, scene.events), caption=_alarm_caption,
    hears=True,
)  # fmt: skip
