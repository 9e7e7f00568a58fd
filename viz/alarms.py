"""What went wrong, when and with whom: anomalies by round and kind, and as a list."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import holoviews as hv
import numpy as np
import pandas as pd

from swarmjax.anomaly import KINDS
from swarmjax.events import Event
from viz.history import History
from viz.marks import element, overlay
from viz.theme import LIGHT, LINES, Look, figure, mixed, pick_colors, styled

_DECIMAL = r"(-?\d+(?:\.\d+)?(?:e[+-]\d+)?)"
_MEASURED = re.compile(rf"\({_DECIMAL} > {_DECIMAL}\)$", re.ASCII)
_WHOSE = re.compile(r"^member \d+: ")
_UNTOLD = (None, None, "")
_HOVER = [("alarm", "@kind"), ("round", "@at"), ("members", "@count")]


def plot(history: History, *, members: tuple[int, ...] = (), look: Look = LIGHT) -> hv.Overlay:
    """One row per kind: a dot for each round, as large as the share of members who raised it.

    A cross marks the rounds of a selected member.
    """
    counts = timeline(history)
    # A dot of all members has its place beside the axis, too.
    beside = 0.5 + 0.03 * len(history.rounds)
    left, right = history.rounds[0] - beside, history.rounds[-1] + beside
    extents = (left, -0.6, right, len(KINDS) - 0.4)
    dots = counts.assign(
        y=[place(kind) for kind in counts.kind],
        px=8 + 26 * np.sqrt(counts["count"] / history.members),
        kind_color=np.where(counts.kind == "nonfinite", look.dead, look.alarm),
    )
    rows = mixed(
        dots[["at", "y", "px", "kind", "count", "kind_color"]].itertuples(index=False),
        np.nan, np.nan, 0.0, "", 0.0,
    )  # fmt: skip
    shown = styled(
        element(hv.Points, rows, ["at", "y"], ["px", "kind", "count", "color"], extents=extents),
        size="px", color="color", fill_alpha=0.75, line_color=look.paper,
        tools=["hover"], hover_tooltips=_HOVER, nonselection_alpha=1.0,
    )  # fmt: skip
    return styled(overlay([shown, _chosen(history, members, look)]), **_style())


def timeline(history: History) -> pd.DataFrame:
    """Members that raised each kind of alarm in each round; rounds without one are left out."""
    bits = history.column("alarm")
    rows = [
        (int(round), kind, int(count))
        for i, kind in enumerate(KINDS)
        for round, count in zip(history.rounds, (bits >> i & 1).sum(axis=1), strict=True)
        if count
    ]
    return pd.DataFrame(rows, columns=["at", "kind", "count"])


def table(history: History, events: Sequence[Event] = ()) -> pd.DataFrame:
    """Every alarm, the latest first: round, kind, member, and value and threshold where told.

    Alarms that no event tells of stand without these.
    """
    told = {(e.round, e.kind, e.member): _measured(e) for e in events if e.kind in KINDS}
    rows, fresh = [], _fresh(history)
    for r, member in zip(*np.nonzero(fresh), strict=True):
        bits = int(fresh[r, member])
        for i, kind in enumerate(KINDS):
            if bits >> i & 1:
                key = (int(history.rounds[r]), kind, int(member))
                rows.append((*key, *told.pop(key, _UNTOLD)))
    # Of no member, such as memory that grows.
    rows += [(r, kind, m, *measured) for (r, kind, m), measured in told.items() if m is None]
    rows.sort(key=lambda row: -row[0])
    frame = pd.DataFrame(
        rows, columns=["round", "alarm", "member", "value", "threshold", "what happened"]
    )
    return frame.astype({"member": "Int64", "value": float, "threshold": float})


def _fresh(history: History) -> np.ndarray:
    """The alarms `[R, N]` that the same network had not raised the round before."""
    bits, birth = history.column("alarm"), history.column("birth")
    before = np.concatenate([np.zeros_like(bits[:1]), bits[:-1]])
    same = np.concatenate([np.zeros_like(birth[:1], bool), birth[1:] == birth[:-1]])
    return bits & ~np.where(same, before, 0)


def _measured(event: Event) -> tuple[float | None, float | None, str]:
    """Value, threshold and what happened."""
    text = _WHOSE.sub("", event.text)
    found = _MEASURED.search(text)
    told = text[: found.start()].strip() if found else text
    if found and event.threshold is None:
        # Runs of earlier versions have them in the text alone.
        return float(found[1]), float(found[2]), told
    return event.value, event.threshold, told


def words_of(bits: np.ndarray) -> list[str]:
    """The alarms of every member in words, empty where there is none."""
    names = {
        int(each): ", ".join(kind for i, kind in enumerate(KINDS) if each >> i & 1)
        for each in np.unique(bits)
    }
    return [names[each] for each in bits.tolist()]


def place(kind: str) -> int:
    """The height of a kind's row, the first on top."""
    return len(KINDS) - 1 - KINDS.index(kind)


def pick(history: History, x: float, y: float) -> list[int]:
    """Members that raised the alarm of the row at height `y` in the round at `x`."""
    row, at = round(y), np.flatnonzero(history.rounds == round(x))
    if not (0 <= row < len(KINDS) and at.size):
        return []
    bit = len(KINDS) - 1 - row
    return np.flatnonzero(history.column("alarm")[at[0]] >> bit & 1).tolist()


def _chosen(history: History, members: tuple[int, ...], look: Look) -> hv.Points:
    bits = history.column("alarm")
    rows = [
        (history.rounds[r], place(kind), color)
        for member, color in pick_colors(members, look).items()
        for i, kind in enumerate(KINDS)
        for r in np.flatnonzero(bits[:, member] >> i & 1)
    ]
    return styled(
        element(hv.Points, mixed(rows, np.nan, np.nan), ["at", "y"], "color"),
        marker="x", size=9, line_width=2.5, color="color", nonselection_alpha=1.0,
    )  # fmt: skip


def _style() -> dict[str, Any]:
    return figure(
        xlabel="round",
        ylabel="",
        yticks=[(place(kind), kind) for kind in KINDS],
        **LINES,
    )
