"""The rounds of a run that were read so far, as arrays that grow with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from swarmjax.space import Choice, Space
from swarmjax.types import Genome

Columns = Mapping[str, np.ndarray]
Part = TypeVar("Part")


class Growing:
    """Rows made from the rounds of one run, each made once however many rounds follow it.

    Pages and the feed ask for them from several threads.
    """

    def __init__(self):
        self._lock = threading.RLock()
        self._held: dict[Hashable, tuple[np.ndarray, int]] = {}
        self._places: dict[Hashable, tuple[np.ndarray, int]] = {}

    def rows(
        self, key: Hashable, parts: Sequence[Part], make: Callable[[Part], np.ndarray]
    ) -> np.ndarray:
        """`make` of each of the `parts`, stacked; `key` stands for what they are and `make` does.

        Parts are the rounds, or follow from them: what has been made of one stays true.
        """
        with self._lock:
            held, filled = self._held.get(key, (None, 0))
            for number in range(filled, len(parts)):
                row = np.asarray(make(parts[number]))
                held = _with_room(held, number, row, len(parts))
                held[number] = row
            assert held is not None
            self._held[key] = held, max(filled, len(parts))
            return held[: len(parts)]

    def places(
        self, key: Hashable, rounds: int, find: Callable[[int], Iterable[int]]
    ) -> np.ndarray:
        """The members that `find` gives for each of so many rounds: `[K, 2]` round and member.

        Rounds stand as their positions; `key` stands for what `find` does.
        """
        with self._lock:
            held, filled = self._places.get(key, (np.empty((0, 2), np.int64), 0))
            found = [(np.asarray(find(r), np.int64), r) for r in range(filled, rounds)]
            fresh = [np.stack([np.full(len(each), r), each], axis=1) for each, r in found]
            held = np.concatenate([held, *fresh])
            self._places[key] = held, max(filled, rounds)
            return held[: np.searchsorted(held[:, 0], rounds)]


def _with_room(held: np.ndarray | None, filled: int, row: np.ndarray, wanted: int) -> np.ndarray:
    """The first rows and room for one more; what was handed out before stays as it is."""
    if held is None:
        return np.empty((wanted, *row.shape), row.dtype)
    kind = np.result_type(held, row)
    if filled < len(held) and kind == held.dtype:
        return held
    grown = np.empty((max(wanted, 2 * len(held)), *held.shape[1:]), kind)
    grown[:filled] = held[:filled]
    return grown


class Migration(NamedTuple):
    """Elites migrate between so many `demes` in `every` so many rounds."""

    demes: int
    every: int


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
        migration: how the run's policy lets elites migrate; None: it does not.
    """

    def __init__(
        self,
        space: Space,
        frames: tuple[Columns, ...],
        descriptor: np.ndarray | None = None,
        growing: Growing | None = None,
        migration: Migration | None = None,
    ):
        self.space = space
        self.frames = frames
        self.descriptor = descriptor
        self.rounds = np.array([frame["round"][0] for frame in frames])
        self.members = len(frames[-1]["member"])
        self.growing = Growing() if growing is None else growing
        self.migration = migration

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

    def places(self, key: Hashable, find: Callable[[int], Iterable[int]]) -> np.ndarray:
        """Rounds (as positions) and members `[K, 2]` that `find` gives round by round, each once.

        `key` stands for what `find` does.
        """
        return self.growing.places(key, len(self.frames), find)

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
    codes, found = pd.factorize(values, use_na_sentinel=False)
    return np.array([index.get(str(value), 0) for value in found.tolist()], np.int64)[codes]
