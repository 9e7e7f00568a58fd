"""The ledger of a run's directives: who asked for what and when, and what became of it.

It is a table of the run's database. Anybody who may write to that adds rows, from any process; the
trainer reads those that wait, between rounds, and settles each. Nothing is ever deleted.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from swarmjax.errors import InputError, one_line
from swarmjax.steering import LARGEST, Directive, encode, kind_of

TABLE = """
CREATE TABLE directives (id INTEGER PRIMARY KEY AUTOINCREMENT, time REAL NOT NULL,
                         who TEXT NOT NULL, body TEXT NOT NULL,
                         state TEXT NOT NULL DEFAULT 'queued', round INTEGER, settled REAL,
                         told TEXT NOT NULL DEFAULT '', inverse TEXT);
CREATE INDEX waiting ON directives (id) WHERE state = 'queued';
"""
# What a run may be in while it can be steered.
STEERABLE = ("running", "paused")
LONGEST_NAME = 64
# Directives that are about the process that runs, and change no Plan.
AT_ONCE = ("pause", "resume", "stop")
_ENDED = "the run has ended"
# Any text would be later than all numbers, and wait forever.
_DUE = "CAST(ifnull(round, 0) AS INTEGER)"
# Rows taken at a time; what is more waits for the next round.
_AT_ONCE = 4096
# As bytes and cut off: whatever else a row holds must not hurt who reads it.
_COLUMNS = ", ".join(
    ["CAST(id AS INTEGER)", "CAST(time AS REAL)"]
    + [f"CAST(substr({name}, 1, {LARGEST + 1}) AS BLOB)" for name in ("who", "body", "state")]
    + ["CAST(round AS INTEGER)", "CAST(settled AS REAL)"]
    + [f"CAST(substr({name}, 1, {LARGEST + 1}) AS BLOB)" for name in ("told", "inverse")]
)


class Entry(NamedTuple):
    """A row of the ledger.

    Attributes:
        id: rises from one to the next.
        time: wall-clock seconds when it was asked for.
        who: asked for it.
        body: the directive as JSON, not checked yet.
        state: queued, applied, refused or withdrawn.
        round: that it was applied in, or None.
        settled: wall-clock seconds of that, or None.
        told: its effect, or why it was refused.
        inverse: the directive that takes it back, as JSON, or None.
    """

    id: int
    time: float
    who: str
    body: bytes
    state: str
    round: int | None
    settled: float | None
    told: str
    inverse: bytes | None


class Ledger:
    """The trainer's side. Whatever is wrong with the table, training goes on.

    Args:
        database: of the run.
        lock: held while it is written to.
    """

    def __init__(self, database: sqlite3.Connection, lock: threading.Lock):
        self._database, self._lock = database, lock

    def waiting(self, round: int = 2**31) -> list[Entry]:
        """What is queued for `round`, in the order in which it was asked for."""
        due = f"state = 'queued' AND {_DUE} <= {round:d} ORDER BY id"
        with contextlib.suppress(sqlite3.Error), self._lock:
            return _entries(self._database, due, _AT_ONCE)
        return []

    def entry(self, id: int) -> Entry | None:
        """The directive of that number."""
        with contextlib.suppress(sqlite3.Error), self._lock:
            return next(iter(_entries(self._database, f"id = {id:d}", 1)), None)
        return None

    def settle(
        self, id: int, state: str, round: int, told: str, inverse: Directive | None = None
    ) -> None:
        """Writes down what became of a directive that waited."""
        contrary = None if inverse is None else encode(inverse)
        self._write(
            "UPDATE directives SET state = ?, round = ?, settled = ?, told = ?, inverse = ? "
            "WHERE id = ? AND state = 'queued'",
            (state, round, time.time(), told, contrary, id),
        )

    def tell(self, id: int, told: str) -> None:
        """Writes down what else is known of the effect of a directive."""
        self._write("UPDATE directives SET told = ? WHERE id = ?", (told, id))

    def close(self, round: int) -> None:
        """Refuses what waits, since the run has ended; not what is for later rounds: `requeue`."""
        self._write(
            "UPDATE directives SET state = 'refused', round = ?, settled = ?, "
            f"told = '{_ENDED}' WHERE state = 'queued' AND {_DUE} <= ?",
            (round, time.time(), round),
        )

    def requeue(self, round: int) -> None:
        """Lets what was settled after `round` rounds wait again, each for its own round.

        Not what concerned the process that ended, which is one of `AT_ONCE`.
        """
        entries: list[Entry] = []
        with contextlib.suppress(sqlite3.Error), self._lock:
            # What is withdrawn bears the round before the one it was asked for.
            later = f"state != 'queued' AND round + (state = 'withdrawn') > {round:d}"
            entries = _entries(self._database, f"{later} AND told != '{_ENDED}'", -1)
        for entry in entries:
            if kind_of(entry.body) not in AT_ONCE:
                self._write(
                    "UPDATE directives SET round = round + (state = 'withdrawn'), "
                    "state = 'queued', settled = NULL, inverse = NULL WHERE id = ?",
                    (entry.id,),
                )

    def _write(self, statement: str, values: tuple) -> None:
        with contextlib.suppress(sqlite3.Error), self._lock, self._database as database:
            database.execute(statement, values)


def entries(database: sqlite3.Connection, latest: int = 1000, id: int = 0) -> list[Entry]:
    """The latest directives of a run, the oldest first; none where it cannot be steered.

    Args:
        database: of the run.
        latest: how many.
        id: only that one; 0 for all.
    """
    which = f"id = {id:d}" if id else "1"
    try:
        return _entries(database, f"{which} ORDER BY id DESC", latest)[::-1]
    except sqlite3.OperationalError:
        return []


def queue(database: Path, who: str, directives: Iterable[Directive]) -> list[int]:
    """Asks a run for something; all of it, or nothing at all.

    Args:
        database: of the run.
        who: asks.
        directives: checked by `steerable.check`; the trainer checks them again.

    Returns:
        The number of each.

    Raises:
        InputError: the run is over or cannot be steered, or the database cannot be written to.
    """
    name = one_line(who, LONGEST_NAME).strip()
    if not name:
        raise InputError("whoever steers a run must give a name")
    rows = [(time.time(), name, encode(directive)) for directive in directives]
    try:
        with contextlib.closing(_open(database)) as connection, connection:
            # Takes the lock first, so that no run ends between the look and the entry.
            connection.execute("BEGIN IMMEDIATE")
            _check_going(connection)
            statement = "INSERT INTO directives (time, who, body) VALUES (?, ?, ?) RETURNING id"
            return [connection.execute(statement, row).fetchone()[0] for row in rows]
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise InputError(f"{database.parent} cannot be steered: {one_line(error)}") from None


def _open(database: Path) -> sqlite3.Connection:
    address = f"{database.resolve().as_uri()}?mode=rw"
    connection = sqlite3.connect(address, uri=True, timeout=30, isolation_level=None)
    # With a write-ahead log a commit then waits for no disk, and only a loss of power undoes it.
    connection.execute("PRAGMA synchronous=NORMAL")
    return connection


def _check_going(database: sqlite3.Connection) -> None:
    row = database.execute("SELECT value FROM meta WHERE key = 'status'").fetchone()
    state = json.loads(row[0])["state"]
    if state not in STEERABLE:
        raise InputError(f"the run is {state}: nothing more can be asked of it")


def _entries(database: sqlite3.Connection, where: str, most: int) -> list[Entry]:
    rows = database.execute(f"SELECT {_COLUMNS} FROM directives WHERE {where} LIMIT {most:d}")
    return [_entry(*row) for row in rows]


def _entry(id, time, who, body, state, round, settled, told, inverse) -> Entry:
    texts = (one_line((text or b"").decode(errors="replace"), 1000) for text in (who, state, told))
    who, state, told = texts
    return Entry(id, time, who, body or b"", state, round, settled, told, inverse)
