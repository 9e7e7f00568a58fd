"""The best members as a table: the text twin of the plots, and a place to select from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import param
from panel.custom import JSComponent

from viz import metrics
from viz.source import History

LIMIT = 100


def columns(history: History) -> dict[str, str]:
    """Heading -> column of the table."""
    scores = [name for name in history.names if name.startswith("valid_")]
    scores.sort(key=lambda name: name != metrics.fitness_metric(history))
    genes = [name for name, _ in history.space.genes]
    structural = [name for name in genes if name in history.space.structural]
    rest = [name for name in genes if name not in structural]
    names = [*scores, *structural, *rest, "train_loss", "step", "birth"]
    return {metrics.describe(name, history.space).label: name for name in names}


def rows(history: History, members: tuple[int, ...] = ()) -> list[dict[str, Any]]:
    """The `LIMIT` best members, then the selected ones beyond them: member, dead, cells of text."""
    ranking = metrics.ranking(history)
    place = np.argsort(ranking)
    extra = [m for m in members if m < history.members and place[m] >= LIMIT]
    shown = [*ranking[:LIMIT].tolist(), *sorted(extra, key=lambda m: int(place[m]))]
    texts = [_texts(history, name) for name in columns(history).values()]
    alive = history.last("alive")
    return [
        {
            "member": m,
            "dead": not alive[m],
            "cells": [
                str(place[m] + 1) if alive[m] else "dead",
                str(m),
                *(column[m] for column in texts),
            ],
        }
        for m in shown
    ]


def headings(history: History) -> list[str]:
    """Column headings, as in `rows`."""
    return ["rank", "member", *columns(history)]


def numeric(history: History) -> list[bool]:
    """Which columns hold numbers."""
    kinds = [history.last(name).dtype.kind in "fiu" for name in columns(history).values()]
    return [True, True, *kinds]


def _texts(history: History, name: str) -> list[str]:
    values = history.last(name)
    if values.dtype.kind not in "fiu":
        return [str(value) for value in values.tolist()]
    if values.dtype.kind in "iu":
        return [f"{value:,}" for value in values.tolist()]
    metric = metrics.describe(name, history.space)
    return [metrics.text(value, metric) for value in values.tolist()]


class MemberTable(JSComponent):
    """Rows of text with a box to tick; a tick is told to `on_toggle`, which must check it."""

    columns = param.List(default=[])
    rows = param.List(default=[])
    numeric = param.List(default=[])
    picked = param.Dict(default={}, doc="member as text -> colour of its tick")

    _esm = Path(__file__).with_name("members.js").read_text(encoding="utf-8")
    _stylesheets = [Path(__file__).with_name("members.css").read_text(encoding="utf-8")]

    def __init__(self, on_toggle: Any, **params: Any):
        super().__init__(**params)
        self._on_toggle = on_toggle

    def _handle_msg(self, msg: Any) -> None:
        member = msg.get("toggle") if isinstance(msg, dict) else None
        if isinstance(member, int) and not isinstance(member, bool):
            self._on_toggle(member)
