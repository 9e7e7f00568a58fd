import sqlite3

import pytest

from swarmjax import backlog
from swarmjax.backlog import Backlog


class Disk:
    """A writer whose disk may be full."""

    directory = "DIR"

    def __init__(self):
        self.error, self.written = None, []

    def event(self, round, kind, text, member=None):
        if self.error is not None:
            raise self.error
        self.written.append((round, kind, text, member))

    plan = event

    def ended(self, state, text):
        self.event(0, state, text)

    def last_event(self):
        return len(self.written)


@pytest.fixture
def disk():
    return Disk()


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), sqlite3.OperationalError("disk is full")]
)
def test_what_cannot_be_written_waits_in_order(disk, error):
    told = []
    writer = Backlog(disk, told.append)
    writer.event(1, "a", "x")
    disk.error = error
    writer.event(2, "b", "y", member=3)
    writer.plan(3, "c", "z")
    assert writer.behind == 2 and len(told) == 1
    assert "cannot write to DIR" in told[0] and "training goes on" in told[0]
    disk.error = None
    writer.event(4, "d", "w")
    assert disk.written == [
        (1, "a", "x", None), (2, "b", "y", 3), (3, "c", "z", None), (4, "d", "w", None)
    ]  # fmt: skip
    assert writer.behind == 0 and told[1:] == ["DIR can be written to again"]


def test_other_errors_are_nobodys_disk(disk):
    disk.error = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        Backlog(disk, print).event(1, "a", "x")


def test_what_is_asked_of_the_writer_is_answered(disk):
    assert Backlog(disk, print).last_event() == 0


def test_the_oldest_are_given_up_and_counted(disk, monkeypatch):
    monkeypatch.setattr(backlog, "MOST", 3)
    told = []
    writer = Backlog(disk, told.append)
    disk.error = OSError(28, "full")
    for round in range(5):
        writer.event(round, "a", "x")
    disk.error = None
    writer.event(5, "a", "x")
    assert [entry[0] for entry in disk.written] == [3, 4, 5]
    assert "3 records are lost" in told[-1]


def test_the_end_is_written_after_all_that_waits(disk):
    writer = Backlog(disk, lambda text: None)
    disk.error = OSError(28, "full")
    writer.event(1, "a", "x")
    with pytest.raises(OSError, match="full"):
        writer.ended("failed", "it")
    disk.error = None
    writer.ended("failed", "it")
    assert [entry[1] for entry in disk.written] == ["a", "failed"]
