"""Against a server of NTP's own protocol on this machine, which lies as it is told to."""

import contextlib
import socket
import struct
import threading
import time

import pytest

from swarmjax import clock, ntp
from swarmjax.errors import InputError

SECOND = 10**9
# Seconds from 1900 to 1970.
EPOCH = 2_208_988_800


class Server:
    """Answers with this machine's time and `ahead` seconds, as RFC 5905 lays it out."""

    def __init__(self, ahead=0.0, stratum=2, leap=0, dispersion=0.001, forged=False, size=48):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._ahead, self._first = ahead, (leap << 6 | 4 << 3 | 4, stratum)
        self._dispersion, self._forged, self._size, self.asked = dispersion, forged, size, 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                data, sender = self._socket.recvfrom(256)
                self.asked += 1
                now = time.time() + EPOCH + self._ahead
                stamp = struct.pack("!II", int(now), int(now % 1 * 2**32))
                origin = stamp if self._forged else data[40:48]
                head = struct.pack("!BBbbIII", *self._first, 6, -20, 0,
                                   int(self._dispersion * 2**16), 0)  # fmt: skip
                answer = head + stamp + origin + stamp + stamp
                self._socket.sendto(answer[: self._size], sender)

    def close(self):
        self._socket.close()


@pytest.fixture
def server():
    made = []

    def make(**options):
        made.append(Server(**options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_the_offset_of_a_monotonic_clock_is_found_within_its_bound(server):
    made = server(ahead=3.7)
    sample = ntp.query("127.0.0.1", made.port, time.monotonic_ns)
    assert sample.error == 1_000_000 + 1000 or abs(sample.error - 1_001_000) < 20_000
    now = time.monotonic_ns()
    known = clock.by_samples([sample], now)
    true = time.time_ns() - time.monotonic_ns() + 3.7 * SECOND
    assert abs(known.offset - true) <= known.bound + 5_000_000
    assert known.bound > sample.error


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"stratum": 0}, "its own clock is not set"),
        ({"stratum": 16}, "its own clock is not set"),
        ({"leap": 3}, "its own clock is not set"),
        ({"forged": True, "ahead": 60.0}, "answered another question"),
        ({"size": 20}, "no time from 127.0.0.1"),
    ],
)
def test_answers_of_no_use_are_refused(server, options, reason):
    with pytest.raises(InputError, match=reason):
        ntp.query("127.0.0.1", server(**options).port, time.monotonic_ns)


def test_silence_is_an_error_in_time(monkeypatch):
    monkeypatch.setattr(ntp, "PATIENCE", 0.1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind(("127.0.0.1", 0))
        with pytest.raises(InputError, match="no time from"):
            ntp.query("127.0.0.1", nobody.getsockname()[1], time.monotonic_ns)


def test_a_keeper_asks_again_and_tells_once(server):
    made, told = server(), []
    keeper = ntp.Timekeeper("127.0.0.1", made.port, time.monotonic_ns, every=0.01, tell=told.append)
    end = time.monotonic() + 20
    while made.asked < 3 and time.monotonic() < end:
        time.sleep(0.01)
    keeper.close()
    assert made.asked >= 3
    assert told == ["the time is also asked of 127.0.0.1 by NTP"]
    assert keeper.known(time.monotonic_ns()) is not None


def test_without_a_server_nothing_is_asked():
    keeper = ntp.Timekeeper("", 123, time.monotonic_ns)
    assert keeper.known(0) is None
    keeper.close()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", ("", 123)),
        ("pool.ntp.org", ("pool.ntp.org", 123)),
        ("10.0.0.1:1123", ("10.0.0.1", 1123)),
        ("[::1]:124", ("::1", 124)),
    ],
)
def test_a_server_is_named_with_or_without_its_port(text, wanted):
    assert ntp.server(text) == ntp.server(None, {"SWARMJAX_NTP": text}) == wanted


@pytest.mark.parametrize("text", ["http://x", "x:y", "x:99999", ":123", "x/y", "x:1:2"])
def test_anything_else_is_refused(text):
    with pytest.raises(InputError, match="an NTP server is HOST or HOST:PORT"):
        ntp.server(text)
