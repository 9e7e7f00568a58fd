"""Compilation made cheap where speed does not matter, and counted wherever it happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import monitoring

_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_READY = "/jax/core/compile/backend_compile_duration"
_LOADED = "/jax/compilation_cache/cache_hits"


def quick_options(level: int = 0) -> dict[str, Any]:
    """Compiler options for small programs that run seldom: they compile in about a third.

    Level 1 compiles hardly slower than 0, and its loops over arrays run several times as fast.
    """
    options: dict[str, Any] = {"xla_backend_optimization_level": level}
    # XLA refuses options that it does not know, and its own are not kept from version to version.
    if jax.__version_info__[:2] == (0, 10):
        options["xla_cpu_use_fusion_emitters"] = False
    return options


# For what is small or runs once in a network's life; for what moves all networks every round.
QUICK, BRISK = quick_options(0), quick_options(1)


class Programs(NamedTuple):
    """Compiled programs so far.

    Attributes:
        begun: programs that were asked for.
        ready: of these, the ones that can run.
        loaded: of these, the ones that the cache on disk had.
        seconds: by the clock on the wall, during which at least one of them was lowered, compiled
            or loaded; several at once count once. Tracing is not counted.
    """

    begun: int = 0
    ready: int = 0
    loaded: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """As in `compiling took 6.1 s in all: 9 programs large and small`."""
        programs = "1 program" if self.ready == 1 else f"{self.ready} programs large and small"
        cached = f", {self.loaded} from the disk cache" if self.loaded else ""
        return f"compiling took {self.seconds:.1f} s in all: {programs}{cached}"


# Stretches of time `(start, end)`, ascending, none of which touches the next.
Stretches = tuple[tuple[float, float], ...]


def joined(stretches: Stretches, start: float, end: float) -> Stretches:
    """The stretches with one more, from `start` to `end`, which ends after all of them."""
    apart = len(stretches)
    while apart and stretches[apart - 1][1] >= start:
        apart -= 1
        start = min(start, stretches[apart][0])
    return (*stretches[:apart], (start, end))


class Watch:
    """Counts what JAX compiles in this process, in any thread, while it is entered."""

    def __init__(self, tell: Callable[[Programs], None] = lambda programs: None):
        """`tell` hears of every change, in the thread that compiles."""
        self.programs, self._tell, self._lock = Programs(), tell, threading.Lock()
        self._busy: Stretches = ()

    def __enter__(self) -> Watch:
        self._entered = time.perf_counter()
        monitoring.register_event_listener(self._event)
        monitoring.register_event_duration_secs_listener(self._duration)
        return self

    def __exit__(self, *error: object) -> None:
        monitoring.unregister_event_listener(self._event)
        monitoring.unregister_event_duration_listener(self._duration)

    def _event(self, event: str, **_: Any) -> None:
        if event == _LOADED:
            self._add(loaded=1)

    def _duration(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == _LOWERED:
            self._add(duration_secs, begun=1)
        elif event == _READY:
            self._add(duration_secs, ready=1)

    def _add(self, seconds: float = 0.0, **more: int) -> None:
        """Counts what has just ended after so many seconds."""
        with self._lock:
            now = time.perf_counter()
            self._busy = joined(self._busy, max(self._entered, now - seconds), now)
            sums = {name: getattr(self.programs, name) + value for name, value in more.items()}
            busy = sum(end - start for start, end in self._busy)
            self.programs = self.programs._replace(seconds=busy, **sums)
            self._tell(self.programs)
