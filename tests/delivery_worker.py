"""A process of the tests of delivery, to be killed: it writes records, or reads them.

python delivery_worker.py write URL CHANNEL SPOOL NODE     until its input ends
python delivery_worker.py read URL CHANNEL INBOX           until it is killed
"""

import contextlib
import os
import sys
import threading
import time

from node_records import report

from swarmjax import records
from swarmjax.bus import open_bus
from swarmjax.channels import BusError
from swarmjax.inbox import Inbox
from swarmjax.outbox import Outbox
from swarmjax.spool import Spool


def write(url, channel, path, node):
    """Prints incarnation and sequence of every record that the spool has accepted."""
    spool = Spool(path)
    outbox = Outbox(spool, open_bus(url))
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    sequence = 0
    while not over.is_set():
        record = report(node=node, incarnation=spool.incarnation, sequence=sequence)
        if spool.put(channel, records.encode_up(record), precious=True):
            os.write(1, b"%d %d\n" % (spool.incarnation, sequence))
        sequence += 1
        time.sleep(0.002)
    outbox.close(60)
    sys.exit(len(spool) > 0)


def read(url, channel, path):
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
