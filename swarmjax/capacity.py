"""How much memory a swarm needs, reckoned before anything is compiled, and what would fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import Literal, jaxprs_in_params
from jax.sharding import Mesh

from swarmjax import lanes, placement, resources, stacks, training
from swarmjax.members import Recipe, shapes
from swarmjax.tasks import Data, Task
from swarmjax.types import InputError

# Of what is free: the rest is for the compiler, for the host's records and for everyone else.
_SHARE = 0.8


class Need(NamedTuple):
    """Bytes on all devices together.

    Attributes:
        state: weights and optimizer state of all members.
        data: training and validation examples, on every device.
        lane: what a lane in training needs besides: its members once more, and activations.
    """

    state: int
    data: int
    lane: int


class Room(NamedTuple):
    """Bytes that may be used.

    Attributes:
        device: of all devices together.
        host: of the host.
        separate: the devices have memory of their own.
    """

    device: int
    host: int
    separate: bool


def reckon(
    recipe: Recipe, task: Task, counts: Mapping[Any, int], mesh: Mesh
) -> Callable[[int], Need]:
    """What a swarm needs, as a function of its members.

    Args:
        recipe: what all members share.
        task: its data.
        counts: container -> members, whose proportions are kept.
        mesh: the devices.
    """
    sizes = {kind: _bytes(shapes(recipe, kind)) for kind in counts}
    largest = max(sizes, key=sizes.__getitem__)
    active = _activations(recipe, task, largest)
    data, total = mesh.size * _bytes((task.train, task.valid)), sum(counts.values())

    def need(members: int) -> Need:
        scaled = {kind: -(-n * members // total) for kind, n in counts.items()}
        layout = placement.make_layout(max(scaled.values()), mesh)
        state = sum(stacks.room(n, mesh.size) * sizes[kind] for kind, n in scaled.items())
        # Of every step the loss and the gradient norm, as they are made and as they are given.
        steps = 2 * 8 * lanes.DECK
        lane = layout.chunk * (layout.chunks * (2 * sizes[largest] + steps) + active)
        return Need(mesh.size * state, data, mesh.size * lane)

    return need


def trained_bytes(recipe: Recipe, container: Any) -> int:
    """Bytes that a step of one member changes: its state, and once more its weights' gradient."""
    member = shapes(recipe, container)
    return _bytes(member) + _bytes(member.variables["params"])


def choose_storage(
    need: Callable[[int], Need], members: int, wish: str, devices: Sequence[Any]
) -> bool:
    """Whether members are kept in the host's memory.

    Args:
        need: from `reckon`.
        members: of the swarm.
        wish: `device`, `host`, or `auto` for the host only where devices are too small.
        devices: that train it.

    Raises:
        InputError: it does not fit; the message says how many members would.
    """
    room = _room(devices)
    both = (False, True) if room.separate else (False,)
    ways = {"device": (False,), "host": (True,), "auto": both}[wish]
    for host in ways:
        if _fits(need(members), room, host):
            return host
    most = max(_most(lambda n, host=host: _fits(need(n), room, host), members) for host in ways)
    given = "lower members, or the sizes in the space" if most else "lower the sizes in the space"
    other = ", or let storage be auto" if room.separate and wish == "device" else ""
    raise InputError(
        f"{members} members need {_compared(need(members), room, ways[-1])}; "
        f"{f'about {most} members' if most else 'not one'} would fit: {given}{other}"
    )


def _room(devices: Sequence[Any]) -> Room:
    separate = devices[0].platform != "cpu"
    host = int(_SHARE * resources.free_host_memory())
    free = sum(map(resources.free_memory, devices)) if separate else 0
    return Room(int(_SHARE * free) if separate else host, host, separate)


def _fits(need: Need, room: Room, host: bool) -> bool:
    if host and room.separate:
        return need.state <= room.host and need.data + need.lane <= room.device
    return sum(need) <= room.device


def _most(fits: Callable[[int], bool], members: int) -> int:
    """The most members below `members` that fit."""
    return bisect_left(range(1, members), True, key=lambda n: not fits(n))


def _compared(need: Need, room: Room, host: bool) -> str:
    """What is needed, but cannot be used, in words."""
    if host and room.separate:
        return (
            f"{_size(need.state)} on the host and {_size(need.data + need.lane)} on the devices, "
            f"but {_size(room.host)} and {_size(room.device)} can be used"
        )
    where = "on the devices" if room.separate else "of memory"
    return (
        f"{_size(sum(need))} {where} ({_size(need.state)} of it weights and optimizer state), but "
        f"{_size(room.device)} can be used"
    )


@lru_cache(maxsize=64)
def _activations(recipe: Recipe, task: Task, container: Any) -> int:
    """Bytes that training or evaluating one member takes besides its state, as if unfused."""
    genes, member = recipe.space.blank(), shapes(recipe, container)
    x, y = (jax.ShapeDtypeStruct((task.batch, *a.shape[1:]), a.dtype) for a in task.train)
    batch: Any = Data(x, y)  # pyright: ignore[reportArgumentType]
    step = partial(training.step, recipe, task, container, None)
    trained = jax.make_jaxpr(step)(batch, jax.random.key(0), True, genes, member)
    score = partial(training.evaluate, recipe, task, container)
    evaluated = jax.make_jaxpr(score)(task.valid, genes, member)
    return _bytes(batch) + max(_most_alive(made.jaxpr) for made in (trained, evaluated))


def _most_alive(jaxpr: Any) -> int:
    """Most bytes of results held at a time, if equations run one by one in their order."""
    last = {id(v): i for i, equation in enumerate(jaxpr.eqns) for v in equation.invars}
    last |= {id(v): len(jaxpr.eqns) for v in jaxpr.outvars if not isinstance(v, Literal)}
    alive, most, ending = 0, 0, {}
    for i, equation in enumerate(jaxpr.eqns):
        for v in equation.outvars:
            alive += _bytes(v.aval)
            ending.setdefault(last.get(id(v), i), []).append(v.aval)
        inside = max(map(_most_alive, jaxprs_in_params(equation.params)), default=0)
        most = max(most, alive + inside)
        alive -= _bytes(ending.pop(i, []))
    return most


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"
