"""What happened in a run, as rows of its database; columns: `telemetry`.

A value and its threshold came with a later version. Rows of earlier ones have neither, and their
seals cover what they have: so does that of any row without them, which earlier versions can read.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection
from typing import Any, NamedTuple

from swarmjax import seals

TABLE = f"""
CREATE TABLE events (id INTEGER PRIMARY KEY, time REAL NOT NULL, round INTEGER NOT NULL,
                     kind TEXT NOT NULL, member INTEGER, text TEXT NOT NULL, value REAL,
                     threshold REAL, {seals.COLUMN})
"""
ADDED = ("value", "threshold")
SEALED = ("time", "round", "kind", "member", "text", *ADDED)
_COLUMNS = ", ".join((*SEALED, "seal"))
INSERT = f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
# What is here already is left as it is.
COPY = f"INSERT OR IGNORE INTO events (id, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Event(NamedTuple):
    """Something that happened.

    `kind` is one of started, note, compiled, node, island, died, steered, best, finished, failed,
    or of `anomaly.KINDS`; of these, `value` exceeded `threshold`, where both are known.
    """

    id: int
    time: float
    round: int
    kind: str
    member: int | None
    text: str
    value: float | None = None
    threshold: float | None = None


def sealed(
    time: float,
    round: int,
    kind: str,
    member: int | None,
    text: str,
    value: float | None,
    threshold: float | None,
) -> tuple[Any, ...]:
    """The row of an event as `INSERT` takes it; NaN is no number."""
    numbers = _number(value), _number(threshold)
    return seals.sealed(time, round, kind, member, text, *numbers, added=len(ADDED))


def select(held: Collection[str]) -> str:
    """Asks for ids, values and seals of events after an id, of a table that has these columns."""
    late = (*ADDED, "seal")
    names = [n if n in held or n not in late else "NULL" for n in (*SEALED, "seal")]
    return f"SELECT id, {', '.join(names)} FROM events WHERE id > ? ORDER BY id"


def upgrade(database: sqlite3.Connection) -> None:
    """Gives a table of an earlier version the columns that it lacks."""
    held = [row[1] for row in database.execute("PRAGMA table_info(events)")]
    for name in ADDED:
        if held and name not in held:
            database.execute(f"ALTER TABLE events ADD COLUMN {name} REAL")


def _number(value: float | None) -> float | None:
    """As SQLite gives it back, which knows neither NaN nor the sign of zero."""
    return None if value is None or math.isnan(value) else float(value) + 0.0
