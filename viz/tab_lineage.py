"""Descent, and what went wrong."""

from __future__ import annotations

import holoviews as hv
import numpy as np
import pandas as pd

from viz import alarms, captions, courses, lineage, members, metrics, spending, windows
from viz.scene import Control, Scene, View, choose_metric, first

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
    descend = captions.counted(len(living), "living member")
    return f"{descend} descended from {captions.counted(count, 'founder')}{shown}"


ANCESTRY = View(
    "ancestry", "Ancestry",
    lambda scene: [choose_metric(scene, "metric", "Along it", _schedule(scene))],
    table=lambda scene, metric: lineage.table(
        scene.history, metric=metric, members=scene.members, look=scene.look
    ),
    caption=lambda scene, metric: captions.caption(
        f"{_drawn(scene)}; dot: clone, star: crossover"
        f"{', diamond: migration' if scene.history.migration else ''}; "
        "the lines go back through parents"
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
    kinds = ["birth", "clone", "crossover", "death"]
    kinds += ["migration"] if scene.history.migration else []
    told = ", ".join(captions.counted(int(counts.get(kind, 0)), kind) for kind in kinds)
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


def _windows(scene: Scene) -> tuple[tuple[int, ...], pd.DataFrame]:
    """The members that are drawn, and their windows."""
    shown = courses.shown(scene.history, scene.members, scene.look)
    assert scene.windows is not None, "the card is there only where windows are kept"
    return shown, scene.windows(shown)


def _draw_windows(scene: Scene, metric: str) -> hv.Overlay:
    shown, rows = _windows(scene)
    return windows.plot(rows, members=shown, metric=metric, look=scene.look)


def _windows_caption(scene: Scene, metric: str) -> str:
    ends = "thin: the least and greatest in it" if metric == windows.LOSS.name else ""
    shown, rows = _windows(scene)
    of = (
        f"{len(shown)} of {len(scene.members):,} selected"
        if scene.members
        else f"best {len(shown)}"
    )
    return captions.caption(f"lines: {of}", windows.lengths(rows), ends)


WINDOWS = View(
    "windows", "Training, window by window",
    lambda scene: [Control("metric", "Metric", windows.METRICS, windows.LOSS.name)],
    table=lambda scene, metric: windows.table(_windows(scene)[1]),
    caption=_windows_caption, plot=_draw_windows, axes=("metric",),
    # What a round showed of single steps is stored after its Frame: an event comes later still.
    hears=True, when=lambda scene: scene.windows is not None, alone=True,
)  # fmt: skip

ALARM_LIST = View(
    "alarm-list", "Alarms", lambda scene: [],
    table=lambda scene: alarms.table(scene.history, scene.events), caption=_alarm_caption,
    hears=True,
)  # fmt: skip
