"""How far two clocks are apart, and how sure that is, from messages that crossed between them.

Nothing here sets a clock or rewrites a time: a record keeps the wall time of its node, and says
beside it what to add to get the controller's time, and how wrong that may be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from swarmjax.errors import InputError

# How far two ordinary clocks drift apart at most: 250 nanoseconds in a millisecond.
DRIFT = 250e-6
# Exchanges that an estimate is made from.
KEPT = 64
# Of an offset that was never measured.
UNKNOWN = -1
# Nanoseconds from 1970 to 2262, as a signed integer of 64 bits holds them.
_LATEST = 2**63 - 1


class Reading(NamedTuple):
    """Both clocks of a process, read at one moment.

    Attributes:
        wall: nanoseconds since 1970; it may be set, forwards or backwards.
        monotonic: nanoseconds since some moment of the machine's own; never set.
    """

    wall: int
    monotonic: int


Clock = Callable[[], Reading]


class Exchange(NamedTuple):
    """One message to the controller and its answer.

    Attributes:
        sent: the node's monotonic nanoseconds when the message left.
        received: the controller's nanoseconds when it arrived there.
        answered: the controller's nanoseconds when the answer left.
        returned: the node's monotonic nanoseconds when the answer arrived.
    """

    sent: int
    received: int
    answered: int
    returned: int


class Sample(NamedTuple):
    """An exchange with a server of the time.

    Attributes:
        exchange: in which the server is the controller.
        error: nanoseconds by which the server's own clock may be wrong.
    """

    exchange: Exchange
    error: int


class Estimate(NamedTuple):
    """What to add to a node's monotonic nanoseconds to get the controller's.

    Attributes:
        offset: nanoseconds.
        bound: nanoseconds; the true offset lies within `offset` +- `bound`.
    """

    offset: int
    bound: int


class Stamp(NamedTuple):
    """When something happened at a node; these are the columns of every record.

    Attributes:
        wall_ns: the node's wall clock, as it was read.
        monotonic_ns: the node's monotonic clock, as it was read.
        clock_offset: nanoseconds to add to `wall_ns` to get the controller's time.
        clock_bound: nanoseconds that this may be wrong by; -1: it was never measured, and
            `clock_offset` is 0.
    """

    wall_ns: int
    monotonic_ns: int
    clock_offset: int
    clock_bound: int

    @property
    def corrected(self) -> int:
        """Nanoseconds of the controller's time, by which records of several nodes are ordered."""
        return self.wall_ns + self.clock_offset


def read() -> Reading:
    """Both clocks of this process now."""
    return Reading(time.time_ns(), time.monotonic_ns())


def controller_clock(clock: Clock = read) -> Callable[[], int]:
    """Nanoseconds of the controller: its wall time of now, and monotonic from here on."""
    start = clock()
    return lambda: start.wall + clock().monotonic - start.monotonic


def check_exchange(exchange: Exchange) -> Exchange:
    """The exchange; raises InputError if no two clocks can have shown it."""
    if not all(0 <= moment <= _LATEST for moment in exchange):
        raise InputError("a clock exchange has a time before 1970 or after 2262; it is not used")
    if exchange.returned < exchange.sent or exchange.answered < exchange.received:
        raise InputError("a clock exchange ends before it begins; it is not used")
    return exchange


def estimate(exchanges: Iterable[Exchange], now: int) -> Estimate | None:
    """The offset at `now`, on the node's monotonic clock; None without an exchange.

    Half the round trip bounds the error of an exchange, whatever its two ways have to do with each
    other (Mills 1991, IEEE Trans. Communications 39). It grows with age, counted from when the
    message left, as the clocks may drift apart; the exchange with the least bound wins.
    """
    found = [_one(exchange, now) for exchange in exchanges]
    return min(found, key=lambda each: each.bound, default=None)


def _one(exchange: Exchange, now: int) -> Estimate:
    away = exchange.returned - exchange.sent - (exchange.answered - exchange.received)
    twice = exchange.received - exchange.sent + exchange.answered - exchange.returned
    # Two more nanoseconds for what is rounded off.
    bound = max(away, 0) / 2 + DRIFT * max(now - exchange.sent, 0) + 2
    return Estimate(twice // 2, int(bound))


def by_samples(samples: Iterable[Sample], now: int) -> Estimate | None:
    """What to add to a clock to get the servers' time, at `now`; None without a sample."""
    found = []
    for sample in samples:
        offset, bound = _one(sample.exchange, now)
        found.append(Estimate(offset, bound + sample.error))
    return min(found, key=lambda each: each.bound, default=None)


def between(node: Estimate | None, controller: Estimate | None, age: int) -> Estimate | None:
    """What to add to the node's clock to get the controller's, if both know UTC; else None.

    Args:
        node: to add to the node's clock to get UTC.
        controller: to add to the controller's to get UTC, as it was `age` nanoseconds ago.
        age: counted by the node.
    """
    if node is None or controller is None:
        return None
    # Since then the controller's clock may have drifted against UTC.
    bound = node.bound + controller.bound + int(DRIFT * max(age, 0)) + 1
    return Estimate(node.offset - controller.offset, bound)


def best(*estimates: Estimate | None) -> Estimate | None:
    """The one with the least bound of those that there are."""
    known = [each for each in estimates if each is not None]
    return min(known, key=lambda each: each.bound, default=None)


def stamp(reading: Reading, known: Estimate | None) -> Stamp:
    """The stamp of what happens at `reading`.

    The estimate is one of the monotonic clock, so that a node whose wall clock is set in between
    is corrected all the same.
    """
    if known is None:
        return Stamp(reading.wall, reading.monotonic, 0, UNKNOWN)
    offset = reading.monotonic + known.offset - reading.wall
    return Stamp(reading.wall, reading.monotonic, offset, known.bound)
