"""Row: records from a trainer's spool to a store over RabbitMQ, with all three of them killed.

Writer, broker and reader are processes of their own, ended by `kill -9` in mid-run: the reader at
once, then the broker for `_OUTAGE` seconds, meanwhile the writer, and the reader again while it
catches up. Lost is what the writer's spool had accepted and the store lacks at the end; doubled is
what the store has twice.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from paper.brokers import RabbitMQ
from paper.measure import ROOT, Row, at_most, progress

# Seconds without a broker; of a quick row.
_OUTAGE, _SHORT = 30.0, 6.0
Mark = tuple[int, int]


class Worker:
    """A process of `delivery_worker` that can be started again after it was killed.

    `lines` are what it printed: incarnation and sequence of records.
    """

    def __init__(self, *arguments: object):
        """Starts the process."""
        self._arguments, self._readers = [*map(str, arguments)], []
        self.lines: list[Mark] = []
        self.start()

    def start(self) -> None:
        """Starts the process again, with the same arguments."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "paper.delivery_worker", *self._arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT,
        )  # fmt: skip
        reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        reader.start()
        self._readers.append(reader)

    def _read(self, stream: Any) -> None:
        with stream:
            for line in stream:
                # Of a process that was killed the last line may be half.
                if line.endswith(b"\n"):
                    incarnation, sequence = line.split()
                    self.lines.append((int(incarnation), int(sequence)))

    def kill(self) -> None:
        """Ends it as kill -9 does."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stdin is not None, "it was asked for"
        self._process.stdin.close()

    def finish(self) -> int:
        """Ends its input and waits; returns its exit status."""
        assert self._process.stdin is not None, "it was asked for"
        self._process.stdin.close()
        status = self._process.wait(timeout=240)
        for reader in self._readers:
            reader.join()
        return status


class Pair(NamedTuple):
    """A writer and a reader at work, and where the reader keeps what comes."""

    writer: Worker
    reader: Worker
    inbox: Path

    def kept(self) -> list[Mark]:
        """Incarnation and sequence of every row of the store."""
        try:
            with contextlib.closing(sqlite3.connect(self.inbox)) as database:
                return database.execute("SELECT incarnation, sequence FROM records").fetchall()
        except sqlite3.OperationalError:
            return []

    def finish(self) -> dict[str, int]:
        """Ends the writer, waits until all has arrived, and counts what is wrong."""
        status = self.writer.finish()
        accepted = set(self.writer.lines)
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: accepted <= set(self.kept()))
        arrived = Counter(self.kept())
        # `untold` was spooled in the instant of a kill: it could not be printed any more.
        return {
            "accepted": len(accepted), "lost": len(accepted - set(arrived)),
            "doubled": sum(count - 1 for count in arrived.values()),
            "untold": len(set(arrived) - accepted), "status": status,
        }  # fmt: skip


@contextlib.contextmanager
def pair(url: str, folder: Path) -> Iterator[Pair]:
    """A writer and a reader at a URL, both at work; at the end neither is left."""
    channel, inbox = f"swarmjax.{uuid.uuid4().hex}.up", folder / "inbox.db"
    reader = Worker("read", url, channel, inbox)
    writer = Worker("write", url, channel, folder / "spool", "torch-0")
    made = Pair(writer, reader, inbox)
    try:
        wait_for(lambda: len(made.kept()) > 50)
        yield made
    finally:
        for worker in (writer, reader):
            worker.kill()


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Returns once `condition` holds; TimeoutError if it does not in time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"it did not come true within {seconds:.0f} s")
        time.sleep(0.1)


def kill_all(pair: Pair, broker: RabbitMQ, outage: float) -> None:
    """Kills reader, broker, writer and reader again, and starts all of them again."""
    pair.reader.kill()
    time.sleep(0.5)
    pair.reader.start()
    broker.kill()
    before = len(pair.writer.lines)
    time.sleep(outage / 2)
    pair.writer.kill()
    pair.writer.start()
    wait_for(lambda: len({incarnation for incarnation, _ in pair.writer.lines[before:]}) == 2)
    time.sleep(outage / 2)
    broker.start()
    kept = len(pair.kept())
    wait_for(lambda: len(pair.kept()) > kept + 200)
    pair.reader.kill()
    pair.reader.start()


def delivery() -> Row:
    """Nothing may be lost, nothing doubled."""
    return Row(
        lambda quick: {"delivery_lost": at_most(0), "delivery_doubled": at_most(0)}, _measure
    )


def _measure(quick: bool) -> tuple[dict[str, float], Any]:
    outage = _SHORT if quick else _OUTAGE
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with contextlib.closing(RabbitMQ(folder)) as broker, pair(broker.url, folder) as both:
            kill_all(both, broker, outage)
            found = both.finish()
    progress(f"{found['accepted']} records, {outage:.0f} s without a broker: {found}")
    return {"delivery_lost": found["lost"], "delivery_doubled": found["doubled"]}, found | {
        "outage_seconds": outage
    }
