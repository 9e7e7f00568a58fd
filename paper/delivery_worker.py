"""A process of the row and the tests of delivery, to be killed: it writes records, or reads them.

python -m paper.delivery_worker write URL CHANNEL SPOOL NODE     until its input ends
python -m paper.delivery_worker read URL CHANNEL INBOX           until it is killed
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

from swarmjax import clock, records
from swarmjax.bus import open_bus
from swarmjax.channels import BusError
from swarmjax.inbox import Inbox
from swarmjax.outbox import Outbox
from swarmjax.spool import Spool

# Seconds between two records.
_PAUSE = 0.002


def write(url: str, channel: str, path: str, node: str) -> None:
    """Prints incarnation and sequence of every record that the spool has accepted."""
    spool = Spool(path)
    outbox = Outbox(spool, open_bus(url))
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    sequence = 0
    while not over.is_set():
        blob = records.encode_up(_record(node, spool.incarnation, sequence))
        if spool.put(channel, blob, precious=True):
            os.write(1, b"%d %d\n" % (spool.incarnation, sequence))
        sequence += 1
        time.sleep(_PAUSE)
    outbox.close(170)
    sys.exit(len(spool) > 0)


def _record(node: str, incarnation: int, sequence: int) -> records.Report:
    """The report of a grant whose number tells which record it is."""
    stamp = clock.stamp(clock.read(), None)._asdict()
    return records.Report(
        node=node, incarnation=incarnation, sequence=sequence, **stamp, grant=sequence,
        started="own", steps=5, step=5, loss=0.5, gradient_norm=1.0, metrics={"valid_loss": 0.6},
        finite=True, seconds=0.01,
    )  # fmt: skip


def read(url: str, channel: str, path: str) -> None:
    """Keeps what comes, whatever happens to the bus."""
    inbox, bus = Inbox(path), open_bus(url)
    while True:
        with contextlib.suppress(BusError):
            consumer = bus.consumer(channel)
            while True:
                if some := consumer.receive(0.5):
                    inbox.take(some)
                    consumer.acknowledge()
        time.sleep(0.1)


if __name__ == "__main__":
    {"write": write, "read": read}[sys.argv[1]](*sys.argv[2:])
