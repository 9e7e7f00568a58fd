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
_AT_HOME = 1.02

# Bytes of weights, gradients and optimizer state that a core keeps at hand.
_CACHE = 2**21

# An accelerator wants many members at once; more or fewer are worth trying.
_ON_ACCELERATORS, _ACCELERATED = 64, (8, 64, 512)

# Chunks of a lane at most if they are of eight members or more; of shorter ones, as many members.
_CHUNKS, _LONG = 16, 8

# Placement is good enough where the busiest device has so much more work than the mean.
_EVEN = 1.01


class Layout(NamedTuple):
    """How the lanes of a program are laid out.

    Attributes:
        mesh: the devices; axis `member` counts groups, axis `batch` the devices of a group.
        chunk: members vmapped together.
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


def lane_seconds(layout: Layout, steps: np.ndarray, seconds: np.ndarray) -> float:
    """Seconds of a lane: a chunk trains as long as its longest grant, as slowly as its slowest.

    Its evaluation counts as one more step.

    Args:
        layout: of the lane.
        steps: `[G, L]` granted in each place.
        seconds: `[G, L]` of a step of a chunk of such members; 0 where there is nobody.
    """
    shape = layout.groups, layout.chunks, layout.chunk
    longest, slowest = (values.reshape(shape).max(axis=2) for values in (steps, seconds))
    return float(((longest + 1) * slowest).sum(axis=1).max())


def make_mesh(share: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """All local devices in groups of `share`."""
    devices = devices or jax.local_devices()
    shape = (len(devices) // share, share)
    return jax.make_mesh(shape, ("member", "batch"), (AxisType.Auto,) * 2, devices=devices)


def usual_chunk(state: int, platform: str, even: bool, deep: bool) -> int:
    """Members to vmap together where nothing was tried.

    On CPUs as many as a core's cache holds, at most eight, where all train equally long: as
    measured, they then train by a fifth to two fifths faster than one by one. Where they do not, a
    chunk waits for the one that trains longest, which costs more than that; and where some have
    more layers than others, it also computes as many for all.

    Args:
        state: bytes of what one of them trains.
        platform: of the devices.
        even: all who are granted steps get as many.
        deep: some members have more layers than others.
    """
    if platform != "cpu":
        return _ON_ACCELERATORS
    chunks = (8, 4, 2) if even else () if deep else (2,)
    return next((chunk for chunk in chunks if chunk * state <= _CACHE), 1)


def chunks(platform: str, even: bool, deep: bool) -> tuple[int, ...]:
    """Chunks worth trying, for the same arguments as in `usual_chunk`; 1: members one by one.

    Among those from 8 on the result is the same to the last bit.
    """
    if platform != "cpu":
        return _ACCELERATED
    return (1, 8, 32) if even else (1,) if deep else (1, 2)


def make_layout(members: int, mesh: Mesh, chunk: int = 8) -> Layout:
    """A layout for about `members` members of one container; `chunks` is a power of two."""
    needed = -(-members // (mesh.shape["member"] * chunk))
    most = _CHUNKS * max(1, _LONG // chunk)
    return Layout(mesh, chunk, min(most, 1 << max(0, needed - 1).bit_length()))


def shares(devices: np.ndarray, count: int) -> np.ndarray:
    """How many devices `[N]` really share a member's batch.

    Args:
        devices: `[N]` how many the Plan asks for.
        count: how many there are; a share is the largest divisor of it that is not above the wish.
    """
    divisors = np.asarray([k for k in range(1, count + 1) if count % k == 0])
    return divisors[np.searchsorted(divisors, np.maximum(devices, 1), side="right") - 1]


class Job(NamedTuple):
    """Members of one container to train in one round.

    Attributes:
        layout: of their lanes.
        slots: `[n]` members.
        steps: `[n]` steps granted to each.
        flops: `[n]` operations of one step of each.
        device: `[n]` device that keeps each.
    """

    layout: Layout
    slots: np.ndarray
    steps: np.ndarray
    flops: np.ndarray
    device: np.ndarray


def schedule(jobs: Sequence[Job], devices: int) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """For every job its lanes `[groups, chunks * chunk]` of slots, and the devices' work `[D]`.

    Places without a member hold -1. Jobs whose members share their batches among more devices are
    placed first, all jobs of as many together.
    """
    load, lanes = np.zeros(devices), [[] for _ in jobs]
    for share in sorted({job.layout.share for job in jobs}, reverse=True):
        numbers = [i for i, job in enumerate(jobs) if job.layout.share == share]
        placed, load = _place([jobs[i] for i in numbers], load)
        for i, (chunks, group) in zip(numbers, placed, strict=True):
            lanes[i] = _lanes(jobs[i], chunks, group)
    return lanes, load


def balance(load: np.ndarray) -> float:
    """Mean over maximum of the devices' work `[D]`; 1 is ideal."""
    return float(load.mean() / load.max())


