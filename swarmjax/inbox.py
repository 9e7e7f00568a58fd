"""What came from training nodes: every record once, on disk before it is acknowledged.

    records   one row per record: who, which, what kind, when it came, its bytes
    begun     when the first controller of the run began, in its nanoseconds
    refused   one row per reason: how often, and when last

SQLite in WAL mode, with one writer; the bytes are those that came, read by `records.decode_up`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from swarmjax import ipc, records, windows
from swarmjax.errors import InputError
from swarmjax.records import Beat, Shared, Up, Windows

_TABLES = """
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY, node TEXT NOT NULL, incarnation INTEGER NOT NULL,
    sequence INTEGER NOT NULL, kind TEXT NOT NULL, came_ns INTEGER NOT NULL, data BLOB NOT NULL,
    UNIQUE (node, incarnation, sequence));
CREATE TABLE IF NOT EXISTS begun (ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS refused (
    reason TEXT PRIMARY KEY, count INTEGER NOT NULL, last_ns INTEGER NOT NULL);
"""
# Reasons told apart; whoever makes up more of them fills no disk.
_REASONS = 200


class Inbox:
    """The one writer of a file of records, and a reader of it; for one thread at a time.

    `refused` and `repeated` count the messages of this process that were not kept.
    """

    def __init__(self, path: str | Path):
        """Opens or makes the file; raises InputError if it cannot be written."""
        self.refused = self.repeated = 0
        try:
            self._database = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode=WAL")
            # Acknowledged is what even a loss of power leaves there.
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_TABLES)
        except sqlite3.Error as error:
            raise InputError(f"{path} cannot be used for records: {error}") from None

    def begun(self, now: int) -> int:
        """When the first controller that had this file began: now, if it is this one."""
        with self._database as database:
            statement = "INSERT INTO begun SELECT ? WHERE NOT EXISTS (SELECT * FROM begun)"
            database.execute(statement, (now,))
            return database.execute("SELECT min(ns) FROM begun").fetchone()[0]

    def take(self, blobs: Sequence[bytes]) -> list[Up]:
        """Keeps what is new, in one transaction, and returns it; refuses and counts the rest.

        Beats are returned and not kept; of weights only that they came is kept.
        """
        fresh: list[Up] = []
        with self._database:
            for blob in blobs:
                try:
                    record = records.decode_up(blob)
                    if isinstance(record, Windows):
                        windows.read_windows(record.table)
                except InputError as error:
                    self._refuse(str(error))
                    continue
                if isinstance(record, Beat) or self._keep(record, blob):
                    fresh.append(record)
                else:
                    self.repeated += 1
        return fresh

    def _keep(self, record: Up, blob: bytes) -> bool:
        kind = str(record.__struct_config__.tag)
        row = (record.node, record.incarnation, record.sequence, kind, time.time_ns(),
               b"" if isinstance(record, Shared) else blob)  # fmt: skip
        statement = (
            "INSERT OR IGNORE INTO records (node, incarnation, sequence, kind, came_ns, data) "
            "VALUES (?, ?, ?, ?, ?, ?)"
        )
        return self._database.execute(statement, row).rowcount == 1

    def refuse(self, reason: str) -> None:
        """Counts something that was well formed and all the same not acceptable."""
        with self._database:
            self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        known = self._database.execute("SELECT COUNT(*) FROM refused").fetchone()[0]
        same = self._database.execute("SELECT 1 FROM refused WHERE reason = ?", (reason,))
        reason = reason if known < _REASONS or same.fetchone() else "others"
        self._database.execute(
            "INSERT INTO refused VALUES (?, 1, ?) ON CONFLICT (reason) "
            "DO UPDATE SET count = count + 1, last_ns = excluded.last_ns",
            (reason, time.time_ns()),
        )

    def reasons(self) -> dict[str, int]:
        """Reason -> how often, of everything ever refused, the most frequent first."""
        rows = "SELECT reason, count FROM refused ORDER BY count DESC, reason"
        return dict(self._database.execute(rows).fetchall())

    def records(self, since: int = 0) -> Iterator[tuple[int, Up]]:
        """Number and record of everything kept after number `since`, except for weights."""
        statement = "SELECT id, data FROM records WHERE id > ? AND LENGTH(data) > 0 ORDER BY id"
        for number, blob in self._database.execute(statement, (since,)):
            yield number, records.decode_up(blob)

    def windows(self, since: int = 0) -> pa.Table:
        """All windows kept after number `since`, with their `node`, in order of corrected time.

        Raises:
            InputError: there are none.
        """
        tables = [
            _with_node(windows.read_windows(record.table), record)
            for _, record in self.records(since)
            if isinstance(record, Windows)
        ]
        if not tables:
            raise InputError(f"no windows came after record {since}")
        rows = pa.concat_tables(tables, promote_options="default")
        time_ns = rows["wall_ns"].to_numpy() + rows["clock_offset"].to_numpy()
        order = np.argsort(time_ns, kind="stable")
        return rows.append_column("time_ns", ipc.column(time_ns)).take(ipc.column(order))

    def close(self) -> None:
        """Closes the file."""
        self._database.close()


def windows_by_node(path: Path, since: int = 0) -> tuple[int, dict[str, list[pa.Table]]]:
    """Tables of windows kept after number `since`, by node, and the number of the last record.

    For any thread and process, whoever writes meanwhile.
    """
    found: dict[str, list[pa.Table]] = {}
    address = f"{path.resolve().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True, timeout=30.0)) as database:
        asked = "SELECT id, data FROM records WHERE id > ? AND kind = 'windows' ORDER BY id"
        for number, blob in database.execute(asked, (since,)):
            record = records.decode_up(blob)
            assert isinstance(record, Windows), "its kind is kept with it"
            found.setdefault(record.node, []).append(windows.read_windows(record.table))
            since = number
    return since, found


def _with_node(rows: pa.Table, record: Windows) -> pa.Table:
    count = rows.num_rows
    marks = {"node": ipc.texts([record.node] * count)}
    for name in ("incarnation", "sequence"):
        marks[name] = ipc.column(np.full(count, getattr(record, name), np.int64))
    return pa.table({**marks, **{name: rows[name] for name in rows.column_names}})
