"""Lanes that fail: shorter ones where memory runs out, and programs that do not compile given up.

A chunk is never made smaller than eight members, from where on results depend on its size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from swarmjax.placement import Layout
from swarmjax.types import InputError

_LEAST = 8

# A lane in a layout, and what trains it.
Attempt = Callable[[Layout, np.ndarray], Any]


class ProgramError(RuntimeError):
    """A program that does not compile, or fails whatever it is given."""


def attempted(
    attempt: Attempt, layout: Layout, lane: np.ndarray
) -> Iterator[tuple[Layout, np.ndarray, Any]]:
    """What `attempt` makes of a lane `[G, L]`, or of shorter ones if memory does not suffice.

    Raises:
        InputError: it does not suffice for the shortest.
        ProgramError: it fails for another reason.
    """
    try:
        yield layout, lane, attempt(layout, lane)
        return
    except jax.errors.JaxRuntimeError as error:
        if not _of_memory(error):
            raise ProgramError(_first_line(error)) from error
        smaller = _smaller(layout)
        if smaller is None:
            raise InputError(
                "out of memory on the devices, even with the shortest lanes; lower members or the "
                f"sizes in the space ({_first_line(error)})"
            ) from error
    length = smaller.chunk * smaller.chunks
    for start in range(0, lane.shape[1], length):
        part = lane[:, start : start + length]
        part = np.pad(part, ((0, 0), (0, length - part.shape[1])), constant_values=-1)
        if (part >= 0).any():
            yield from attempted(attempt, smaller, part)


def _smaller(layout: Layout) -> Layout | None:
    if layout.chunks > 1:
        return layout._replace(chunks=layout.chunks // 2)
    half = layout.chunk // 2
    return layout._replace(chunk=half) if half >= _LEAST else None


def _of_memory(error: Exception) -> bool:
    return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
