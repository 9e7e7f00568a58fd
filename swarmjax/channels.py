"""Channels of bytes that outlive the processes at their two ends, and where they are.

A bus is named by a URL:

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