def _place(jobs: Sequence[Job], load: np.ndarray):
    """For every job its chunks and the group that trains each, and the devices' work `[D]`.

    Members stay at home unless moving them makes the busiest device's work clearly shorter; then
    the longest chunk goes to the least busy group, and so on (longest processing time, Graham
    1969), and chunks of the busiest group are exchanged while that helps.
    """
    layout = jobs[0].layout
    load = load.reshape(layout.groups, layout.share).max(axis=1)
    at_home = [_at_home(job) for job in jobs]
    there = load + sum(
        np.bincount(group, _work(job, chunks), layout.groups)
        for job, (chunks, group) in zip(jobs, at_home, strict=True)
    )
    everyone = [_chunks(job, np.arange(len(job.slots))) for job in jobs]
    work = np.concatenate([_work(*both) for both in zip(jobs, everyone, strict=True)])
    group, end = _exchange(work, *_longest_first(work, load))
    if there.max() <= _AT_HOME * end.max():
        return at_home, np.repeat(there, layout.share)
    groups = np.split(group, np.cumsum([len(chunks) for chunks in everyone])[:-1])
    return list(zip(everyone, groups, strict=True)), np.repeat(end, layout.share)


def _at_home(job: Job) -> tuple[list[np.ndarray], np.ndarray]:
    """Chunks of members that are kept in the same group, and that group."""
    home, groups = job.device // job.layout.share, job.layout.groups
    parts = [_chunks(job, np.flatnonzero(home == own)) for own in range(groups)]
    chunks = [chunk for part in parts for chunk in part]
    return chunks, np.repeat(np.arange(groups), [len(part) for part in parts])


def _work(job: Job, chunks: list[np.ndarray]) -> np.ndarray:
    return np.asarray([chunk_cost(job, chunk) for chunk in chunks])


def chunk_cost(job: Job, chunk: np.ndarray) -> float:
    """Operations of a chunk: its longest grant at its deepest member's step, in every place.

    Its evaluation counts as one more step.
    """
    longest, deepest = job.steps[chunk].max() + 1, job.flops[chunk].max()
    return float(longest * deepest * job.layout.chunk / job.layout.share)


def _chunks(job: Job, members: np.ndarray) -> list[np.ndarray]:
    """Members of like grants, and within like grants of like depth, side by side."""
    # Grants within a fifth of each other count as alike.
    grant = np.ceil(4 * np.log2(np.maximum(job.steps, 1)))
    order = members[np.lexsort((members, -job.flops[members], -grant[members]))]
    return [
        order[start : start + job.layout.chunk] for start in range(0, len(order), job.layout.chunk)
    ]


def _longest_first(work: np.ndarray, load: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The group of each chunk, and the load of every group afterwards."""
    group, load = np.zeros(len(work), np.int64), load.copy()
    for chunk in np.argsort(-work, kind="stable"):
        group[chunk] = load.argmin()
        load[group[chunk]] += work[chunk]
    return group, load


def _exchange(work: np.ndarray, group: np.ndarray, load: np.ndarray):
    """Moves a chunk of the busiest group, or swaps it for another, while that evens the work."""
    group, load = group.copy(), load.copy()
    while load.max() > _EVEN * load.mean():
        busiest = load.argmax()
        mine, others = np.flatnonzero(group == busiest), np.flatnonzero(group != busiest)
        # Swapping for nothing is a move; the partner in a move is the least busy group.
        theirs = np.append(work[others], 0.0)
        partner = np.append(group[others], load.argmin())
        shift = work[mine][:, None] - theirs[None]
        after = np.maximum(load[busiest] - shift, load[partner][None] + shift)
        a, b = np.unravel_index(after.argmin(), after.shape) if len(mine) else (0, 0)
        if not len(mine) or after[a, b] >= load[busiest] * (1 - 1e-9):
            break
        group[mine[a]] = partner[b]
        if b < len(others):
            group[others[b]] = busiest
        load[busiest] -= shift[a, b]
        load[partner[b]] += shift[a, b]
    return group, load


def _lanes(job: Job, chunks: list[np.ndarray], group: np.ndarray) -> list[np.ndarray]:
    layout = job.layout
    queues = [
        [job.slots[chunk] for chunk, g in zip(chunks, group, strict=True) if g == own]
        for own in range(layout.groups)
    ]
    lanes = []
    for start in range(0, max(map(len, queues)), layout.chunks):
        lane = np.full((layout.groups, layout.chunks, layout.chunk), -1, np.int64)
        for own, queue in enumerate(queues):
            for place, chunk in enumerate(queue[start : start + layout.chunks]):
                lane[own, place, : len(chunk)] = chunk
        lanes.append(lane.reshape(layout.groups, -1))
    return lanes
