"""The thread that sends what is spooled, and goes on trying as long as there is no bus."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable

from swarmjax.channels import Bus, BusError, Publisher
from swarmjax.spool import Spool, Waiting

# Messages sent and confirmed at a time.
BATCH = 500
# Seconds between two tries to connect: at first and at most.
_SOON, _LATE = 0.1, 5.0


class Outbox:
    """Sends the messages of a spool, in order, each until it is confirmed.

    Two of a kind may arrive where a confirmation was lost; whoever reads tells them apart.
    """

    def __init__(
        self,
        spool: Spool,
        bus: Bus,
        *,
        tell: Callable[[str], None] = lambda text: None,
        beat: Callable[[Publisher], None] = lambda publisher: None,
        every: float = 1.0,
    ):
        """Starts the thread.

        Args:
            spool: what to send; only this outbox takes from it.
            bus: where to.
            tell: told in a line when the bus is lost, and when it is back.
            beat: sends something of the moment, which need not be kept, over the connection there
                is; may raise BusError.
            every: seconds between two beats.
        """
        self._spool, self._bus, self._tell = spool, bus, tell
        self._beat, self._every, self._due = beat, every, 0.0
        self._over, self._pause, self._lost = threading.Event(), _SOON, False
        self._thread = threading.Thread(target=self._run, name="swarmjax outbox", daemon=True)
        self._thread.start()

    def flush(self, seconds: float) -> bool:
        """Waits until all is confirmed; False if it is not in time."""
        until = time.monotonic() + seconds
        while len(self._spool) and time.monotonic() < until:
            time.sleep(0.01)
        return not len(self._spool)

    def close(self, seconds: float = 5.0) -> None:
        """Sends what it can in that time; the rest stays in the spool for the next start."""
        self.flush(seconds)
        self._over.set()
        self._spool.wake()
        self._thread.join(timeout=15.0)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with contextlib.closing(self._bus.publisher()) as publisher:
                    self._greet()
                    while not self._over.is_set():
                        self._send(publisher)
            except BusError as error:
                self._mourn(error)

    def _send(self, publisher: Publisher) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + self._every
            self._beat(publisher)
        left = max(self._due - time.monotonic(), 0.0)
        messages = self._spool.head(BATCH, left)
        for channel, some in _by_channel(messages).items():
            publisher.publish(channel, [message.data for message in some])
        if messages:
            self._spool.done(messages)
            self._pause = _SOON

    def _greet(self) -> None:
        if self._lost:
            self._lost = False
            self._tell(f"the bus is back; {len(self._spool)} messages wait to be sent")

    def _mourn(self, error: BusError) -> None:
        if not self._lost:
            self._lost = True
            self._tell(f"the bus is lost, messages are kept on disk: {error}")
        self._over.wait(self._pause)
        self._pause = min(2 * self._pause, _LATE)


def _by_channel(messages: list[Waiting]) -> dict[str, list[Waiting]]:
    channels: defaultdict[str, list[Waiting]] = defaultdict(list)
    for message in messages:
        channels[message.channel].append(message)
    return channels
