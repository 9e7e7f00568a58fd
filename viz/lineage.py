"""Descent: which families live, what was born, copied and crossed, and how a member came to be."""

from __future__ import annotations

import math
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from swarmjax import topology
from viz import metrics, spending
from viz.courses import shown
from viz.history import Columns, History
from viz.margins import room, spaced
from viz.marks import element, overlay
from viz.theme import LIGHT, LINES, Look, figure, letters, mixed, pick_colors, styled

MAX_LINES = 4
_EVENTS = ("", "birth", "clone", "crossover", "migration", "death")
# Events along an ancestry: marker and its size.
_MARKERS = (("clone", "circle", 9), ("crossover", "star", 15), ("migration", "diamond", 13))


def plot_families(history: History, *, look: Look = LIGHT) -> hv.Overlay:
    """Share of the living that descend from each founder, round by round."""
    return spending.stacked(
        history, spending.population(history), "share of the living members", look
    )


def families(history: History) -> pd.DataFrame:
    """The shares in numbers, one row per round, latest first."""
    return spending.with_rounds(history, spending.population(history))


def births(history: History) -> pd.DataFrame:
    """Births, clones, migrations, crossovers and deaths, the latest first: one row each."""
    events, rows = happened(history), []
    dead = events == _EVENTS.index("death")
    # Whoever is dead already does not die once more.
    events = np.where(dead & np.vstack([np.zeros_like(dead[:1]), dead[:-1]]), 0, events)
    for r in np.flatnonzero(events.any(axis=1)).tolist():
        frame, slots = history.frames[r], _indices(events[r] != 0)
        names = ("birth", "parent", "mate", "fresh")
        for member, birth, parent, mate, fresh in zip(
            slots, *(frame[name][slots].tolist() for name in names), strict=True
        ):
            event = int(history.rounds[r]), _EVENTS[events[r, member]]
            parents = None if fresh else parent, mate if mate != member else None
            rows.append((*event, member, birth, *parents))
    names = ["round", "event", "member", "network", "parent", "mate"]
    found = pd.DataFrame(rows[::-1], columns=names)
    return found.astype({"parent": "Int64", "mate": "Int64"})


def happened(history: History) -> np.ndarray:
    """What every member went through in every round, `[R, N]`: an index into `_EVENTS`.

    A clone is a migration if its parent lives in another deme, in a round in which elites migrate.
    """
    migration, slots = history.migration, np.arange(history.members)
    deme = np.zeros_like(slots)
    if migration is not None and 2 <= migration.demes <= history.members:
        deme = np.asarray(topology.deme_of(history.members, migration.demes))

    def of(frame: Columns) -> np.ndarray:
        parent = frame["parent"]
        # A policy goes by the round before.
        migrates = migration is not None and (frame["round"][0] - 1) % migration.every == 0
        moved = deme[parent] != deme if migrates else np.zeros_like(slots, bool)
        found = ~frame["alive"], frame["fresh"], frame["mate"] != slots, moved, parent != slots
        kinds = ("death", "birth", "crossover", "migration", "clone")
        return np.select(found, [_EVENTS.index(kind) for kind in kinds], 0).astype(np.int8)

    return history.each(("happened", migration), of)


def _indices(which: np.ndarray) -> list[int]:
    return np.flatnonzero(which).tolist()


def ancestors(history: History, member: int) -> np.ndarray:
    """Slot `[R]` in which the network of `member`, or its ancestor, lived; -1 before its birth."""
    path = np.full(len(history.rounds), -1)
    fresh, parent, slot = history.column("fresh"), history.column("parent"), member
    for r in range(len(path) - 1, -1, -1):
        path[r] = slot
        if fresh[r, slot]:
            break
        slot = int(parent[r, slot])
    return path


def along(history: History, name: str, path: np.ndarray) -> np.ndarray:
    """A metric `[R]` along a path of slots, NaN before the birth."""
    metric = metrics.describe(name, history.space)
    raw = history.column(name)
    if raw.dtype.kind not in "fiu":
        return np.full(len(path), np.nan)
    values = metrics.scaled(raw[np.arange(len(path)), path], metric)
    usable = np.isfinite(values) & (path >= 0)
    return np.where(usable, [metrics.unscaled(v, metric) for v in values], np.nan)


