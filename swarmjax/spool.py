"""Messages on their way out: kept on disk until the bus has confirmed them.

Whoever puts a message never waits for the bus. One SQLite file in WAL mode, which one process has
to itself; it outlives that process being killed, and what is left in it is sent by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from swarmjax.errors import InputError

# Bytes kept for a bus that cannot be reached.
ROOM = 256 * 2**20
# Share of a full spool that is made free at once.
_FREED = 0.1
_TABLES = """
CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY AUTOINCREMENT, channel TEXT NOT NULL,
                                     precious INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS starts (count INTEGER NOT NULL);
INSERT INTO starts SELECT 0 WHERE NOT EXISTS (SELECT * FROM starts);
"""
# More than ever before, also if the file was deleted meanwhile.
_START = "UPDATE starts SET count = MAX(count + 1, ?)"


class Waiting(NamedTuple):
    """One message that is not confirmed yet."""

    id: int
    channel: str
    data: bytes


class Spool:
    """Messages not confirmed yet, oldest first; for any number of threads that put, and one sender.

    `incarnation` numbers the openings of this file and of every other before it: the milliseconds
    since 1970, and always more than at its last opening. So records that are still on their way
    from a file that was deleted are not taken for those of the next one, unless the clock was set
    back meanwhile.
    `lost` messages could not be kept.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        room: int = ROOM,
        tell: Callable[[str], None] = lambda text: None,
    ):
        """Opens or makes the file.

        Args:
            path: of the file.
            room: bytes of messages kept at most.
            tell: told once, in a line, when messages begin to be lost.

        Raises:
            InputError: the file cannot be written, is no spool, or is another process's.
        """
        self._room, self._tell, self._losing, self.lost = room, tell, False, 0
        self._putting, self._counting = threading.Lock(), threading.Lock()
        self._changed = threading.Event()
        self._owned = _own(Path(path))
        try:
            # Two connections: writing back to the disk keeps only the sender waiting.
            self._entrance, self._exit = _connect(path), _connect(path)
            self._entrance.executescript(_TABLES)
            with self._entrance as database:
                database.execute(_START, (time.time_ns() // 10**6,))
            (self.incarnation,) = self._entrance.execute("SELECT count FROM starts").fetchone()
            sizes = self._entrance.execute("SELECT TOTAL(LENGTH(data)), COUNT(*) FROM messages")
            size, self._count = sizes.fetchone()
        except (sqlite3.Error, TypeError) as error:
            self._owned.close()
            raise InputError(f"{path} cannot be used as a spool: {error}; name another") from None
        self._size = int(size)

    def __len__(self) -> int:
        """How many messages are not confirmed."""
        return self._count

    def put(self, channel: str, data: bytes, *, precious: bool = False) -> bool:
        """Keeps a message until it is confirmed; False if the disk does not allow it.

        A full spool loses its oldest messages, but never `precious` ones.
        """
        lost = freed = 0
        with self._putting:
            try:
                with self._entrance as database:
                    database.execute("BEGIN IMMEDIATE")
                    if self._size + len(data) > self._room:
                        lost, freed = self._make_room(len(data))
                    database.execute(
                        "INSERT INTO messages (channel, precious, data) VALUES (?, ?, ?)",
                        (channel, precious, data),
                    )
            except sqlite3.Error as error:
                self._lose(1, f"the spool cannot be written ({error})")
                return False
            self._add(1 - lost, len(data) - freed)
            if lost:
                self._lose(lost, f"the spool of {self._room} bytes is full")
        self._changed.set()
        return True

    def _make_room(self, size: int) -> tuple[int, int]:
        """Deletes the oldest that may be lost; returns how many they were, and of how many bytes.

        Some room to spare is made, so that not every message has to make its own.
        """
        wanted = self._size + size - (1 - _FREED) * self._room
        with contextlib.closing(self._entrance.execute(
            "SELECT id, LENGTH(data) FROM messages WHERE NOT precious ORDER BY id"
        )) as rows:  # fmt: skip
            chosen, freed = [], 0
            for row, length in rows:
                if freed >= wanted:
                    break
                chosen.append(row)
                freed += length
        for row in chosen:
            _delete(self._entrance, row)
        return len(chosen), freed

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        if not self._losing:
            self._losing = True
            self._tell(f"{why}; telemetry is being lost, the oldest first, until the bus is back")

    def _add(self, count: int, size: int) -> None:
        with self._counting:
            self._count, self._size = self._count + count, self._size + size

    def head(self, most: int, seconds: float = 0.0, size: int = 8 * 2**20) -> list[Waiting]:
        """The oldest messages, at most so many, of `size` bytes or one; waits if there are none."""
        self._changed.clear()
        if not self._count and seconds > 0:
            self._changed.wait(seconds)
        rows = self._exit.execute(
            "SELECT id, channel, data FROM messages ORDER BY id LIMIT ?", (most,)
        ).fetchall()
        taken: list[Waiting] = []
        for row in map(Waiting._make, rows):
            size -= len(row.data)
            if taken and size < 0:
                break
            taken.append(row)
        return taken

    def done(self, messages: list[Waiting]) -> None:
        """Forgets messages that were confirmed."""
        with self._exit:
            gone = [message for message in messages if _delete(self._exit, message.id)]
        self._add(-len(gone), -sum(len(message.data) for message in gone))
        # Passive: it writes back what it can and keeps nobody waiting.
        self._exit.execute("PRAGMA wal_checkpoint(PASSIVE)")
        if self._losing and self._size < (1 - _FREED) * self._room:
            self._losing = False

    def wake(self) -> None:
        """Ends the waiting of `head`."""
        self._changed.set()

    def close(self) -> None:
        """Closes the file; what is in it stays there."""
        with self._putting:
            self._entrance.close()
        self._exit.close()
        self._owned.close()


def _own(path: Path) -> IO[bytes]:
    """A file beside `path` that is locked until it is closed, or the process ends."""
    lock = None
    try:
        lock = open(path.with_name(f"{path.name}.lock"), "wb")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if lock is not None:
            lock.close()
        used = isinstance(error, BlockingIOError)
        why = "it is another process's" if used else f"it cannot be written ({error.strerror})"
        raise InputError(f"{path} cannot be used as a spool: {why}; name another") from None
    return lock


def _connect(path: str | Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    # Whoever puts a message does not wait for the disk: `done` writes back.
    database.execute("PRAGMA wal_autocheckpoint=0")
    return database


def _delete(database: sqlite3.Connection, row: int) -> bool:
    """Whether there was such a row: the other connection may have been faster."""
    return database.execute("DELETE FROM messages WHERE id = ?", (row,)).rowcount == 1
