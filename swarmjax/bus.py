"""The message queue: opens the bus that a URL names. None needs to be started by default."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence

from swarmjax.channels import Bus, Consumer, Publisher, parse
from swarmjax.errors import InputError


def open_bus(url: str | None = None, environment: Mapping[str, str] = os.environ) -> Bus:
    """The bus that `url`, else `SWARMJAX_BUS`, names; nothing is connected yet.

    Raises:
        InputError: the URL names none, or its library is not installed.
    """
    address = parse(url, environment)
    if address.scheme == "local":
        return _LOCAL[address.path]
    if address.scheme.startswith("amqp"):
        # Imported here: who uses no bus, or the other one, need not wait for it.
        from swarmjax.rabbit import Rabbit

        return Rabbit(address)
    try:
        from swarmjax.kafka import Kafka
    except ImportError:
        raise InputError("kafka needs confluent-kafka; pip install 'swarmjax[kafka]'") from None
    return Kafka(address)


def open_if_named(url: str | None, environment: Mapping[str, str] = os.environ) -> Bus | None:
    """As `open_bus`, but None where neither names a bus."""
    return open_bus(url, environment) if url or environment.get("SWARMJAX_BUS") else None


class Local:
    """A bus within this process, for threads and tests; it is lost with the process."""

    def __init__(self):
        self._channels: defaultdict[str, deque[bytes]] = defaultdict(deque)
        self._changed = threading.Condition()

    def publisher(self) -> Publisher:
        """As `Bus.publisher`."""
        return _LocalPublisher(self._channels, self._changed)

    def consumer(self, channel: str) -> Consumer:
        """As `Bus.consumer`."""
        return _LocalConsumer(self._channels[channel], self._changed)


_LOCAL: defaultdict[str, Local] = defaultdict(Local)


class _LocalPublisher:
    def __init__(self, channels: defaultdict[str, deque[bytes]], changed: threading.Condition):
        self._channels, self._changed = channels, changed

    def publish(self, channel: str, messages: Sequence[bytes]) -> None:
        with self._changed:
            self._channels[channel].extend(messages)
            self._changed.notify_all()

    def close(self) -> None:
        pass


class _LocalConsumer:
    def __init__(self, queue: deque[bytes], changed: threading.Condition):
        self._queue, self._changed, self._unsafe = queue, changed, []

    def receive(self, seconds: float) -> list[bytes]:
        until = time.monotonic() + seconds
        with self._changed:
            while not self._queue and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            taken = [self._queue.popleft() for _ in range(len(self._queue))]
        self._unsafe += taken
        return taken

    def acknowledge(self) -> None:
        self._unsafe = []

    def close(self) -> None:
        with self._changed:
            self._queue.extendleft(reversed(self._unsafe))
            self._unsafe = []
