"""How much memory a swarm needs, reckoned before anything is compiled, and what would fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import jaxprs_in_params

from swarmjax import lanes, resources, stacks
from swarmjax.members import Member, Recipe, new_member
from swarmjax.placement import Layout
from swarmjax.tasks import Data, Task
from swarmjax.types import Genome, InputError

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


def reckon(
    recipe: Recipe, task: Task, genome: Genome, counts: Mapping[Any, int], layout: Layout
) -> Need:
    """What a swarm of so many members of each container needs.

    Args:
        recipe: what all members share.
        task: its data.
        genome: `[N]` genes; any one member's stands for all.
        counts: container -> members.
        layout: of the largest cohort.
    """
    genes = {name: np.asarray(values)[0] for name, values in genome.items()}
    member = {kind: _member(recipe, kind, genes) for kind in counts}
    sizes = {kind: _bytes(shapes) for kind, shapes in member.items()}
    devices, places = layout.mesh.size, layout.chunk * layout.chunks
    state = sum(stacks.room(n, devices) * devices * sizes[kind] for kind, n in counts.items())
    data = devices * _bytes((task.train, task.valid))
    kind = max(sizes, key=sizes.__getitem__)
    active = devices * layout.chunk * _activations(recipe, task, kind, genes, member[kind])
    return Need(state, data, devices * places * 2 * sizes[kind] + active)


def choose_storage(need: Need, members: int, wish: str, devices: Sequence[Any]) -> bool:
    """Whether members are kept in the host's memory.

    Args:
        need: of the whole swarm.
        members: of the swarm.
        wish: `device`, `host`, or `auto` for the host only where devices are too small.
        devices: that train it.

    Raises:
        InputError: it does not fit; the message says how many members would.
    """
    free = int(_SHARE * sum(map(resources.free_memory, _distinct(devices))))
    host = int(_SHARE * resources.free_host_memory())
    separate = devices[0].platform != "cpu"
    if wish != "host" and sum(need) <= free:
        return False
    if wish == "device" or (not separate and wish == "auto"):
        raise _too_large(need, members, free - need.data - need.lane, "devices" if separate else "")
    if need.state > host or need.data + need.lane > free:
        raise _too_large(need, members, min(host, free), "host")
    return True


def _too_large(need: Need, members: int, room: int, where: str) -> InputError:
    fits = max(0, int(members * room / max(1, need.state)))
    of_whom = f" on the {where}" if where else ""
    return InputError(
        f"{members} members need {_size(sum(need))} of memory{of_whom} ({_size(need.state)} of it "
        f"weights and optimizer state), but {_size(max(0, room) + need.data + need.lane)} can be "
        f"used; about {fits} members would fit: lower members, or the sizes in the space"
    )


def _distinct(devices: Sequence[Any]) -> Sequence[Any]:
    """One of them if they share the host's memory."""
    return devices if devices[0].platform != "cpu" else devices[:1]


def _member(recipe, container, genes) -> Member:
    make = partial(new_member, recipe, container)
    return jax.eval_shape(make, jax.random.key(0), np.zeros((), np.int32), genes)


def _activations(recipe: Recipe, task: Task, container, genes, member: Member) -> int:
    """Bytes of all that one member's training step makes, as if nothing were freed or fused."""
    x, y = (jax.ShapeDtypeStruct((task.batch, *a.shape[1:]), a.dtype) for a in task.train)
    step = partial(lanes.step, recipe, task, container, None)
    batch: Any = Data(x, y)  # pyright: ignore[reportArgumentType]
    made = jax.make_jaxpr(step)(batch, jax.random.key(0), True, genes, member)
    return _made(made.jaxpr) - 3 * _bytes(member)


def _made(jaxpr: Any) -> int:
    total = sum(_bytes(v.aval) for equation in jaxpr.eqns for v in equation.outvars)
    inner = (part for equation in jaxpr.eqns for part in jaxprs_in_params(equation.params))
    return total + sum(map(_made, inner))


def _bytes(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**29 else f"{count / 2**20:.0f} MiB"
