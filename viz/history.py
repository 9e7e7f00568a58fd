"""The rounds of a run that were read so far, as arrays that grow with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from swarmjax.space import Choice, Space
from swarmjax.types import Genome

Columns = dict[str, np.ndarray]


class Growing:
    """Rows made from the rounds of one run, each made once however many rounds follow it.

    Pages and the feed ask for them from several threads.
    """

    def __init__(self):
        self._lock = threading.RLock()
        self._held: dict[Hashable, tuple[np.ndarray, int]] = {}

    def rows(
        self, key: Hashable, frames: Sequence[Columns], make: Callable[[Columns], np.ndarray]
    ) -> np.ndarray:
        """`make` of each of the `frames`, stacked; `key` stands for what `make` does."""
        with self._lock:
            held, filled = self._held.get(key, (None, 0))
            if filled < len(frames):
                fresh = np.stack([np.asarray(make(frame)) for frame in frames[filled:]])
                held = _append(held, filled, fresh)
                self._held[key] = held, len(frames)
            assert held is not None
            return held[: len(frames)]


def _append(held: np.ndarray | None, filled: int, fresh: np.ndarray) -> np.ndarray:
    """The rows with `fresh` behind the first `filled`; what was handed out before stays."""
    if held is None:
        return fresh
    needed, kind = filled + len(fresh), np.result_type(held, fresh)
    if needed > len(held) or kind != held.dtype:
        grown = np.empty((max(needed, 2 * len(held)), *held.shape[1:]), kind)
        grown[:filled] = held[:filled]
        held = grown
    held[filled:needed] = fresh
    return held


class History:
    """The rounds read so far; never changed once made.

    Attributes:
        space: the genes of the run.
        rounds: `[R]` numbers of the rounds, ascending.
        members: number of slots N.
        descriptor: `[N, P, C]` what the latest networks made of the probes, NaN where that is not
            known; None where nothing is.
        growing: what was made of its rounds, for a later history of the same run that begins with
            the same ones.
    """

    def __init__(
        self,
        space: Space,
        frames: tuple[Columns, ...],
        descriptor: np.ndarray | None = None,
        growing: Growing | None = None,
    ):
        self.space = space
        self.frames = frames
        self.descriptor = descriptor
        self.rounds = np.array([frame["round"][0] for frame in frames])
        self.members = len(frames[-1]["member"])
        self.growing = Growing() if growing is None else growing

    @property
    def names(self) -> list[str]:
        """Columns of the frame tables."""
        return list(self.frames[-1])

    def column(self, name: str) -> np.ndarray:
        """One column over time, `[R, N]`; not to be written to."""
        return self.each(("column", name), lambda frame: frame[name])

    def each(self, key: Hashable, make: Callable[[Columns], np.ndarray]) -> np.ndarray:
        """What `make` gives for every round, stacked; `key` stands for what `make` does."""
        return self.growing.rows(key, self.frames, make)

    def last(self, name: str) -> np.ndarray:
        """One column of the latest round, `[N]`."""
        return self.frames[-1][name]

    def genome(self) -> Genome:
        """The latest genomes in the genes' own units, options as their indices."""
        return {name: _raw(gene, self.last(name)) for name, gene in self.space.genes}


def _raw(gene: object, values: np.ndarray) -> np.ndarray:
    if not isinstance(gene, Choice):
        return values
    # Options of mixed types are stored as text.
    index = {str(option): i for i, option in enumerate(gene.options)}
    return np.array([index.get(str(value), 0) for value in values.tolist()])
