"""Whether a swarm is heard over a bus, asked as a node asks it, without joining."""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import NamedTuple

from swarmjax import clock, directives, records
from swarmjax.channels import Bus
from swarmjax.clock import Estimate, Exchange
from swarmjax.directives import Pulse
from swarmjax.errors import InputError

# Questions asked.
_ASKED = 8


class Heard(NamedTuple):
    """What came back.

    Attributes:
        answers: how many of the questions were answered.
        fastest: seconds of the fastest answer.
        offset: what to add to this machine's monotonic clock to get the controller's, and how
            wrong that may be.
    """

    answers: int
    fastest: float
    offset: Estimate


def probe(bus: Bus, swarm: str, seconds: float) -> Heard:
    """Asks the controller for the time, a few times.

    Raises:
        InputError: nobody answers in time.
        BusError: the bus cannot be reached.
    """
    name = f"probe-{secrets.token_hex(8)}"
    until, exchanges = time.monotonic() + seconds, []
    consumer = bus.consumer(records.channel_down(swarm, name))
    with contextlib.closing(consumer), contextlib.closing(bus.publisher()) as publisher:
        while len(exchanges) < _ASKED and (left := until - time.monotonic()) > 0:
            publisher.publish(records.channel_up(swarm), [_beat(name, len(exchanges))])
            came = consumer.receive(min(left, 2.0))
            returned = time.monotonic_ns()
            consumer.acknowledge()
            exchanges += [_exchange(blob, returned) for blob in came]
    known = clock.estimate(exchanges, time.monotonic_ns())
    if known is None:
        raise InputError(
            f"swarm {swarm} does not answer within {seconds:g} s; is its run going on, with nodes, "
            "and at this bus?"
        )
    fastest = min(each.returned - each.sent for each in exchanges) / 1e9
    return Heard(len(exchanges), fastest, known)


def _beat(name: str, sequence: int) -> bytes:
    stamp = clock.stamp(clock.read(), None)
    return records.encode_up(records.Beat(
        node=name, incarnation=1, sequence=sequence, sent=stamp.monotonic_ns, grant=0, step=0,
        **stamp._asdict(),
    ))  # fmt: skip


def _exchange(blob: bytes, returned: int) -> Exchange:
    record = directives.decode_down(blob)
    if not isinstance(record, Pulse):
        raise InputError("the swarm answered something else than the time")
    return clock.check_exchange(Exchange(record.sent, record.received, record.answered, returned))
