"""Where members are kept: stacked on the devices, or in the host's memory.

A stack is a `Member` whose leaves are `[D, R, ...]`, `D` devices with room for `R` members each.
Blocks of rows go to the devices in turn, so that a row stays where it is when the stack grows. A
stack of NumPy arrays is on the host; its members visit the devices a lane at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from swarmjax.compiling import BRISK
from swarmjax.members import Member
from swarmjax.types import Array

# Consecutive rows kept on one device; members born together can then train together there.
BLOCK = 8

_DEVICES = ("member", "batch")


def device_of(row: Array | int, devices: int) -> Any:
    """The device that keeps a row."""
    return row // BLOCK % devices


def room(rows: int, devices: int) -> int:
    """Members that each device must have room for so that rows `0 .. rows - 1` exist."""
    return -(-rows // (BLOCK * devices)) * BLOCK


def home_lanes(rows: np.ndarray, devices: int, lane: int) -> Iterator[np.ndarray]:
    """Lanes `[devices, lane]` of indices into `rows`, each on the device that keeps it; -1: none.

    There are as few as `lane` members of each device at a time allow.
    """
    home = device_of(rows, devices)
    queues = [np.flatnonzero(home == device) for device in range(devices)]
    for start in range(0, max(map(len, queues)), lane):
        places = np.full((devices, lane), -1, np.int64)
        for device, queue in enumerate(queues):
            part = queue[start : start + lane]
            places[device, : len(part)] = part
        yield places


def take(stack: Member, mesh: Mesh, rows: np.ndarray, near: bool) -> Member:
    """Members `[G, L, ...]`, those of group `g` on its devices.

    Args:
        stack: where they are kept.
        mesh: the groups.
        rows: `[G, L]`; those below 0 stand for no member in particular.
        near: every member is kept in the group that takes it, so that nothing has to be sent.
    """
    if on_host(stack):
        device, place = _address(rows, mesh.size)
        sharding = NamedSharding(mesh, P("member"))
        return jax.tree.map(lambda leaf: jax.device_put(leaf[device, place], sharding), stack)
    return _taker(mesh, near)(stack, rows)


def put(stack: Member, mesh: Mesh, rows: np.ndarray, members: Member, near: bool) -> Member:
    """The stack, which is consumed, with `members` `[G, L, ...]` in `rows`; none below 0."""
    if not on_host(stack):
        kept = stack.step.sharding  # pyright: ignore[reportAttributeAccessIssue]
        stack = _putter(mesh, near)(stack, rows, members)
        # In the name of its own mesh, or every program would be compiled for the other one too.
        return stack if mesh.shape["batch"] == 1 else jax.device_put(stack, kept)
    real = rows >= 0
    device, place = _address(rows[real], mesh.size)
    for leaf, new in zip(jax.tree.leaves(stack), jax.tree.leaves(members), strict=True):
        leaf[device, place] = np.asarray(new)[real]
    return stack


def new_stack(like: Member, mesh: Mesh, rows: int, host: bool) -> Member:
    """Room for `rows` members of the kind of `like` `[G, L, ...]`."""
    sharding = NamedSharding(mesh, P(_DEVICES))

    def leaf(old):
        shape = (mesh.size, room(rows, mesh.size), *old.shape[2:])
        if host:
            return np.zeros(shape, old.dtype)
        part = lambda index: np.zeros((1, *shape[1:]), old.dtype)  # noqa: E731
        return jax.make_array_from_callback(shape, sharding, part)

    return jax.tree.map(leaf, like)


def stack_of(members: Member, rows: np.ndarray, mesh: Mesh, host: bool) -> Member:
    """A new stack with `members` `[n, ...]`, NumPy arrays, in `rows` `[n]`."""
    lane = jax.tree.map(lambda leaf: leaf[None], members)
    stack = new_stack(lane, mesh, int(rows.max()) + 1, True)
    address = _address(rows, mesh.size)
    for leaf, new in zip(jax.tree.leaves(stack), jax.tree.leaves(members), strict=True):
        leaf[address] = new
    return stack if host else jax.device_put(stack, NamedSharding(mesh, P(_DEVICES)))


def copied(stack: Member, rows: np.ndarray) -> Member:
    """Copies `[n, ...]` on the host of the members in `rows` `[n]`."""
    device, place = _address(rows, stack.step.shape[0])
    if on_host(stack):
        return jax.tree.map(lambda leaf: leaf[device, place], stack)

    def found(leaf):
        made = np.empty((len(rows), *leaf.shape[2:]), leaf.dtype)
        # Device by device: what a CPU device keeps is seen where it is, without a copy of all.
        for shard in leaf.addressable_shards:
            mine = device == (shard.index[0].start or 0)
            if mine.any():
                made[mine] = np.asarray(shard.data)[0, place[mine]]
        return made

    return jax.tree.map(found, stack)


def grow(stack: Member, rows: int) -> Member:
    """The stack with room for `rows` members, and an eighth more, so that it seldom grows."""
    devices, old = stack.step.shape
    more = room(rows + rows // 8, devices) - old
    pad = lambda leaf: [(0, 0), (0, more)] + [(0, 0)] * (leaf.ndim - 2)  # noqa: E731
    if on_host(stack):
        return jax.tree.map(lambda leaf: np.pad(leaf, pad(leaf)), stack)
    return jax.jit(partial(jax.tree.map, lambda leaf: jnp.pad(leaf, pad(leaf))))(stack)


def rows_of(stack: Member) -> int:
    """Members that fit."""
    return stack.step.shape[0] * stack.step.shape[1]


def on_host(stack: Member) -> bool:
    """Whether it is kept in the host's memory."""
    return isinstance(stack.step, np.ndarray)


