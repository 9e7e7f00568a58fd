"""Tables of text: the best members, and the twin of every plot; a place to select from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import param
from panel.custom import JSComponent

from viz import alarms, metrics
from viz.history import History

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


def table(history: History) -> pd.DataFrame:
    """Every member, best first: rank, which the dead have not, member, `columns` and alarms."""
    ranking = metrics.ranking(history)
    alive = history.last("alive")[ranking]
    rank = pd.Series(np.arange(history.members) + 1, dtype="Int64").where(alive)
    frame = pd.DataFrame({"rank": rank, "member": ranking})
    for label, name in columns(history).items():
        frame[label] = history.last(name)[ranking]
    frame["alarms"] = np.array(alarms.words_of(history.last("alarm")), object)[ranking]
    return frame


def twin(
    frame: pd.DataFrame, history: History, key: str = "member", picked: tuple[int, ...] = ()
) -> list[dict[str, Any]]:
    """The first `LIMIT` rows as text, and those of the picked members beyond them.

    Whole numbers under `key` can be picked; the column `key` itself is not shown.
    """
    keys = frame[key] if key in frame.columns else pd.Series([None] * len(frame), dtype="Int64")
    further = np.flatnonzero(keys.iloc[LIMIT:].isin(picked)) + LIMIT if picked else []
    chosen = [*range(min(LIMIT, len(frame))), *further[:LIMIT]]
    shown = frame.iloc[chosen]
    numbers = [None if pd.isna(value) else int(value) for value in keys.iloc[chosen]]
    texts = [_cells(shown[name], history) for name in shown.columns if name != "key"]
    alive = history.last("alive")
    found = []
    for r, number in enumerate(numbers):
        cells = [text[r] for text in texts]
        dead = key == "member" and number is not None and number < len(alive) and not alive[number]
        if dead and shown.columns[0] == "rank":
            cells[0] = "dead"
        found.append({"member": number, "dead": bool(dead), "cells": cells})
    return found


def _cells(column: Any, history: History) -> list[str]:
    name = str(column.name)
    metric = metrics.describe(columns(history).get(name, name), history.space)
    texts = []
    for value in column.tolist():
        if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
            texts.append("–")
        elif isinstance(value, float):
            texts.append(metrics.text(value, metric))
        else:
            texts.append(f"{value:,}" if isinstance(value, int) else str(value))
    return texts


class MemberTable(JSComponent):
    """Rows of text with a box to tick; a tick is told to `on_toggle`, which must check it."""

    label = param.String(default="Best members", doc="what the table holds")
    noun = param.String(default="member", doc="what a row can select")
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
