"""Members by rounds, one metric as colour."""

from __future__ import annotations

import math
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from viz import metrics, pixels
from viz.history import History
from viz.marks import element, overlay
from viz.selection import Window
from viz.theme import LIGHT, Look, figure, mixed, pick_colors, styled

MAX_MARKS = 300
ROWS = {"best first": "rank", "by slot": "slot", "by founder": "lineage"}
GENE = "gene:"


def plot(
    history: History,
    *,
    metric: str,
    rows: str = "rank",
    members: tuple[int, ...] = (),
    look: Look = LIGHT,
    window: Window | None = None,
) -> hv.Overlay:
    """Image of the metric, a cross where a member died, a dot where one raised an alarm.

    A frame is around the selected. Of a large heatmap, each pixel shows the mean of its cells:
    of all, or of those in the `window` (left, bottom, right, top).
    """
    told = metrics.describe(metric, history.space)
    sequence = order(history, rows)
    scale = metrics.scale(metrics.sample(history, told))
    image = _shaded(pixels.image(history, told, sequence, window), history, told, scale, sequence)
    shown = styled(
        image,
        cmap=list(look.ramp),
        clim=(0, 1),
        clipping_colors={"NaN": look.line, "min": look.line},
        tools=["hover"],
        hover_tooltips=[
            ("member", "@member"),
            ("round", "@round"),
            (told.label, "@value{0.0[00000]}"),
        ],
    )
    parts = [
        shown,
        _alarms(history, sequence, look),
        _deaths(history, sequence, look),
        _frames(history, sequence, members, look),
    ]
    return styled(overlay(parts), **_style())


def table(history: History, *, metric: str, rows: str = "rank") -> pd.DataFrame:
    """The heatmap in numbers: one row per member, from the top, and one column per round."""
    sequence = order(history, rows)[::-1]
    told = metrics.describe(metric, history.space)
    grid = np.where(history.column("alive"), history.column(told.name).astype(float), np.nan)
    frame = pd.DataFrame(grid.T[sequence], columns=[f"round {r}" for r in history.rounds])
    frame.insert(0, "member", sequence)
    return frame


def choices(history: History) -> dict[str, str]:
    """Label -> name of every order of rows."""
    genes = [name for name, _ in history.space.genes]
    return ROWS | {f"by {metrics.describe(g, history.space).label}": GENE + g for g in genes}


def order(history: History, rows: str) -> np.ndarray:
    """The member `[N]` in each row from the bottom.

    Args:
        history: the rounds shown.
        rows: "rank" (best on top), "slot", "lineage" (descendants of one founder together) or
            `GENE` and the name of a gene (rising); within these the best on top.
    """
    if rows == "slot":
        return np.arange(history.members)[::-1]
    worst_first = metrics.ranking(history)[::-1]
    if rows == "rank":
        return worst_first
    if rows == "lineage":
        keys = -history.last("lineage")
    else:
        keys = history.genome()[rows.removeprefix(GENE)]
    return worst_first[np.argsort(np.asarray(keys)[worst_first], kind="stable")]


def pick(history: History, rows: str, y: float) -> int | None:
    """The member whose row was tapped at height `y`."""
    row = round(y)
    return int(order(history, rows)[row]) if 0 <= row < history.members else None


def deaths(history: History) -> np.ndarray:
    """Rounds (as positions) and members `[D, 2]` at which a network was first seen dead."""
    alive = history.column("alive")

    def died(r: int) -> np.ndarray:
        return np.flatnonzero(~alive[r] & alive[r - 1] if r else ~alive[r])

    return history.places("deaths", died)


def alarms(history: History) -> np.ndarray:
    """Rounds (as positions) and members `[A, 2]` at which a living one raised an alarm anew."""
    alarm, alive = history.column("alarm"), history.column("alive")

    def raised(r: int) -> np.ndarray:
        now = (alarm[r] != 0) & alive[r]
        return np.flatnonzero(now & ~((alarm[r - 1] != 0) & alive[r - 1]) if r else now)

    return history.places("alarms", raised)


def _style() -> dict[str, Any]:
    return figure(
        xlabel="round",
        yaxis=None,
        xticks=6,
        active_tools=["box_zoom"],
    )


def _shaded(
    image: pixels.Pixels,
    history: History,
    metric: metrics.Metric,
    scale: metrics.Scale,
    sequence: np.ndarray,
) -> hv.Image:
    """The image in shades, with the member, round and value of each cell for the hover."""
    at, row, z, (left, bottom, right, top) = image
    member = sequence[np.clip(np.rint(row), 0, history.members - 1).astype(int)].astype(np.int32)
    member, number = np.meshgrid(member, np.rint(at).astype(np.int32), indexing="ij")
    # The browser is sent every cell: halves of numbers are enough for colours and words.
    shade = metrics.shades(z, scale, metric).astype(np.float32)
    value = 10.0**z if metric.log else z
    if not np.isfinite(shade).any():
        # HoloViews cannot draw what has no value at all.
        value, shade = np.zeros(z.shape), np.full(z.shape, -1.0)
    data = (at, row, shade, member, number, value)
    return element(
        hv.Image, data, ["at", "row"], ["z", "member", "round", "value"], bounds=image.bounds,
        # One round or one member has no spacing to read the size of a cell from.
        xdensity=len(at) / (right - left), ydensity=len(row) / (top - bottom),
    )  # fmt: skip


def _deaths(history: History, sequence: np.ndarray, look: Look) -> hv.Points:
    found = deaths(history)[-MAX_MARKS:]
    first, last = history.rounds[[0, -1]]
    whole = (first - 0.5, -0.5, last + 0.5, history.members - 0.5)
    marks = element(hv.Points, _at(history, sequence, found), ["at", "row"], extents=whole)
    return styled(marks, marker="x", size=7, color=look.dead, line_width=2, nonselection_alpha=1.0)


def _alarms(history: History, sequence: np.ndarray, look: Look) -> hv.Points:
    found = alarms(history)[-MAX_MARKS:]
    return styled(
        element(hv.Points, _at(history, sequence, found), ["at", "row"]), marker="circle",
        size=5 if len(found) < 100 else 3, color=look.alarm, line_color=look.paper,
        line_width=0.5, nonselection_alpha=1.0,
    )  # fmt: skip


def _at(history: History, sequence: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, ...]:
    """Where rounds and members `[K, 2]` stand in the image."""
    return history.rounds[found[:, 0]], np.argsort(sequence)[found[:, 1]]


def _frames(
    history: History, sequence: np.ndarray, members: tuple[int, ...], look: Look
) -> hv.Segments:
    height = np.argsort(sequence)
    left, right = history.rounds[0] - 0.5, history.rounds[-1] + 0.5
    lines = [
        (left, height[member] + side, right, height[member] + side, color)
        for member, color in pick_colors(members, look).items()
        for side in (-0.5, 0.5)
    ]
    return styled(
        element(hv.Segments, mixed(lines, *[math.nan] * 4), ["at", "row", "end", "row2"], "color"),
        color="color",
        line_width=2,
        nonselection_alpha=1.0,
    )
