"""A run directory that follows a run elsewhere, over a bus: for dashboards, and for safekeeping.

What is stored here already tells from where on to ask, so that a mirror that was killed goes on
where it was: every round is a file of its own, every event has its number.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from swarmjax import bulletins, ipc, ledger, seals, segments, store
from swarmjax.bulletins import About, Follow, Rows, Said
from swarmjax.channels import Bus, BusError, Consumer, Publisher
from swarmjax.errors import InputError, one_line
from swarmjax.space import Space
from swarmjax.stored import MOST_MEMBERS, open_run

# Seconds between two signs that somebody follows.
_EVERY = 5.0
_NEEDED = {"round", "member", "birth", "alive", "steps", "step"}


class Mirror:
    """The writer of one; `refused` counts what was malformed, `state` is that of the run."""

    def __init__(self, directory: Path, swarm: str):
        """Goes on with a directory that is a mirror of the swarm, or begins one.

        Raises:
            InputError: it holds another run.
        """
        self.refused, self.state, self.round, self._event = 0, "unknown", 0, 0
        self._directory, self._swarm, self._follower = directory, swarm, secrets.randbits(62)
        self._said: dict[str, bytes] = {}
        self._parts: list[pa.Table] = []
        # The round whose parts they are, and the last one that was missed and asked for again.
        self._coming = self._missed = 0
        self._database: sqlite3.Connection | None = None
        if (directory / store.DATABASE).exists():
            self._continue()
        else:
            store.check_free(directory)

    @property
    def asked(self) -> Follow:
        """What it wants to hear."""
        return Follow(follower=self._follower, round=self.round, event=self._event)

    def take(self, blobs: list[bytes]) -> None:
        """Stores what came; what is malformed is counted, what was here before is left."""
        for blob in blobs:
            try:
                record = bulletins.decode_bulletin(blob)
                if record.follower == self._follower:
                    self._store(record)
            except InputError:
                self.refused += 1

    def close(self) -> None:
        """Closes the directory."""
        if self._database is not None:
            self._database.close()

    def _store(self, record: bulletins.Bulletin) -> None:
        if isinstance(record, About):
            self._about(record)
        elif self._database is None:
            raise InputError("something of a run came before what the run is")
        elif isinstance(record, Rows):
            self._rows(record)
        elif isinstance(record, Said):
            self._event = max(self._event, record.id)
            values = record.time, record.round, record.kind, record.member, record.text
            row = (record.id, *seals.sealed(*values))
            self._execute("INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def _about(self, record: About) -> None:
        if record.key == "status":
            self._status(record.value)
            return
        self._said[record.key] = record.value
        if record.key == "steering" and self._database is None:
            self._create()

    def _status(self, value: bytes) -> None:
        status = bulletins.decode_status(value)
        fields = {name: getattr(status, name) for name in status.__struct_fields__}
        if self._database is None or not all(map(_finite, fields.values())):
            raise InputError("the status of a run is not finite, or came first; refused")
        self._put("status", json.dumps(fields))
        self._put("heartbeat", json.dumps(status.heartbeat))
        self.state = status.state

    def _create(self) -> None:
        config, space, steering = (
            _json(self._said, key) for key in ("config", "space", "steering")
        )
        try:
            made = Space.from_json(space)
            store.create(self._directory, config | {"mirror": self._swarm}, made).close()
        # Whatever stands in a description that nobody here has made.
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise InputError(f"a run cannot be described so: {one_line(error)}") from None
        self._open()
        self._put("steering", json.dumps(steering))

    def _continue(self) -> None:
        with contextlib.closing(open_run(self._directory)) as reader:
            if reader.config.get("mirror") != self._swarm:
                raise InputError(f"{self._directory} holds a run that is no mirror of this swarm")
            self.round = max(reader.rounds(), default=0)
        self._open()

    def _open(self) -> None:
        path = self._directory / store.DATABASE
        self._database = sqlite3.connect(path, timeout=30, check_same_thread=False)
        self._event = self._database.execute("SELECT MAX(id) FROM events").fetchone()[0] or 0

    def _rows(self, record: Rows) -> None:
        if record.round <= self.round:
            return
        if record.round > self.round + 1 and record.round > self._missed:
            # It begins anew, from the last round that is here.
            self._missed, self._follower = record.round, secrets.randbits(62)
            raise InputError(f"round {record.round} came before round {self.round + 1}; refused")
        if record.part == 0:
            # What was begun before was not confirmed, and comes again.
            self._coming, self._parts = record.round, []
        if (record.round, record.part) != (self._coming, len(self._parts)):
            raise InputError(f"part {record.part} of a round came out of order; refused")
        self._parts.append(checked(record))
        if len(self._parts) == record.parts:
            self._write(record.round, pa.concat_tables(self._parts))

    def _write(self, round: int, table: pa.Table) -> None:
        path = self._directory / "frames" / f"r{round:06d}.parquet"
        segments.save(path, table)
        self.round, self._parts = round, []

    def _put(self, key: str, value: str) -> None:
        self._execute("REPLACE INTO meta VALUES (?, ?, ?)", seals.sealed(key, value))

    def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        assert self._database is not None, "it was opened"
        with self._database:
            self._database.execute(statement, values)


def checked(record: Rows) -> pa.Table:
    """The table of a part; raises InputError unless it is one of that round."""
    table = ipc.from_bytes(record.table, most_rows=MOST_MEMBERS)
    if not _NEEDED <= set(table.column_names):
        raise InputError(f"a table lacks {', '.join(sorted(_NEEDED - set(table.column_names)))}")
    if table.num_rows == 0 or table["round"].unique().to_pylist() != [record.round]:
        raise InputError(f"a table is not of round {record.round}; refused")
    return table


def follow(
    directory: Path,
    bus: Bus,
    swarm: str,
    *,
    tell: Callable[[str], None] = lambda text: None,
    ended: Callable[[], bool] = lambda: False,
) -> None:
    """Follows the run until it is over, or `ended` says so; goes on whatever happens to the bus.

    Raises:
        InputError: the directory holds another run.
    """
    mirror, lost = Mirror(directory, swarm), False

    def going() -> bool:
        return mirror.state in (*ledger.STEERABLE, "unknown") and not ended()

    with contextlib.closing(mirror):
        while going():
            try:
                told = bus.consumer(bulletins.channel_told(swarm))
                with contextlib.closing(told), contextlib.closing(bus.publisher()) as publisher:
                    tell("the bus is back" if lost else "connected to the bus")
                    lost = False
                    _listen(mirror, swarm, told, publisher, going)
            except BusError as error:
                if not lost:
                    tell(f"the bus is lost: {error}")
                lost = True
                time.sleep(1.0)


def _listen(
    mirror: Mirror, swarm: str, told: Consumer, publisher: Publisher, going: Callable[[], bool]
) -> None:
    """Asks and stores until it is over; BusError if the bus is lost."""
    due, follower = -math.inf, -1
    while going():
        if time.monotonic() > due or mirror.asked.follower != follower:
            due, follower = time.monotonic() + _EVERY, mirror.asked.follower
            asked = [bulletins.encode(mirror.asked)]
            publisher.publish(bulletins.channel_asked(swarm), asked)
        mirror.take(told.receive(0.2))
        told.acknowledge()


def _json(said: dict[str, bytes], key: str) -> dict[str, Any]:
    try:
        found = json.loads(said.get(key, b""))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(f"the {key} of a run cannot be read; refused")
    return found


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
