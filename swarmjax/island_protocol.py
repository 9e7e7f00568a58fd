"""What a convoy of islands knows of a round, and what it asks of whoever runs the islands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from swarmjax.descent import Descent
from swarmjax.following import Homes
from swarmjax.types import Frame, Genome, Plan


class IslandError(RuntimeError):
    """Islands fail, and cannot be mended."""


class Lost(NamedTuple):
    """What became of a call without an answer.

    Attributes:
        gone: the island itself is dead; otherwise something that it needed is.
        why: in words.
        nowhere: there is no host that could run it.
        again: it could not be reached; the same call may be made once more.
    """

    gone: bool
    why: str
    nowhere: bool = False
    again: bool = False


class Crew(Protocol):
    """Whoever runs the islands, by number, and carries what they send each other."""

    def hire(self, island: int) -> None:
        """Begins an island anew, whatever was there before."""
        ...

    def dismiss(self, island: int) -> None:
        """Ends an island, if it is there."""
        ...

    def call(self, island: int, method: str, *arguments: Any) -> Any:
        """A reference to what an island will answer; calls to one island keep their order.

        References among the arguments stand for what they refer to.
        """
        ...

    def send(self, island: int, round: int, parts: Sequence[np.ndarray]) -> list[Any]:
        """References to the networks in each of several lists of slots, as after a round."""
        ...

    def wait(self, pending: Mapping[Any, int]) -> tuple[Any, Any]:
        """One of the references to answers of islands, and the answer, or what was `Lost`."""
        ...

    def answered(self, reference: Any, island: int) -> Any:
        """As `wait`, of one answer, but None where there is none yet."""
        ...

    def newcomers(self) -> int:
        """How many islands more find a place on hosts that have joined since last asked."""
        ...

    def close(self) -> None:
        """Ends all islands."""
        ...


class Entry(NamedTuple):
    """A round that may have to be trained once more.

    Attributes:
        plan: that it follows.
        frame: before it, of which round, genes and birth numbers count.
        line: who descends from whom.
        born: `[N]` birth numbers after it.
        held: `[N]` who holds each network before it.
        owner: `[N]` who trains each member in it.
        sent: (from, to) -> reference to the networks that went.
        homes: in which all train.
    """

    plan: Plan
    frame: Frame
    line: Descent
    born: np.ndarray
    held: np.ndarray
    owner: np.ndarray
    sent: dict[tuple[int, int], Any]
    homes: Homes


class State(NamedTuple):
    """Where a swarm is between two rounds.

    Attributes:
        round: finished rounds.
        genome: `[N]` genes.
        birth: `[N]` birth numbers.
    """

    round: int
    genome: Genome
    birth: np.ndarray