def _address(row, devices):
    return device_of(row, devices), row // (BLOCK * devices) * BLOCK + row % BLOCK


# Shardings are said to `jit` too, since a stack may come from a mesh of other groups.
@cache
def _taker(mesh, near):
    senders = "batch" if near else _DEVICES

    def shard(stack, rows):
        mine, place = _mine(mesh, rows)
        found = jax.tree.map(lambda leaf: _pick(leaf[0], mine, place), stack)
        sent = jax.tree.map(lambda leaf: _exact_sum(leaf, mesh, senders), found)
        own = 0 if near else jax.lax.axis_index("member")
        return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, own, 1), sent)

    given, made = (P(_DEVICES), P("member") if near else P()), P("member")
    take = jax.shard_map(shard, mesh=mesh, in_specs=given, out_specs=made, check_vma=False)
    return jax.jit(
        take, in_shardings=_on(mesh, given), out_shardings=_on(mesh, made), compiler_options=BRISK
    )


@cache
def _putter(mesh, near):
    def shard(stack, rows, members):
        if not near:
            members = jax.tree.map(lambda leaf: jax.lax.all_gather(leaf[0], "member"), members)
        mine, place = _mine(mesh, rows)
        place = jnp.where(mine, place, stack.step.shape[1])
        write = lambda leaf, new: leaf.at[0, place].set(new, mode="drop")  # noqa: E731
        return jax.tree.map(write, stack, members)

    given, made = (P(_DEVICES), P("member") if near else P(), P("member")), P(_DEVICES)
    put = jax.shard_map(shard, mesh=mesh, in_specs=given, out_specs=made, check_vma=False)
    return jax.jit(
        put, donate_argnums=0, in_shardings=_on(mesh, given), out_shardings=_on(mesh, made),
        compiler_options=BRISK,
    )  # fmt: skip


def _on(mesh, specs):
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)


def _mine(mesh, rows):
    """Which rows this device keeps, and where."""
    device, place = _address(rows, mesh.size)
    return (device == jax.lax.axis_index(_DEVICES)) & (rows >= 0), place


def _pick(leaf, mine, place):
    mine = mine.reshape(*mine.shape, *[1] * (leaf.ndim - 1))
    return jnp.where(mine, leaf.at[place].get(mode="clip"), jnp.zeros((), leaf.dtype))


def _exact_sum(leaf, mesh, axes):
    """Sum over devices of which only one holds other than zeros, exact to the sign of a zero."""
    if all(mesh.shape[axis] == 1 for axis in ((axes,) if isinstance(axes, str) else axes)):
        return leaf
    if leaf.dtype == jnp.bool_:
        return jax.lax.psum(leaf.astype(jnp.uint8), axes).astype(jnp.bool_)
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return jax.lax.psum(leaf, axes)
    bits = jnp.dtype(f"uint{8 * leaf.dtype.itemsize}")
    summed = jax.lax.psum(jax.lax.bitcast_convert_type(leaf, bits), axes)
    return jax.lax.bitcast_convert_type(summed, leaf.dtype)
