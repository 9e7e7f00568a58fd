"""One swarm of two trainers: some members are vectorised in this process, the others are nodes."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from swarmjax import anomaly
from swarmjax.bus import open_bus, open_if_named
from swarmjax.channels import Bus
from swarmjax.crossover import OF_TWO, OPERATORS
from swarmjax.elsewhere import Known
from swarmjax.fleet import Fleet
from swarmjax.members import Network
from swarmjax.naming import Named
from swarmjax.node_trainer import NodeTrainer
from swarmjax.relay import relayed
from swarmjax.space import Space
from swarmjax.train import LocalTrainer
from swarmjax.types import Frame, Genome, Plan

# Seconds in which all nodes must have joined.
JOINING = 600.0
_TWO = [OPERATORS.index(name) for name in OF_TWO]


class Mixed:
    """The trainer of both: the first members of the swarm are local, the rest are nodes.

    After a round `away` is the Frame of the nodes, births as their trainer numbers them.

    Weights do not go from one kind to the other: who would start from a member of the other kind
    takes over its genes alone. Networks can be taken out of the local members.
    """

    def __init__(self, local: LocalTrainer, nodes: Known, members: tuple[int, int]):
        """Joins trainers of so many members."""
        self._windows: Mapping[str, np.ndarray] = {}
        self._local, self._nodes = local, nodes
        here, there = members
        self._members, self._parts = here + there, (slice(0, here), slice(here, here + there))
        self.recipe, self.away = local.recipe, None

    @property
    def choices(self):
        """As of the local trainer."""
        return self._local.choices

    @property
    def report(self) -> Callable[[str], None]:
        """As of the local trainer."""
        return self._local.report

    @report.setter
    def report(self, report: Callable[[str], None]) -> None:
        self._local.report = report

    @property
    def flags(self) -> anomaly.Flags:
        """Of the local trainer; single steps of nodes raise none."""
        flags = anomaly.silent(self._members)
        for values, new in zip(flags, self._local.flags, strict=True):
            values[self._parts[0]] = new
        return flags

    @property
    def measured(self) -> anomaly.Measured:
        """Of the local trainer; of nodes nothing is."""
        room = (0, self._members - self._parts[0].stop)
        return {kind: np.pad(np.asarray(v), room) for kind, v in self._local.measured.items()}

    @property
    def shown(self):
        """Of the local trainer, with the windows of nodes; all that they sent is in `inbox`."""
        shown = self._local.shown
        if not self._windows:
            return shown
        first = {"member": self._parts[0].stop}
        joined = {
            name: np.concatenate([values, self._windows[name] + first.get(name, 0)])
            for name, values in shown.windows.items()
        }
        return shown._replace(windows={n: v.astype(shown.windows[n].dtype)
                                       for n, v in joined.items()})  # fmt: skip

    def arrays(self) -> Named:
        """As of the local trainer; nodes hold their own."""
        return self._local.arrays()

    def boxes(self, genes: Genome):
        """As of the local trainer."""
        return self._local.boxes(genes)

    def prepare(self, genome: Genome) -> None:
        """As of the local trainer."""
        self._local.prepare({name: values[self._parts[0]] for name, values in genome.items()})

    def network(self, slot: int, genome: Genome) -> Network:
        """As of the local trainer, of a local member."""
        return self._local.network(slot, genome)

    def networks(self, slots: Sequence[int], genome: Genome) -> Iterator[tuple[int, Network]]:
        """As of the local trainer, of local members."""
        return self._local.networks(slots, genome)

    def round(self, plan: Plan, frame: Frame) -> Frame:
        """Follows `plan` from the state that `frame` showed, and shows the state afterwards."""
        here, there = ((part_of_plan(plan, frame, part), part_of(frame, part, k))
                       for k, part in enumerate(self._parts))  # fmt: skip
        # Nodes train elsewhere: meanwhile this process has its own work.
        with ThreadPoolExecutor(1) as pool:
            away = pool.submit(self._nodes.round, *there)
            mine = self._local.round(*here)
            self.away = away.result()
        self._windows = self._nodes.windows(self.away)
        return joined_frame(frame, (mine, self.away))


def part_of_plan(plan: Plan, frame: Frame, part: slice) -> Plan:
    """The Plan of the members of `part`, as their own trainer numbers them."""
    own = np.arange(part.start, part.stop)
    parent, mate = np.asarray(plan.parent)[part], np.asarray(plan.mate)[part]
    operator, fresh = np.asarray(plan.operator)[part], np.asarray(plan.fresh)[part]
    apart, single = ~np.isin(parent, own), ~np.isin(mate, own)
    # Nobody's weights can be carried on where one was dead.
    fresh = fresh | (apart & ~np.asarray(frame.alive)[part])
    operator = np.where(apart | (single & np.isin(operator, _TWO)), 0, operator)
    return Plan(
        parent=(np.where(apart, own, parent) - part.start).astype(np.int32),
        mate=(np.where(single, own, mate) - part.start).astype(np.int32),
        operator=operator.astype(np.int32), steps=np.asarray(plan.steps)[part],
        devices=np.asarray(plan.devices)[part], fresh=fresh,
        genome={name: np.asarray(values)[part] for name, values in plan.genome.items()},
    )  # fmt: skip


def part_of(frame: Frame, part: slice, kind: int) -> Frame:
    """The Frame of the members of `part`, births as their own trainer numbers them."""
    fields = _by_member(frame, lambda values: np.asarray(values)[part])
    for name in ("birth", "lineage"):
        fields[name] = np.where(fields[name] < 0, -1, (fields[name] - kind) // 2).astype(np.int32)
    return frame._replace(**fields)


def joined_frame(before: Frame, parts: Sequence[Frame]) -> Frame:
    """One Frame of all members; births of the first part are even numbers, of the second odd."""
    both = []
    for kind, frame in enumerate(parts):
        numbers = {
            name: np.where(values < 0, -1, 2 * values + kind).astype(np.int32)
            for name, values in (("birth", frame.birth), ("lineage", frame.lineage))
        }
        both.append(frame._replace(**numbers))
    first, second = (_by_member(frame, np.asarray) for frame in both)
    fields = {name: _joined(values, second[name]) for name, values in first.items()}
    steps = fields["steps"].sum()
    remaining = np.asarray(before.remaining - steps, np.int32)
    return parts[0]._replace(**fields, remaining=remaining)


def _by_member(frame: Frame, change: Callable[[Any], Any]) -> dict[str, Any]:
    """`change` of every field `[N, ...]`."""
    whole = ("round", "quota", "remaining", "space")
    fields = {name: getattr(frame, name) for name in Frame._fields if name not in whole}
    return {
        name: {key: change(each) for key, each in values.items()}
        if isinstance(values, dict)
        else change(values)
        for name, values in fields.items()
    }


def _joined(first: Any, second: Any) -> Any:
    if isinstance(first, dict):
        return {name: np.concatenate([first[name], second[name]]) for name in first}
    return np.concatenate([first, second])


@contextlib.contextmanager
def with_nodes(
    local: LocalTrainer,
    space: Space,
    members: tuple[int, int],
    directory: Path,
    *,
    bus: str | None,
    swarm: str,
    patience: float,
    tell: Callable[[str], None],
    done: int = 0,
    known: Mapping[int, Frame] | None = None,
) -> Iterator[LocalTrainer | Mixed]:
    """The trainer of a run, with its nodes if it has any, which are told to stop at the end.

    Not if the process was asked to end: then they wait for the run to be taken up. Meanwhile the
    run can be followed over the bus, where one is named. Of a run that is taken up so many rounds
    are `done`, what nodes showed is `known`, and it goes on without those that do not come back.

    Raises:
        InputError: there is no such bus, or not all nodes join in time.
    """
    opened = open_bus(bus) if members[1] else open_if_named(bus)
    with relayed(directory, opened, swarm, tell):
        if opened is None or not members[1]:
            yield local
            return
        with _fleet(opened, swarm, space, members[1], directory, patience, tell) as fleet:
            tell(f"waiting for {members[1]} nodes of swarm {swarm} at {opened}")
            # No member has more than one birth in a round.
            nodes = NodeTrainer(fleet, space, members[1], members[1] * (done + 1) if done else 0)
            if not done:
                nodes.wait(JOINING)
            elif (joined := nodes.gather(JOINING)) < members[1]:
                tell(f"only {joined} of {members[1]} nodes are back; going on without the others")
            yield Mixed(local, Known(nodes, known or {}), members)


@contextlib.contextmanager
def _fleet(
    bus: Bus,
    swarm: str,
    space: Space,
    nodes: int,
    directory: Path,
    patience: float,
    tell: Callable[[str], None],
) -> Iterator[Fleet]:
    """The nodes of the run; in the end they are told to stop, unless it is to be taken up."""

    def told(text: str) -> None:
        # What cannot be written down must not end the threads that hear and answer the nodes.
        with contextlib.suppress(sqlite3.Error):
            tell(text)

    fleet = Fleet(bus, swarm, space, nodes, directory, patience=patience, tell=told)
    try:
        yield fleet
    except KeyboardInterrupt:
        fleet.close(None)
        tell("nodes wait for the run to be resumed; end them if it is not")
        raise
    except BaseException:
        fleet.close("the run failed")
        raise
    fleet.close()
