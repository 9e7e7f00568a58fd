"""The thread that reads a channel, and goes on trying as long as there is no bus."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from swarmjax.channels import Bus, BusError

# Seconds that a reader waits for messages, and for a bus that is lost.
_WAIT, _PAUSE = 0.25, 0.5


class Listener:
    """Hands on what comes by a channel; what was handed on is acknowledged."""

    def __init__(self, bus: Bus, channel: str, handle: Callable[[list[bytes]], None]):
        """Starts the thread, in which `handle` is called; it may raise nothing but BusError.

        Then what it was given comes again.
        """
        self._bus, self._channel, self._handle = bus, channel, handle
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="swarmjax listener", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread; what was not acknowledged comes again to the next reader."""
        self._over.set()
        self._thread.join(timeout=15.0)

    def _run(self) -> None:
        while not self._over.is_set():
            # Whoever writes to the bus tells that it is lost.
            with contextlib.suppress(BusError):
                with contextlib.closing(self._bus.consumer(self._channel)) as consumer:
                    while not self._over.is_set():
                        if messages := consumer.receive(_WAIT):
                            self._handle(messages)
                            consumer.acknowledge()
            self._over.wait(0 if self._over.is_set() else _PAUSE)
