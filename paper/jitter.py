"""A loopback line on which every piece takes a random time, each way on its own."""

from __future__ import annotations

import contextlib
import queue
import random
import socket
import threading
import time


class Jitter:
    """Forwards connections to a port of this machine, late by up to `most` seconds.

    `port` is its own. Pieces of one direction stay in order, as TCP has it.
    """

    def __init__(self, target: int, most: float, seed: int = 0):
        """Begins to listen."""
        self._target, self._most, self._random = target, most, random.Random(seed)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._links: list[socket.socket] = []
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Ends all connections."""
        for link in (self._server, *self._links):
            # A thread may wait in it.
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._links += [near, far]
                for source, sink in ((near, far), (far, near)):
                    self._forward(source, sink)

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        pieces: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def take() -> None:
            data = b"begun"
            while data:
                try:
                    data = source.recv(65536)
                except OSError:
                    data = b""
                pieces.put((time.monotonic() + self._random.uniform(0, self._most), data))

        def give() -> None:
            with contextlib.suppress(OSError):
                while (piece := pieces.get())[1]:
                    time.sleep(max(piece[0] - time.monotonic(), 0))
                    sink.sendall(piece[1])
                sink.shutdown(socket.SHUT_WR)

        for work in (take, give):
            threading.Thread(target=work, daemon=True).start()
