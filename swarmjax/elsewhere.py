"""What a run keeps of the members that nodes train, so that it can be taken up again.

Their networks are with the nodes, which go on with what they hold. What they showed in rounds that
are done is kept as it was: these rounds are not asked of them a second time.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from typing import Protocol

import numpy as np

from swarmjax.errors import InputError, one_line
from swarmjax.naming import named, rebuilt
from swarmjax.types import Frame, Plan, Trainer


def packed(frame: Frame) -> bytes:
    """The Frame of these members as bytes: one array per leaf, by its path."""
    buffer = io.BytesIO()
    np.savez(buffer, **named(frame))  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def unpacked(blob: bytes, like: Frame) -> Frame:
    """The Frame that `packed` was given.

    Args:
        blob: from there.
        like: a Frame of the same members.

    Raises:
        InputError: it is no Frame of such members.
    """
    try:
        with np.load(io.BytesIO(blob), allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"what nodes showed cannot be read: {one_line(error)}") from None
    for name, leaf in named(like).items():
        found = arrays.get(name)
        if found is not None and (found.shape, found.dtype) != (leaf.shape, leaf.dtype):
            raise InputError(f"what nodes showed has {name} of {found.dtype}{found.shape}")
    return rebuilt(like, arrays)


class Nodes(Trainer, Protocol):
    """Trains members elsewhere, and tells their windows."""

    def windows(self, frame: Frame, *, again: bool = False) -> Mapping[str, np.ndarray]:
        """Columns of the windows of the round that `frame` shows."""
        ...


class Known:
    """The trainer of nodes in a run that is taken up: rounds that are done are not trained again.

    Args:
        nodes: trains all other rounds.
        known: round -> the Frame of these members after it.
    """

    def __init__(self, nodes: Nodes, known: Mapping[int, Frame]):
        self._nodes, self._known = nodes, known

    def round(self, plan: Plan, frame: Frame) -> Frame:
        """Follows `plan` from the state that `frame` showed, and shows the state afterwards."""
        found = self._known.get(int(frame.round) + 1)
        return self._nodes.round(plan, frame) if found is None else found

    def windows(self, frame: Frame) -> Mapping[str, np.ndarray]:
        """Columns of the windows of the round that `frame` shows."""
        return self._nodes.windows(frame, again=int(frame.round) in self._known)
