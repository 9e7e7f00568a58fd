"""Where the networks of a swarm are: in stacks of like ones, a row for each."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from swarmjax.members import Member


class Swarm(NamedTuple):
    """All members, on the host except for the cohorts.

    Attributes:
        cohorts: container -> stack of its members.
        containers: all containers met so far.
        kind: `[N]` index into them of each slot, -1 before the first plan.
        row: `[N]` row of each slot in its cohort.
        birth: `[N]` as in `Frame`.
        lineage: `[N]` as in `Frame`.
        step: `[N]` as `total_steps` in `Frame`.
        births: networks born so far.
    """

    cohorts: dict[Any, Member]
    containers: tuple[Any, ...]
    kind: np.ndarray
    row: np.ndarray
    birth: np.ndarray
    lineage: np.ndarray
    step: np.ndarray
    births: int

    def place(self, slot: int) -> tuple[Any, int]:
        """Container and row of a slot."""
        return self.containers[self.kind[slot]], int(self.row[slot])


class Store(NamedTuple):
    """How cohorts are kept.

    Attributes:
        mesh: the devices, every one a group of its own.
        lane: members that a device moves at a time.
        host: whether the host's memory keeps them.
    """

    mesh: Mesh
    lane: int
    host: bool = False


def empty_swarm(members: int) -> Swarm:
    """A swarm of `members` slots in which no network lives yet."""
    none = np.full(members, -1, np.int32)
    return Swarm({}, (), none, none, none, none, np.zeros(members, np.int32), 0)