def plot(
    history: History,
    *,
    metric: str,
    members: tuple[int, ...] = (),
    look: Look = LIGHT,
) -> hv.Overlay:
    """The metric along the ancestry of each member: a dot where it was copied, a star if crossed.

    Of a gene this is the schedule that the member's weights were trained by.
    """
    told = metrics.describe(metric, history.space)
    chosen = shown(history, members, look)[: MAX_LINES if not members else None]
    colors = pick_colors(chosen, look)
    paths = {m: ancestors(history, m) for m in chosen}
    lines = {m: along(history, metric, path) for m, path in paths.items()}
    low, high = room(np.concatenate([*lines.values(), []]), told)
    left, right = float(history.rounds[0]), float(history.rounds[-1])
    span = max(right - left, 1.0)
    extents = (left - 0.04 * span, low, right + 0.1 * span, high)
    parts = [
        _lines(history, lines, colors),
        *_marks(history, paths, lines, colors, extents, look),
        _numbers(history, lines, colors, extents, told),
    ]
    return styled(overlay(parts), **_style(told))


def table(
    history: History, *, metric: str, members: tuple[int, ...] = (), look: Look = LIGHT
) -> pd.DataFrame:
    """Each drawn member's ancestry: round, slot, network, event, the metric and all genes."""
    parts = []
    for member in shown(history, members, look)[: MAX_LINES if not members else None]:
        path = ancestors(history, member)
        rows = _indices(path >= 0)
        part = pd.DataFrame({"of member": member, "round": history.rounds[rows]})
        part["member"] = path[rows]
        for name in dict.fromkeys(("birth", "step", metric, *(g for g, _ in history.space.genes))):
            part[name] = history.column(name)[rows, path[rows]]
        part["event"] = [_EVENTS[event] for event in happened(history)[rows, path[rows]]]
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _lines(history: History, lines: dict[int, np.ndarray], colors: dict[int, str]) -> hv.Contours:
    paths = [{"t": history.rounds, "v": lines[m], "color": c} for m, c in colors.items()]
    paths += [{"t": [t], "v": [v], "color": c} for t, v, c in mixed([], math.nan, math.nan)]
    return styled(element(hv.Contours, paths, ["t", "v"], "color"), color="color", line_width=2.2)


def _marks(
    history: History,
    paths: dict[int, np.ndarray],
    lines: dict[int, np.ndarray],
    colors: dict[int, str],
    extents: tuple[float, float, float, float],
    look: Look,
) -> list[hv.Points]:
    events = happened(history)
    spots: dict[str, list[tuple]] = {event: [] for event, *_ in _MARKERS}
    for member, path in paths.items():
        for r in _indices((path >= 0) & np.isfinite(lines[member])):
            event = _EVENTS[events[r, path[r]]]
            if event in spots:
                text = f"{event} of member {history.frames[r]['parent'][path[r]]}"
                spots[event].append(
                    (history.rounds[r], lines[member][r], member, text, colors[member])
                )
    return [
        styled(
            element(
                hv.Points, mixed(spots[event], *[math.nan] * 3, ""), ["t", "v"],
                ["member", "text", "color"], extents=extents,
            ),
            marker=marker, size=size, color="color", line_color=look.paper, line_width=1,
            tools=["hover"], hover_tooltips=[("member", "@member"), ("event", "@text")],
            nonselection_alpha=1.0,
        )
        for event, marker, size in _MARKERS
    ]  # fmt: skip


def _numbers(
    history: History,
    lines: dict[int, np.ndarray],
    colors: dict[int, str],
    extents: tuple[float, float, float, float],
    metric: metrics.Metric,
) -> hv.Labels:
    ends = {m: float(metrics.scaled(v[-1:], metric)[0]) for m, v in lines.items()}
    wished = {m: end for m, end in ends.items() if math.isfinite(end)}
    bottom, top = metrics.scaled(np.array(extents[1::2]), metric)
    gap = 0.06 * (top - bottom)
    heights = spaced(wished, bottom + gap / 2, top - gap / 2, gap=gap) if wished else {}
    right = history.rounds[-1] + 0.02 * (extents[2] - extents[0])
    rows = [(right, metrics.unscaled(h, metric), f"{m}", colors[m]) for m, h in heights.items()]
    labels = element(hv.Labels, mixed(rows, math.nan, math.nan, ""), ["t", "v"], ["text", "color"])
    return styled(
        labels, text_color="color", text_align="left", text_font_style="bold", **letters()
    )


def _style(metric: metrics.Metric) -> dict[str, Any]:
    return figure(
        xlabel="round",
        ylabel=metric.label,
        logy=metric.log,
        **LINES,
    )
