"""A run directory that follows a run elsewhere, over a bus: for dashboards, and for safekeeping.

What is stored here already tells from where on to ask, so that a mirror that was killed goes on
where it was: of every round the Frame is stored last, and every event has its number.
"""

from __future__ import annotations

import contextlib
import json
import math
import secrets
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from swarmjax import bulletins, events, ledger, seals, store
from swarmjax.bulletins import About, Follow, Rows, Said
from swarmjax.channels import Bus, BusError, Consumer, Publisher
from swarmjax.errors import InputError, one_line
from swarmjax.reopening import reopen
from swarmjax.space import Space
from swarmjax.stored import open_run
from swarmjax.vetted import Gathering

# Seconds between two signs that somebody follows.
_EVERY = 5.0
# Reasons told apart; whoever makes up more of them fills no screen.
_REASONS = 100


class Mirror:
    """The writer of one; `state` is that of the run.

    `refused` counts what was malformed, `reasons` why.
    """

    def __init__(
        self, directory: Path, swarm: str, tell: Callable[[str], None] = lambda text: None
    ):
        """Goes on with a directory that is a mirror of the swarm, or begins one.

        Args:
            directory: of the mirror.
            swarm: whom it follows.
            tell: told in a line of every new reason to refuse something.

        Raises:
            InputError: it holds another run, or somebody else stores something there.
        """
        self.refused, self.state, self.round, self._event = 0, "unknown", 0, 0
        self.reasons, self._tell = Counter[str](), tell
        self._directory, self._swarm, self._follower = directory, swarm, secrets.randbits(62)
        self._said: dict[str, bytes] = {}
        # The parts that come now, and the last round that was missed and asked for again.
        self._coming, self._missed = Gathering(), 0
        self._writer: store.Writer | None = None
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
            except InputError as error:
                self._refuse(str(error))

    def _refuse(self, reason: str) -> None:
        self.refused += 1
        reason = reason if reason in self.reasons or len(self.reasons) < _REASONS else "others"
        if reason not in self.reasons:
            self._tell(f"something is not stored: {reason}")
        self.reasons[reason] += 1

    def close(self) -> None:
        """Closes the directory."""
        if self._writer is not None:
            self._writer.close()

    def _store(self, record: bulletins.Bulletin) -> None:
        if isinstance(record, About):
            self._about(record)
        elif self._writer is None:
            raise InputError("something of a run came before what the run is")
        elif isinstance(record, Rows):
            self._rows(record)
        elif isinstance(record, Said):
            self._event = max(self._event, record.id)
            row = events.sealed(*(getattr(record, name) for name in events.SEALED))
            self._execute(events.COPY, (record.id, *row))

    def _about(self, record: About) -> None:
        if record.key == "status":
            self._status(record.value)
            return
        self._said[record.key] = record.value
        if record.key == "steering" and self._writer is None:
            self._create()

    def _status(self, value: bytes) -> None:
        status = bulletins.decode_status(value)
        fields = {name: getattr(status, name) for name in status.__struct_fields__}
        if self._writer is None or not all(map(_finite, fields.values())):
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
            if not float(config.get("retain", 0)) >= 0:
                raise ValueError(f"retain is {config['retain']}")
            writer = store.create(self._directory, config | {"mirror": self._swarm}, made)
        # Whatever stands in a description that nobody here has made.
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise InputError(f"a run cannot be described so: {one_line(error)}") from None
        self._writer = writer
        self._put("steering", json.dumps(steering))

    def _continue(self) -> None:
        with contextlib.closing(open_run(self._directory)) as reader:
            if reader.config.get("mirror") != self._swarm:
                raise InputError(f"{self._directory} holds a run that is no mirror of this swarm")
            self.round = max(reader.rounds(), default=0)
        self._writer = reopen(self._directory)
        # Of the round that was coming when it ended.
        self._writer.rewind(self.round)
        self._event = self._writer.last_event()

    def _rows(self, record: Rows) -> None:
        if record.round <= self.round:
            return
        if record.round > self.round + 1 and record.round > self._missed:
            # It begins anew, from the last round that is here.
            self._missed, self._follower = record.round, secrets.randbits(62)
            raise InputError(f"round {record.round} came before round {self.round + 1}; refused")
        if record.part == 0:
            # What was begun before was not confirmed, and comes again.
            self._coming = Gathering((record.round, record.kind))
        table = self._coming.add(record)
        if table is not None:
            self._coming = Gathering()
            self._keep(record.kind, record.round, table)

    def _keep(self, kind: str, round: int, table: pa.Table) -> None:
        assert self._writer is not None, "it was opened"
        if kind in store.SUMMARIES:
            self._writer.summary(kind, round, table)
        elif kind in store.SEGMENTS:
            self._writer.rows(kind, round, table)
        else:
            self._writer.frame(round, table)
            self.round = round

    def _put(self, key: str, value: str) -> None:
        self._execute("REPLACE INTO meta VALUES (?, ?, ?)", seals.sealed(key, value))

    def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        assert self._writer is not None, "it was opened"
        self._writer._execute(statement, values)


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
    mirror, lost = Mirror(directory, swarm, tell), False

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
