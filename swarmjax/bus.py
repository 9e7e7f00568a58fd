"""The message queue: numbered channels of bytes that outlive the processes at their two ends.

A bus is named by a URL, and none needs to be started by default:

    local:NAME                          within this process
    amqp://USER:PASSWORD@HOST:5672/     RabbitMQ, or anything else that speaks AMQP 0.9.1
    kafka://HOST:9092,HOST:9092         Kafka

`amqps` and `kafkas` are the same over TLS. What must not be seen by others stays out of command
lines: `SWARMJAX_BUS` gives the URL, `SWARMJAX_BUS_USER` and `SWARMJAX_BUS_PASSWORD` what it leaves
out, and `SWARMJAX_BUS_CAFILE`, `..._CERTFILE` and `..._KEYFILE` the files of TLS.

A channel has one reader, who gets every message at least once, in order as long as nothing fails.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote, urlsplit

from swarmjax.errors import InputError, one_line

PORTS = {"amqp": 5672, "amqps": 5671, "kafka": 9092, "kafkas": 9093}


class BusError(RuntimeError):
    """The bus cannot be reached now, or refuses; whoever wants it makes a new connection."""


class Publisher(Protocol):
    """One connection to write by; not to be used by two threads at a time."""

    def publish(self, channel: str, messages: Sequence[bytes]) -> None:
        """Returns once the bus keeps all of them; BusError: some may be there, or all, or none."""
        ...

    def close(self) -> None:
        """Gives the connection up; never raises."""
        ...


class Consumer(Protocol):
    """One connection to read a channel by; not to be used by two threads at a time."""

    def receive(self, seconds: float) -> list[bytes]:
        """The next messages, or none if none come in time; BusError if the connection is lost.

        Some buses send no more than a few hundred that were not acknowledged.
        """
        ...

    def acknowledge(self) -> None:
        """Everything received so far is safe elsewhere and need not come again."""
        ...

    def close(self) -> None:
        """Gives the connection up; what was not acknowledged comes again. Never raises."""
        ...


class Bus(Protocol):
    """Makes connections; every one is for one purpose, and is replaced by a new one if it fails."""

    def publisher(self) -> Publisher:
        """A new connection to write by; BusError if there is none to be had."""
        ...

    def consumer(self, channel: str) -> Consumer:
        """A new connection to read `channel` by; BusError if there is none to be had."""
        ...


@dataclass(frozen=True)
class Address:
    """Where a bus is and who asks; shows nobody the password.

    Attributes:
        scheme: of the URL.
        hosts: host:port, of AMQP only the first is used.
        path: of AMQP the virtual host, of a local bus its name.
        user: or None.
        password: or None.
        cafile: certificates that are trusted, or None for those of the system.
        certfile: the certificate shown to the server, or None.
        keyfile: its key, or None.
    """

    scheme: str
    hosts: tuple[str, ...] = ()
    path: str = ""
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = field(default=None, repr=False)

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme.endswith("s")

    def __str__(self) -> str:
        if self.scheme == "local":
            return f"local:{self.path}"
        return f"{self.scheme}://{','.join(self.hosts)}/{self.path}"

    def error(self, error: object) -> BusError:
        """What went wrong there, without the user's name or password."""
        text = str(error)
        for secret in filter(None, (self.password, self.user)):
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "***", text)
        return BusError(f"{self}: {one_line(text)}")


def parse(url: str | None = None, environment: Mapping[str, str] = os.environ) -> Address:
    """The address that `url`, else `SWARMJAX_BUS`, names; InputError tells nothing secret."""
    given = environment.get("SWARMJAX_BUS") if url is None else url
    if not given:
        raise InputError("no bus is named; give a URL such as amqp://localhost or set SWARMJAX_BUS")
    scheme, colon, rest = given.partition(":")
    if scheme == "local" and rest:
        return Address("local", path=rest)
    if scheme not in PORTS or not colon:
        known = ", ".join(f"{name}://" for name in PORTS)
        raise InputError(f"a bus begins with {known} or local:NAME, not with {one_line(scheme)!r}")
    try:
        parts = urlsplit(given)
    except ValueError:
        raise InputError(f"the {scheme} URL of the bus cannot be read; see SWARMJAX_BUS") from None
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    return Address(
        scheme, _hosts(scheme, parts.netloc.rpartition("@")[2]), unquote(parts.path[1:]),
        unquote(user) or environment.get("SWARMJAX_BUS_USER"),
        unquote(password) or environment.get("SWARMJAX_BUS_PASSWORD"),
        *(environment.get(f"SWARMJAX_BUS_{name}") for name in ("CAFILE", "CERTFILE", "KEYFILE")),
    )  # fmt: skip


def _hosts(scheme: str, text: str) -> tuple[str, ...]:
    hosts = []
    for each in text.split(","):
        host, colon, port = each.rpartition(":")
        if not colon or port.endswith("]"):
            host, port = each, str(PORTS[scheme])
        if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
            raise InputError(f"the {scheme} URL of the bus must name HOST or HOST:PORT")
        hosts.append(f"{host}:{port}")
    return tuple(hosts)


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
