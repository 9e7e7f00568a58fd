"""A writer of a run directory that outlives a full disk: what cannot be written now is later."""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

# Records that wait at most; a round makes about ten.
MOST = 5000
_DEFERRED = frozenset(
    "frame rows summary plan event status descriptors best engine steering digests part".split()
)


class Backlog:
    """Like `store.Writer`, but what fails for want of a working disk waits and is tried again.

    Records are written in the order in which they came. Beyond `MOST` the oldest are given up.
    """

    def __init__(self, writer: Any, tell: Callable[[str], None]):
        """Writes with `writer`; `tell` is told in a line when that fails and when it works again.

        Nothing else tells of it: the record of events is on the same disk.
        """
        self._writer, self._tell = writer, tell
        self._waiting: deque[Callable[[], None]] = deque()
        self._lock, self._lost, self._failing = threading.RLock(), 0, False

    def __getattr__(self, name: str) -> Any:
        """Of the writer; what only adds to the record is deferred."""
        found = getattr(self._writer, name)
        return partial(self._write, found) if name in _DEFERRED else found

    @property
    def behind(self) -> int:
        """Records that wait to be written."""
        return len(self._waiting)

    def ended(self, state: str, text: str) -> None:
        """As of the writer, after all that waits; raises if that cannot be written either."""
        with self._lock:
            while self._waiting:
                self._waiting[0]()
                self._waiting.popleft()
            self._writer.ended(state, text)

    def _write(self, action: Callable[..., None], *values: Any, **named: Any) -> None:
        with self._lock:
            self._waiting.append(partial(action, *values, **named))
            if len(self._waiting) > MOST:
                self._waiting.popleft()
                self._lost += 1
            self._flush()

    def _flush(self) -> None:
        while self._waiting:
            try:
                self._waiting[0]()
            except (OSError, sqlite3.OperationalError) as error:
                if not self._failing:
                    self._failing = True
                    self._tell(
                        f"cannot write to {self._writer.directory}: {error}; training goes on, and "
                        "it is tried again; make room there"
                    )
                return
            self._waiting.popleft()
        if self._failing:
            lost = f", but {self._lost} records are lost" if self._lost else ""
            self._failing, self._lost = False, 0
            self._tell(f"{self._writer.directory} can be written to again{lost}")
