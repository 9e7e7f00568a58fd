"""Where compute goes: the share of every group of members in each round's operations."""

from __future__ import annotations

from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from viz import metrics
from viz.history import History
from viz.margins import spaced
from viz.marks import element, overlay
from viz.theme import LIGHT, Look, figure, letters, styled

QUARTERS = ("best quarter", "second quarter", "third quarter", "last quarter", "dead")
GROUPS = {"rank": "rank", "founder": "lineage"}
FOUNDERS = 8


def plot(history: History, *, group: str = "rank", look: Look = LIGHT) -> hv.Overlay:
    """Shares of each round's operations, stacked: the best quarter at the bottom.

    By `founder`, the largest families, the rest above them.
    """
    return stacked(history, shares(history, group), "share of the round's FLOPs", look)


def shares(history: History, group: str = "rank") -> pd.DataFrame:
    """One row per round, one column per group: its share of the operations of the round."""
    spent = history.column("cost").astype(float) * history.column("steps")
    return _share_of(spent, _quarters(history) if group == "rank" else founders(history))


def table(history: History, *, group: str = "rank") -> pd.DataFrame:
    """The shares in numbers, one row per round, latest first."""
    return with_rounds(history, shares(history, group))


def with_rounds(history: History, found: pd.DataFrame) -> pd.DataFrame:
    """A table by round, the latest first."""
    told = found.copy()
    told.insert(0, "round", history.rounds)
    return told.iloc[::-1]


def _share_of(weight: np.ndarray, groups: tuple[np.ndarray, list[str]]) -> pd.DataFrame:
    index, names = groups
    whole = np.maximum(weight.sum(axis=1), 1e-30)
    columns = {
        name: np.where(index == i, weight, 0).sum(axis=1) / whole for i, name in enumerate(names)
    }
    return pd.DataFrame(columns)


def _quarters(history: History) -> tuple[np.ndarray, list[str]]:
    """Group `[R, N]` by the fitness that a member began the round with; in the first, after it."""
    fit = metrics.fitness(history)
    before = np.concatenate([fit[:1], fit[:-1]])
    # Whoever was copied begins with what the parent had.
    before[1:] = np.take_along_axis(before[1:], history.column("parent")[1:].astype(int), axis=1)
    place = np.argsort(np.argsort(-before, axis=1, kind="stable"), axis=1)
    group = place * 4 // history.members
    return np.where(history.column("alive"), group, 4), list(QUARTERS)


def founders(history: History) -> tuple[np.ndarray, list[str]]:
    """Group `[R, N]` by founder: the largest families of the latest round, and the others."""
    lineage = history.column("lineage")
    living = history.last("lineage")[history.last("alive")]
    found, count = np.unique(living, return_counts=True)
    largest = found[np.argsort(-count, kind="stable")[:FOUNDERS]]
    group = np.full(lineage.shape, len(largest))
    for i, founder in enumerate(largest):
        group[lineage == founder] = i
    return group, [*(f"network {founder}" for founder in largest), "others"]


def population(history: History) -> pd.DataFrame:
    """One row per round, one column per family: its share of the living members."""
    return _share_of(history.column("alive").astype(float), founders(history))


def stacked(history: History, found: pd.DataFrame, label: str, look: Look) -> hv.Overlay:
    """Stacked areas, one per column, with their names at the end."""
    tops = np.cumsum(found.to_numpy(float), axis=1)
    lows = np.concatenate([np.zeros((len(tops), 1)), tops[:, :-1]], axis=1)
    at = history.rounds.astype(float)
    if len(at) == 1:
        at, tops, lows = (
            np.array([at[0] - 0.4, at[0] + 0.4]),
            *(np.repeat(v, 2, 0) for v in (tops, lows)),
        )
    colors = _colors(len(found.columns), look)
    areas = [
        styled(
            element(hv.Area, (at, lows[:, i], tops[:, i]), "t", ["low", "high"]),
            color=color, line_color=look.paper, line_width=0.8, fill_alpha=0.85,
        )
        for i, color in enumerate(colors)
    ]  # fmt: skip
    names = _names(at, lows, tops, list(found.columns), look)
    return styled(overlay([*areas, names]), **_style(label))


def _colors(count: int, look: Look) -> list[str]:
    """Shades of the ramp from the best; the last one, of the rest, is that of lines."""
    at = np.linspace(235, 60, max(count - 1, 1)).astype(int)
    return [*(look.ramp[i] for i in at[: count - 1]), look.line]


def _names(
    at: np.ndarray, lows: np.ndarray, tops: np.ndarray, names: list[str], look: Look
) -> hv.Labels:
    """Names of the groups in the last round, none over another; of those gone by, where widest."""
    middles = (lows[-1] + tops[-1]) / 2
    seen = [i for i in range(len(names)) if tops[-1, i] - lows[-1, i] > 0.01]
    heights = spaced({i: float(middles[i]) for i in seen}, 0.03, 0.97, gap=0.068) if seen else {}
    rows = [(at[-1], height, f"{names[i]} ") for i, height in heights.items()]
    for i in set(range(len(names))) - set(seen):
        r = int(np.argmax(tops[:, i] - lows[:, i]))
        if tops[r, i] - lows[r, i] > 0.1:
            # No name has room to the left of the first rounds.
            place = at[max(r, len(at) // 4)]
            rows.append((place, (lows[r, i] + tops[r, i]) / 2, names[i]))
    ends = (float(at[0]), 0.0, float(at[-1]), 1.0)
    labels = element(hv.Labels, rows or [(at[0], 0.5, "")], ["t", "v"], "text", extents=ends)
    background = {"background_fill_color": look.paper, "background_fill_alpha": 0.75, "padding": 1}
    return styled(labels, text_color=look.ink, text_align="right", **letters(**background))


def _style(label: str) -> dict[str, Any]:
    return figure(
        xlabel="round",
        ylabel=label,
        ylim=(0, 1),
    )
