"""Networks on their way between swarms: out of one, into another, into a checkpoint and back.

Slots of a part of a swarm are its *places*; those of the whole are called slots all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from swarmjax import anomaly, stacks
from swarmjax.anomaly import Detector
from swarmjax.containers import candidates, recognised
from swarmjax.following import Homes
from swarmjax.members import Member, Recipe
from swarmjax.models import architectures
from swarmjax.naming import Named, named, rebuilt
from swarmjax.population import settled
from swarmjax.swarm import Store, Swarm
from swarmjax.types import Genome

# Members of at least so many bytes are moved one at a time, so that none is moved for nothing.
_LARGE = 2**20


class Crate(NamedTuple):
    """Networks of one container, on the host.

    Attributes:
        container: the padded shape of them all.
        slots: `[n]` whose they are, in the whole swarm.
        members: leaves `[n, ...]`.
        detector: `[n]` what is remembered of their steps.
    """

    container: Any
    slots: np.ndarray
    members: Member
    detector: Detector


def bytes_of(crates: Iterable[Crate]) -> int:
    """Bytes of all arrays of the members."""
    return sum(leaf.nbytes for crate in crates for leaf in jax.tree.leaves(crate.members))


def packed(
    swarm: Swarm, store: Store, detector: Detector, places: np.ndarray, slots: np.ndarray
) -> list[Crate]:
    """Copies of the networks in `places` `[n]`, which the whole swarm calls `slots` `[n]`."""
    crates = []
    for kind in np.unique(swarm.kind[places]):
        alike = np.flatnonzero(swarm.kind[places] == kind)
        container = swarm.containers[kind]
        members = _taken(swarm.cohorts[container], store, swarm.row[places[alike]])
        seen = Detector(*(values[places[alike]] for values in detector))
        crates.append(Crate(container, slots[alike], members, seen))
    return crates


def _taken(stack: Member, store: Store, rows: np.ndarray) -> Member:
    """Copies `[n, ...]` of what is in `rows` `[n]`."""
    if stacks.on_host(stack) or _shares_memory(store):
        return stacks.copied(stack, rows)
    mesh, order, parts = store.mesh, [], []
    for at in stacks.home_lanes(rows, mesh.size, _lane(stack, store, len(rows))):
        real = at >= 0
        lane = stacks.take(stack, mesh, np.where(real, rows[at], -1).astype(np.int32), near=True)
        order.append(at[real])
        parts.append(jax.tree.map(lambda leaf, real=real: leaf[real], jax.device_get(lane)))
    back = np.argsort(np.concatenate(order))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[back], *parts)


def _shares_memory(store: Store) -> bool:
    """Whether the host sees what devices keep; else only what is asked for is sent to it."""
    return store.mesh.devices.flat[0].platform == "cpu"


def _lane(members: Member, store: Store, count: int) -> int:
    """Members that a device moves at a time: few sizes, since each is a program of its own."""
    rows = stacks.rows_of(members)
    each = sum(leaf.nbytes for leaf in jax.tree.leaves(members)) // max(rows, 1)
    wanted = -(-count // store.mesh.size)
    if each >= _LARGE or wanted == 1:
        return 1
    return min(8, store.lane) if wanted <= 8 else store.lane


def relaid(swarm: Swarm, detector: Detector, origin: np.ndarray) -> tuple[Swarm, Detector]:
    """The swarm whose places hold what was in `origin` `[m]` before; -1: nobody.

    Networks that are in nobody's place are gone; their rows are free.
    """
    found, at = origin >= 0, np.maximum(origin, 0)

    def moved(values, blank):
        if not len(values):
            return np.full(len(origin), blank, values.dtype)
        return np.where(found, values[at], np.asarray(blank, values.dtype))

    fields = {name: moved(getattr(swarm, name), -1) for name in ("kind", "row", "birth", "lineage")}
    after = swarm._replace(**fields, step=moved(swarm.step, 0))
    return after, Detector(*(moved(values, 0) for values in detector))


def unpacked(
    swarm: Swarm, store: Store, detector: Detector, crates: Sequence[Crate], slots: np.ndarray
) -> tuple[Swarm, Detector]:
    """The swarm with the networks of `crates` in those places that `slots` `[m]` names so.

    Their birth numbers and lineages are not looked after. Networks that no place waits for are left
    out; the swarm's cohorts are consumed.
    """
    order = np.argsort(slots)
    for crate in crates:
        found = np.searchsorted(slots, crate.slots, sorter=order)
        at = order[np.minimum(found, len(slots) - 1)]
        mine = np.flatnonzero(slots[at] == crate.slots)
        swarm = _stowed(swarm, store, crate, mine, at[mine])
        for values, new in zip(detector, crate.detector, strict=True):
            values[at[mine]] = new[mine]
    return swarm, detector


def _stowed(swarm: Swarm, store: Store, crate: Crate, chosen, places) -> Swarm:
    """The swarm with the `chosen` `[n]` of a crate in `places` `[n]`."""
    if not len(chosen):
        return swarm
    containers = tuple(dict.fromkeys((*swarm.containers, crate.container)))
    kind = containers.index(crate.container)
    taken = swarm.row[swarm.kind == kind]
    spare = np.arange(len(chosen) + len(taken) + taken.max(initial=-1) + 1)
    rows = np.setdiff1d(spare, taken)[: len(chosen)].astype(np.int32)
    members = jax.tree.map(lambda leaf: leaf[chosen], crate.members)
    cohorts = dict(swarm.cohorts)
    most = int(max(rows.max(), taken.max(initial=-1))) + 1
    before = cohorts.get(crate.container)
    cohorts[crate.container] = _put(before, store, members, rows, most)
    kinds, row, step = swarm.kind.copy(), swarm.row.copy(), swarm.step.copy()
    kinds[places], row[places], step[places] = kind, rows, members.step
    return swarm._replace(cohorts=cohorts, containers=containers, kind=kinds, row=row, step=step)


def _put(stack: Member | None, store: Store, members: Member, rows: np.ndarray, most: int) -> Any:
    if stack is None and not store.host:
        return stacks.stack_of(members, rows, store.mesh, store.host)
    like = jax.tree.map(lambda leaf: leaf[None], members)
    for at in stacks.home_lanes(rows, store.mesh.size, _lane(stack or like, store, len(rows))):
        lane = jax.tree.map(lambda leaf, at=at: leaf[np.maximum(at, 0)], members)
        target = np.where(at >= 0, rows[at], -1).astype(np.int32)
        stack = settled(stack, store, target, lane, most)
    return stack


def arrays_of(swarm: Swarm, crates: Sequence[Crate]) -> Named:
    """All networks of a swarm, as `holding.arrays_of` names them, with their detectors.

    Args:
        swarm: of which birth, lineage, step and births count.
        crates: hold every slot once; several may be of one container.
    """
    containers = tuple(dict.fromkeys(crate.container for crate in crates))
    kind, row = np.zeros(len(swarm.birth), np.int32), np.zeros(len(swarm.birth), np.int32)
    made: Named = {}
    detector = anomaly.init(len(swarm.birth))
    for number, container in enumerate(containers):
        some = [crate for crate in crates if crate.container == container]
        slots = np.concatenate([crate.slots for crate in some])
        order = np.argsort(slots)
        kind[slots], row[slots[order]] = number, np.arange(len(slots))
        join = lambda *leaves, order=order: np.concatenate(leaves)[order]  # noqa: E731
        made |= named(jax.tree.map(join, *(c.members for c in some)), f"member{number}")
        for crate in some:
            for values, new in zip(detector, crate.detector, strict=True):
                values[crate.slots] = new
    fields = {"kind": kind, "row": row, "birth": swarm.birth, "lineage": swarm.lineage}
    fields |= {"step": swarm.step, "births": np.asarray(swarm.births)}
    return (
        made
        | {f"swarm.{name}": np.array(v) for name, v in fields.items()}
        | named(detector, "detector")
    )


def crates_of(
    recipe: Recipe,
    homes: Homes,
    genome: Genome,
    arrays: Named,
    slots: np.ndarray,
) -> Iterator[Crate]:
    """The networks of some `slots` of a swarm that `arrays_of` or a `LocalTrainer` named.

    Args:
        recipe: what all members share.
        homes: from the planner.
        genome: `[N]` genes of the whole swarm.
        arrays: perhaps with others.
        slots: ascending.

    Raises:
        InputError: they hold no such members.
    """
    kinds, blank = np.asarray(arrays["swarm.kind"]), anomaly.init(len(genome_of(genome)))
    detector = rebuilt(blank, arrays, "detector")
    found, index = architectures(recipe.space, genome)
    for kind in np.unique(kinds[slots]):
        everyone = np.flatnonzero(kinds == kind)
        mine = slots[kinds[slots] == kind]
        boxes = candidates(recipe, homes, found[index[mine[0]]])
        box, held = recognised(recipe, boxes, arrays, f"member{kind}", len(everyone))
        at = np.searchsorted(everyone, mine)
        members = jax.tree.map(lambda leaf, at=at: leaf[at], held)
        yield Crate(box, mine, members, Detector(*(values[mine] for values in detector)))


def genome_of(genome: Genome) -> np.ndarray:
    """Any one gene `[N]` of a swarm, which tells how many members it has."""
    return np.asarray(next(iter(genome.values())))
