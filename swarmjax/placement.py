"""Where members train: chunks of like members, dealt to the devices by longest processing time.

A *lane* is one call of a compiled program, `groups x chunks x chunk` members. A group is one device
or, for members that share their batch among several, as many. Pure functions on the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

# Members are left on the devices where they are kept if that costs no more than this.
_AT_HOME = 1.05


class Layout(NamedTuple):
    """How the lanes of a program are laid out.

    Attributes:
        mesh: the devices; axis `member` counts groups, axis `batch` the devices of a group.
        chunk: members vmapped together; from 8 on, results do not depend on how many there are.
        chunks: chunks that a group walks through in one call.
    """

    mesh: Mesh
    chunk: int
    chunks: int

    @property
    def groups(self) -> int:
        """Groups of devices, each of which trains members of its own."""
        return self.mesh.shape["member"]

    @property
    def share(self) -> int:
        """Devices of a group, among which a batch is split."""
        return self.mesh.shape["batch"]


def make_mesh(share: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """All local devices in groups of `share`."""
    devices = devices or jax.local_devices()
    shape = (len(devices) // share, share)
    return jax.make_mesh(shape, ("member", "batch"), (AxisType.Auto,) * 2, devices=devices)


def make_layout(members: int, mesh: Mesh, chunk: int = 8, most: int = 16) -> Layout:
    """A layout for about `members` members of one container; `chunks` is a power of two."""
    needed = -(-members // (mesh.shape["member"] * chunk))
    return Layout(mesh, chunk, min(most, 1 << max(0, needed - 1).bit_length()))


def shares(devices: np.ndarray, count: int) -> np.ndarray:
    """How many devices `[N]` really share a member's batch.

    Args:
        devices: `[N]` how many the Plan asks for.
        count: how many there are; a share is the largest divisor of it that is not above the wish.
    """
    divisors = np.asarray([k for k in range(1, count + 1) if count % k == 0])
    return divisors[np.searchsorted(divisors, np.maximum(devices, 1), side="right") - 1]


def make_lanes(
    slots: np.ndarray, steps: np.ndarray, flops: np.ndarray, home: np.ndarray, layout: Layout
) -> list[np.ndarray]:
    """Lanes `[groups, chunks * chunk]` of slots, -1 where there is none.

    Args:
        slots: `[n]` members of one container.
        steps: `[n]` steps granted to each.
        flops: `[n]` operations of one step of each.
        home: `[n]` group in which each is kept.
        layout: of the container.
    """
    chunks, group = place_chunks(steps, flops, home, layout)
    mine = [[slots[chunk] for chunk, g in zip(chunks, group, strict=True) if g == own]
            for own in range(layout.groups)]  # fmt: skip
    lanes = []
    for start in range(0, max(map(len, mine)), layout.chunks):
        lane = np.full((layout.groups, layout.chunks, layout.chunk), -1, np.int64)
        for own, queue in enumerate(mine):
            for place, chunk in enumerate(queue[start : start + layout.chunks]):
                lane[own, place, : len(chunk)] = chunk
        lanes.append(lane.reshape(layout.groups, -1))
    return lanes


def place_chunks(
    steps: np.ndarray, flops: np.ndarray, home: np.ndarray, layout: Layout
) -> tuple[list[np.ndarray], np.ndarray]:
    """Chunks as indices `[<= chunk]` of like members, and the group that trains each.

    Arguments are those of `make_lanes`. Members stay at home unless moving them makes the busiest
    group's work clearly shorter; then the longest chunk goes to the least busy group, and so on
    (longest processing time, Graham 1969).
    """
    everyone = _chunks(np.arange(len(steps)), steps, flops, layout.chunk)
    work = np.asarray([chunk_cost(steps[c], flops[c]) for c in everyone])
    group = _longest_first(work, layout.groups)
    at_home, owner = [], []
    for own in range(layout.groups):
        part = _chunks(np.flatnonzero(home == own), steps, flops, layout.chunk)
        at_home += part
        owner += [own] * len(part)
    there = np.asarray([chunk_cost(steps[c], flops[c]) for c in at_home])
    if busiest(there, np.asarray(owner), layout) <= _AT_HOME * busiest(work, group, layout):
        return at_home, np.asarray(owner)
    return everyone, group


def chunk_cost(steps: np.ndarray, flops: np.ndarray) -> float:
    """Operations of a chunk, for each of its places: the longest grant at the deepest member's.

    Its evaluation counts as one more step.
    """
    return float((steps.max() + 1) * flops.max())


def busiest(work: np.ndarray, group: np.ndarray, layout: Layout) -> float:
    """Work of the group that has most of it."""
    return float(np.bincount(group, work, layout.groups).max())


def balance(steps: np.ndarray, flops: np.ndarray, home: np.ndarray, layout: Layout) -> float:
    """Mean over maximum of the groups' work, as `make_lanes` places it; 1 is ideal."""
    chunks, group = place_chunks(steps, flops, home, layout)
    work = np.asarray([chunk_cost(steps[c], flops[c]) for c in chunks])
    return float(work.sum() / layout.groups / busiest(work, group, layout))


def _chunks(members, steps, flops, size) -> list[np.ndarray]:
    """Members of like grants, and within like grants of like depth, side by side."""
    # Grants within a fifth of each other count as alike.
    grant = np.ceil(4 * np.log2(np.maximum(steps, 1)))
    order = members[np.lexsort((members, -flops[members], -grant[members]))]
    return [order[start : start + size] for start in range(0, len(order), size)]


def _longest_first(work: np.ndarray, groups: int) -> np.ndarray:
    group, load = np.zeros(len(work), np.int64), np.zeros(groups)
    for chunk in np.argsort(-work, kind="stable"):
        group[chunk] = load.argmin()
        load[group[chunk]] += work[chunk]
    return group
