import threading
import time

import pytest

from swarmjax.bus import Local
from swarmjax.channels import BusError
from swarmjax.outbox import Outbox
from swarmjax.spool import Spool


class Shaky:
    """A bus whose connections fail: at being made, before keeping anything, or after all of it."""

    def __init__(self, faults):
        self.inner, self.faults, self.made = Local(), list(faults), 0

    def publisher(self):
        self.made += 1
        if self.faults and self.faults[0] == "connect":
            self.faults.pop(0)
            raise BusError("no bus")
        return ShakyPublisher(self)

    def consumer(self, channel):
        return self.inner.consumer(channel)


class ShakyPublisher:
    def __init__(self, bus):
        self._bus, self._inner, self._broken = bus, bus.inner.publisher(), False

    def publish(self, channel, messages):
        assert not self._broken, "a failed connection must not be used again"
        fault = self._bus.faults.pop(0) if self._bus.faults else None
        if fault != "before":
            self._inner.publish(channel, messages)
        if fault:
            self._broken = True
            raise BusError("lost")

    def close(self):
        pass


@pytest.fixture
def spool(tmp_path):
    made = Spool(tmp_path / "spool")
    yield made
    made.close()


def received(bus, channel="up"):
    return bus.consumer(channel).receive(0)


def test_what_is_spooled_is_sent_in_order(spool):
    bus = Local()
    spool.put("up", b"before")
    outbox = Outbox(spool, bus)
    for i in range(700):
        spool.put("up" if i % 7 else "other", b"%d" % i)
    assert outbox.flush(20)
    outbox.close()
    assert received(bus) == [b"before", *(b"%d" % i for i in range(700) if i % 7)]
    assert received(bus, "other") == [b"%d" % i for i in range(700) if i % 7 == 0]


def test_every_fault_is_followed_by_a_new_connection_and_nothing_is_lost(spool):
    bus, told = Shaky(["connect", "before", "after", "connect", "before"]), []
    outbox = Outbox(spool, bus, tell=told.append)
    for i in range(20):
        spool.put("up", b"%d" % i)
        time.sleep(0.01)
    assert outbox.flush(20)
    outbox.close()
    assert bus.made == 6
    came = received(bus)
    assert list(dict.fromkeys(came)) == [b"%d" % i for i in range(20)]
    # Those sent before the connection was lost came twice.
    assert len(came) > 20
    assert told[0] == "the bus is lost, messages are kept on disk: no bus"
    assert told[1].startswith("the bus is back")


def test_whoever_puts_does_not_wait_for_a_bus_that_is_down(spool):
    bus = Shaky(["connect"] * 10_000)
    outbox = Outbox(spool, bus)
    begun = time.monotonic()
    for _ in range(200):
        spool.put("up", b"x")
    assert time.monotonic() - begun < 5
    assert not outbox.flush(0.05)
    outbox.close(0.05)
    assert len(spool) == 200


def test_beats_go_on_whatever_else_is_sent(spool):
    beats, enough = [], threading.Event()

    def beat(publisher):
        beats.append(time.monotonic())
        publisher.publish("beat", [b"alive"])
        if len(beats) == 4:
            enough.set()

    bus = Local()
    outbox = Outbox(spool, bus, beat=beat, every=0.05)
    assert enough.wait(20)
    outbox.close()
    assert beats[3] - beats[0] >= 0.15
    assert len(received(bus, "beat")) == len(beats)


def test_what_could_not_be_sent_is_sent_after_the_next_start(tmp_path):
    first = Spool(tmp_path / "s")
    outbox = Outbox(first, Shaky(["connect"] * 10_000))
    first.put("up", b"kept")
    outbox.close(0)
    first.close()
    second, bus = Spool(tmp_path / "s"), Local()
    outbox = Outbox(second, bus)
    outbox.close(20)
    assert received(bus) == [b"kept"]
    second.close()
