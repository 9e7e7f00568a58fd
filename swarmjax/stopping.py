"""Ctrl-C and SIGTERM while a swarm trains: once is a wish, twice an order."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator

# As a shell names the end by a signal.
_CODES = {"SIGINT": 130, "SIGTERM": 143}


class StoppedError(KeyboardInterrupt):
    """The run ended between two rounds because somebody asked for it; it can be resumed."""

    def __init__(self, text: str, code: int):
        """Says where it ended; `code` is the process's exit code."""
        super().__init__(text)
        self.code = code


class Wish:
    """Whether the process was asked to end, and by which signal."""

    def __init__(self):
        self.signal = ""

    def __bool__(self) -> bool:
        return bool(self.signal)

    @property
    def code(self) -> int:
        """The exit code of a process that ends by it."""
        return _CODES[self.signal]


@contextlib.contextmanager
def polite(tell: Callable[[str], None]) -> Iterator[Wish]:
    """Hears signals: at the first the wish is set, at the second the run is interrupted.

    A third ends the process as if nobody heard it. In a thread of a larger program nothing is
    heard: the signals are that program's.

    Args:
        tell: told at once what will be done.
    """
    wish = Wish()

    def heard(number: int, frame: object) -> None:
        del frame
        if wish:
            for each in _CODES:
                signal.signal(signal.Signals[each], signal.SIG_DFL)
            tell("stopping now; the run can be resumed all the same")
            raise KeyboardInterrupt
        wish.signal = signal.Signals(number).name
        tell("finishing the round and saving it; once more stops at once")

    if threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = {name: signal.signal(signal.Signals[name], heard) for name in _CODES}
    try:
        yield wish
    finally:
        for name, handler in before.items():
            # None: it was not set by Python.
            signal.signal(signal.Signals[name], signal.SIG_DFL if handler is None else handler)
