"""The thread that tells others, over a bus, what a run directory says: see `mirror`.

It reads what the trainer has stored, so that training never waits for it, and nothing of it is lost
where the bus or this process is. Nothing is sent as long as nobody follows.
"""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from swarmjax import bulletins
from swarmjax.bulletins import LONGEST, About, Follow, Rows, Said
from swarmjax.channels import Bus, BusError, Publisher
from swarmjax.errors import InputError, one_line
from swarmjax.excerpts import Tables, parted, rounds_after
from swarmjax.stored import Reader, open_run

# Seconds between two looks, and after which a follower that is silent is told no more.
LOOK, LEASE = 0.1, 60.0
# Events sent at a time.
_EVENTS = 500


class Relay:
    """Tells one follower at a time, the one that asked last."""

    def __init__(
        self,
        directory: Path,
        bus: Bus,
        swarm: str,
        *,
        tell: Callable[[str], None] = lambda text: None,
    ):
        """Starts the thread.

        Args:
            directory: of a run; it exists.
            bus: by which it is told.
            swarm: its name.
            tell: told in a line who follows.
        """
        self._directory, self._bus, self._tell = directory, bus, tell
        self._asked, self._told = bulletins.channel_asked(swarm), bulletins.channel_told(swarm)
        self._follower, self._heard, self._status = -1, -math.inf, b""
        self._round, self._event, self._failed = 0, 0, False
        self._over, self._until = threading.Event(), math.inf
        self._thread = threading.Thread(target=self._run, name="swarmjax relay", daemon=True)
        self._thread.start()

    def close(self, seconds: float = 10.0) -> None:
        """Tells what is left, if somebody follows, in that time."""
        self._until = time.monotonic() + seconds
        self._over.set()
        self._thread.join(seconds + 5.0)

    def _run(self) -> None:
        with contextlib.closing(open_run(self._directory)) as reader:
            while not self._ends(reader):
                with contextlib.suppress(BusError), contextlib.ExitStack() as stack:
                    consumer = stack.enter_context(contextlib.closing(self._consumer()))
                    publisher = stack.enter_context(contextlib.closing(self._bus.publisher()))
                    while not self._ends(reader):
                        for blob in consumer.receive(LOOK):
                            self._hear(blob)
                        consumer.acknowledge()
                        if time.monotonic() - self._heard < LEASE:
                            self._tried(publisher, reader)
                self._over.wait(0.0 if self._over.is_set() else 1.0)

    def _consumer(self):
        return self._bus.consumer(self._asked)

    def _ends(self, reader: Reader) -> bool:
        if not self._over.is_set():
            return False
        followed = time.monotonic() - self._heard < LEASE
        late = time.monotonic() > self._until
        return late or not followed or self._status == _status(reader)

    def _hear(self, blob: bytes) -> None:
        with contextlib.suppress(InputError):
            asked = bulletins.decode_follow(blob)
            self._heard = time.monotonic()
            if asked.follower != self._follower:
                self._begin(asked)

    def _begin(self, asked: Follow) -> None:
        self._follower, self._round, self._event = asked.follower, asked.round, asked.event
        self._status = b""
        self._tell(f"the run is followed over the bus from round {asked.round} on")

    def _tried(self, publisher: Publisher, reader: Reader) -> None:
        try:
            self._publish(publisher, reader)
        except BusError:
            raise
        # Whatever the disk holds, or not yet, is looked at again.
        except Exception as error:
            if not self._failed:
                self._failed = True
                self._tell(f"the run cannot be told, it is tried again: {one_line(error)}")
            self._over.wait(1.0)

    def _publish(self, publisher: Publisher, reader: Reader) -> None:
        """Sends what is new; what is not confirmed is sent again."""
        status = _status(reader)
        about = [] if self._status else self._about(reader)
        if not self._status and not about:
            return
        rounds = list(rounds_after(reader, self._round))
        events = reader.events(self._event)[:_EVENTS]
        messages = about + [blob for n, tables in rounds for blob in self._rows(n, tables)]
        messages += [
            self._encoded(Said, **event._asdict() | {"text": event.text[:LONGEST]})
            for event in events
        ]
        last = rounds[-1][0] if rounds else self._round
        behind = reader.complete() > last or len(events) == _EVENTS
        if status != self._status and not behind:
            messages.append(self._encoded(About, key="status", value=status))
        if messages:
            publisher.publish(self._told, messages)
        self._round = last
        self._event = events[-1].id if events else self._event
        self._status = self._status if behind else status

    def _about(self, reader: Reader) -> list[bytes]:
        """What the run is; nothing as long as its trainer has not said all of it."""
        try:
            steering = reader._meta("steering")
        except InputError:
            return []
        said = {"config": reader.config, "space": reader.space.to_json(), "steering": steering}
        return [
            self._encoded(About, key=key, value=json.dumps(value).encode())
            for key, value in said.items()
        ]

    def _rows(self, round: int, tables: Tables) -> Iterator[bytes]:
        for kind, table in tables:
            blobs = parted(table)
            for part, blob in enumerate(blobs):
                of = {"kind": kind, "round": round, "part": part, "parts": len(blobs)}
                yield self._encoded(Rows, table=blob, **of)

    def _encoded(self, record, /, **fields) -> bytes:
        return bulletins.encode(record(follower=self._follower, **fields))


def _status(reader: Reader) -> bytes:
    return json.dumps(reader.status()._asdict()).encode()


@contextlib.contextmanager
def relayed(
    directory: Path, bus: Bus | None, swarm: str, tell: Callable[[str], None]
) -> Iterator[None]:
    """Meanwhile the run can be followed over the bus, if there is one."""
    if bus is None:
        yield
        return

    def told(text: str) -> None:
        # What cannot be written down must not end the thread.
        with contextlib.suppress(sqlite3.Error):
            tell(text)

    with contextlib.closing(Relay(directory, bus, swarm, tell=told)):
        yield
