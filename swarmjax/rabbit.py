"""The bus over AMQP 0.9.1: durable queues, confirmed publishing, acknowledged reading.

By py-amqp, the library under kombu: confirmations are waited for by the batch, not one by one.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Sequence
from typing import Any

import amqp

from swarmjax.channels import Address, BusError, Consumer, Publisher

# Seconds for connecting, and for a confirmation.
PATIENCE = 10.0
# Messages under way at a time.
WINDOW = 500
# Milliseconds after which a queue that nobody reads or declares is forgotten.
_FORGOTTEN = 7 * 24 * 3600 * 1000


class Rabbit:
    """A broker of AMQP; made by `bus.open_bus`."""

    def __init__(self, address: Address):
        self._address = address

    def __repr__(self) -> str:
        return f"Rabbit({self._address})"

    def publisher(self) -> Publisher:
        """As `Bus.publisher`."""
        return _Publisher(_Link(self._address))

    def consumer(self, channel: str) -> Consumer:
        """As `Bus.consumer`."""
        return _Consumer(_Link(self._address), channel)


class _Link:
    """One connection with its channel; everything that fails in it becomes a BusError."""

    def __init__(self, address: Address):
        self._address, self._failed = address, False
        host = address.hosts[0]
        self._connection = amqp.Connection(
            host, address.user or "guest", address.password or "guest",
            virtual_host=address.path or "/",
            ssl=_tls(address),  # pyright: ignore[reportArgumentType]
            connect_timeout=PATIENCE, write_timeout=PATIENCE,
        )  # fmt: skip
        self.channel: Any = None
        try:
            self.do(self._connection.connect)
            self.channel = self.do(self._connection.channel)
        except TimeoutError:
            raise self.lost(f"no answer within {PATIENCE:.0f} s") from None

    def do(self, action, *arguments, **options) -> Any:
        """What `action` returns; BusError if the connection fails or the broker refuses."""
        try:
            return action(*arguments, **options)
        except TimeoutError:
            raise
        except (amqp.AMQPError, OSError) as error:
            raise self.lost(f"{type(error).__name__}: {error}") from None

    def declare(self, queue: str) -> None:
        """Makes sure that the queue exists."""
        self.do(
            self.channel.queue_declare, queue, durable=True, auto_delete=False,
            arguments={"x-expires": _FORGOTTEN},
        )  # fmt: skip

    def drain(self, seconds: float) -> bool:
        """Handles what the broker says next; False if it says nothing in time."""
        try:
            self.do(self._connection.drain_events, timeout=seconds)
        except TimeoutError:
            return False
        return True

    def lost(self, reason: str) -> BusError:
        """The error of a connection that is no longer of use."""
        self._failed = True
        return self._address.error(reason)

    def close(self) -> None:
        """Says goodbye only where somebody listens."""
        with contextlib.suppress(Exception):
            if not self._failed:
                self._connection.close()
        with contextlib.suppress(Exception):
            self._connection.collect()


class _Publisher:
    def __init__(self, link: _Link):
        self._link, self._declared = link, set()
        self._waiting: set[int] = set()
        self._count, self._refused = 0, False
        link.do(link.channel.confirm_select)
        link.channel.events["basic_ack"].add(self._confirmed)
        link.channel.events["basic_nack"].add(self._nacked)

    def publish(self, channel: str, messages: Sequence[bytes]) -> None:
        if channel not in self._declared:
            self._link.declare(channel)
            self._declared.add(channel)
        for start in range(0, len(messages), WINDOW):
            self._some(channel, messages[start : start + WINDOW])

    def _some(self, channel: str, messages: Sequence[bytes]) -> None:
        for message in messages:
            self._count += 1
            self._waiting.add(self._count)
            try:
                kept = amqp.Message(message, delivery_mode=2)  # pyright: ignore[reportArgumentType]
                self._link.do(self._link.channel.basic_publish, kept, routing_key=channel)
            except TimeoutError:
                raise self._link.lost("the broker takes no more messages") from None
        until = time.monotonic() + PATIENCE
        while self._waiting and not self._refused:
            left = until - time.monotonic()
            if left <= 0 or not self._link.drain(left):
                raise self._link.lost(f"no confirmation within {PATIENCE:.0f} s")
        if self._refused:
            raise self._link.lost("the broker refused a message")

    def _confirmed(self, tag: int, multiple: bool) -> None:
        done = {each for each in self._waiting if each <= tag} if multiple else {tag}
        self._waiting -= done

    def _nacked(self, tag: int, multiple: bool) -> None:
        del tag, multiple
        self._refused = True

    def close(self) -> None:
        self._link.close()


class _Consumer:
    def __init__(self, link: _Link, queue: str):
        self._link, self._come = link, []
        self._last: int | None = None
        link.declare(queue)
        link.do(link.channel.basic_qos, 0, WINDOW, False)
        link.do(link.channel.basic_consume, queue, callback=self._come.append)

    def receive(self, seconds: float) -> list[bytes]:
        until = time.monotonic() + seconds
        while not self._come and (left := until - time.monotonic()) > 0:
            self._link.drain(left)
        # What else is here already.
        while self._come and len(self._come) < WINDOW and self._link.drain(0.001):
            pass
        taken = self._come[:WINDOW]
        del self._come[: len(taken)]
        if taken:
            self._last = taken[-1].delivery_tag
        return [bytes(message.body or b"") for message in taken]

    def acknowledge(self) -> None:
        if self._last is not None:
            self._link.do(self._link.channel.basic_ack, self._last, multiple=True)
            self._last = None

    def close(self) -> None:
        self._link.close()


def _tls(address: Address) -> dict[str, Any] | bool:
    if not address.tls:
        return False
    host = address.hosts[0].rpartition(":")[0]
    files = {"ca_certs": address.cafile, "certfile": address.certfile, "keyfile": address.keyfile}
    given = {name: path for name, path in files.items() if path}
    return {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": host} | given
