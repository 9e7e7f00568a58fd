import threading
import time

import pytest

from swarmjax import listener
from swarmjax.bus import Local
from swarmjax.channels import BusError
from swarmjax.listener import Listener


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(listener, "_WAIT", 0.02)
    monkeypatch.setattr(listener, "_PAUSE", 0.02)


def wait_for(condition):
    end = time.monotonic() + 20
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    assert condition()


def test_what_comes_is_handed_on_in_order_and_acknowledged():
    bus, heard = Local(), []
    made = Listener(bus, "c", heard.extend)
    for message in (b"1", b"2", b"3"):
        bus.publisher().publish("c", [message])
    wait_for(lambda: heard == [b"1", b"2", b"3"])
    made.close()
    assert bus.consumer("c").receive(0) == []


def test_what_could_not_be_handled_comes_again():
    bus, heard = Local(), []

    def handle(messages):
        heard.append(list(messages))
        if len(heard) == 1:
            raise BusError("the disk is full")

    bus.publisher().publish("c", [b"1", b"2"])
    made = Listener(bus, "c", handle)
    wait_for(lambda: len(heard) == 2)
    made.close()
    assert heard == [[b"1", b"2"]] * 2


class Flaky:
    """A bus that cannot be reached for a while, and then loses each connection once."""

    def __init__(self, inner, failures):
        self._inner, self.left, self.closed = inner, failures, 0

    def consumer(self, channel):
        if self.left > 0:
            self.left -= 1
            raise BusError("nobody is there")
        return self

    def receive(self, seconds):
        return self._inner.receive(seconds)

    def acknowledge(self):
        self._inner.acknowledge()

    def close(self):
        self.closed += 1


def test_a_bus_that_is_not_there_is_tried_again():
    local, heard = Local(), []
    bus = Flaky(local.consumer("c"), failures=3)
    made = Listener(bus, "c", heard.extend)
    local.publisher().publish("c", [b"1"])
    wait_for(lambda: heard == [b"1"])
    made.close()
    assert (bus.left, bus.closed) == (0, 1)


def test_closing_ends_the_thread_even_without_a_bus():
    before = threading.active_count()
    made = Listener(Flaky(None, failures=10**9), "c", lambda messages: None)
    made.close()
    assert threading.active_count() == before
