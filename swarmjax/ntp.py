"""The time of an NTP server, where one is configured: `SWARMJAX_NTP` names it.

It is a second way to know how far two clocks are apart: both ask the same kind of clock (RFC 5905).
Nothing is asked by default.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import ntplib

from swarmjax import clock
from swarmjax.clock import Estimate, Exchange, Sample
from swarmjax.errors import InputError, one_line

# Seconds between two questions, as public servers want it, and to wait for an answer.
POLL, PATIENCE = 64.0, 5.0
# Answers that are kept.
_KEPT = 8
# Nanoseconds by which times in seconds of floating point are rounded.
_ROUNDED = 1000
_SECOND = 10**9


def server(given: str | None, environment: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Host and port of `given`, else of `SWARMJAX_NTP`; an empty host if there is none.

    Raises:
        InputError: it is not HOST or HOST:PORT.
    """
    text = environment.get("SWARMJAX_NTP", "") if given is None else given
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname or "", parts.port or 123
    except ValueError:
        host, port = "", 0
    if text and (not host or parts.netloc != text):
        raise InputError(f"an NTP server is HOST or HOST:PORT, not {one_line(text)!r}")
    return host, port


def query(host: str, port: int, now: Callable[[], int]) -> Sample:
    """One question and its answer, by a clock of nanoseconds.

    Raises:
        InputError: no answer, or none of use.
    """
    try:
        # Found out before, so that it is no part of the way.
        address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][4][0]
        wall, sent = time.time(), now()
        told = ntplib.NTPClient().request(address, version=4, port=port, timeout=PATIENCE)  # pyright: ignore[reportArgumentType]
        returned = now()
    except (OSError, ntplib.NTPException) as error:
        raise InputError(f"no time from {host}: {one_line(error)}") from None
    # An answer to another question may be anybody's.
    if not wall - 1e-3 <= told.orig_time <= time.time() + 1e-3:
        raise InputError(f"no time from {host}: it answered another question")
    if not 1 <= told.stratum <= 15 or told.leap == 3:
        raise InputError(f"no time from {host}: its own clock is not set")
    times = (round(told.recv_time * _SECOND), round(told.tx_time * _SECOND))
    exchange = clock.check_exchange(Exchange(sent, *times, returned))
    error = told.root_dispersion + abs(told.root_delay) / 2
    return Sample(exchange, round(error * _SECOND) + _ROUNDED)


class Timekeeper:
    """Asks a server now and then, in a thread of its own."""

    def __init__(
        self,
        host: str,
        port: int,
        now: Callable[[], int],
        *,
        every: float = POLL,
        tell: Callable[[str], None] = lambda text: None,
    ):
        """Starts to ask; without a host it does nothing.

        Args:
            host: of the server, or empty.
            port: of the server.
            now: nanoseconds of the clock that is compared with it.
            every: seconds between two questions.
            tell: told in a line of the first answer, and of the first failure.
        """
        self._host, self._port, self._now, self._every = host, port, now, every
        self._tell, self._told = tell, set()
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._over, self._lock = threading.Event(), threading.Lock()
        if host:
            threading.Thread(target=self._run, name="swarmjax ntp", daemon=True).start()

    def known(self, now: int) -> Estimate | None:
        """What to add to the clock at `now` to get UTC; None as long as nobody has answered."""
        with self._lock:
            return clock.by_samples(self._samples, now)

    def close(self) -> None:
        """Asks no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                sample = query(self._host, self._port, self._now)
            except InputError as error:
                self._once("failure", str(error))
            else:
                with self._lock:
                    self._samples.append(sample)
                self._once("answer", f"the time is also asked of {self._host} by NTP")
            self._over.wait(self._every)

    def _once(self, kind: str, text: str) -> None:
        if kind not in self._told:
            self._told.add(kind)
            self._tell(text)
