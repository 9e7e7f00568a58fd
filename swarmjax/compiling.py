"""Compilation made cheap where speed does not matter, and counted wherever it happens."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import monitoring

_LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_READY = "/jax/core/compile/backend_compile_duration"
_LOADED = "/jax/compilation_cache/cache_hits"


def quick_options() -> dict[str, Any]:
    """Compiler options for small programs that run seldom: they compile in about a third."""
    options: dict[str, Any] = {"xla_backend_optimization_level": 0}
    # XLA refuses options that it does not know, and its own are not kept from version to version.
    if jax.__version_info__[:2] == (0, 10):
        options["xla_cpu_use_fusion_emitters"] = False
    return options


QUICK = quick_options()


class Programs(NamedTuple):
    """Compiled programs so far.

    Attributes:
        begun: programs that were asked for.
        ready: of these, the ones that can run.
        loaded: of these, the ones that the cache on disk had.
        seconds: spent on them, added up over threads; tracing is not counted.
    """

    begun: int = 0
    ready: int = 0
    loaded: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        """As in `9 programs: 7 compiled, 2 loaded from the cache, in 6.1 s`."""
        compiled = self.ready - self.loaded
        plural = "" if self.ready == 1 else "s"
        return (
            f"{self.ready} program{plural}: {compiled} compiled, {self.loaded} loaded from the "
            f"cache, in {self.seconds:.1f} s"
        )


class Watch:
    """Counts what JAX compiles in this process, in any thread, while it is entered."""

    def __init__(self, tell: Callable[[Programs], None] = lambda programs: None):
        """`tell` hears of every change, in the thread that compiles."""
        self.programs, self._tell, self._lock = Programs(), tell, threading.Lock()

    def __enter__(self) -> Watch:
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
            self._add(begun=1, seconds=duration_secs)
        elif event == _READY:
            self._add(ready=1, seconds=duration_secs)

    def _add(self, **more: Any) -> None:
        with self._lock:
            sums = {name: getattr(self.programs, name) + value for name, value in more.items()}
            self.programs = self.programs._replace(**sums)
            self._tell(self.programs)
