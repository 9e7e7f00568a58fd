"""Training nodes as a trainer: a Plan becomes directives, what they report becomes a Frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from swarmjax import anomaly
from swarmjax.errors import InputError
from swarmjax.fleet import Fleet
from swarmjax.node_windows import window_columns
from swarmjax.peers import Peer, raw_genes
from swarmjax.records import Report
from swarmjax.space import Space
from swarmjax.types import Frame, Plan

# Seconds that a node may take to send its weights.
_SENDING = 60.0
# What a Frame shows of the last round in which a member trained.
_TRAINED = ("loss", "gradient_norm", "seconds")


class _Order(NamedTuple):
    """What one node is told in a round.

    Attributes:
        peer: the node, by its incarnation of now.
        start: as in `directives.Grant`.
        genes: what it will train with, all of them, as a Plan holds them.
        told: new values of those that it obeys.
    """

    peer: Peer
    start: str
    genes: dict[str, np.ndarray]
    told: dict[str, Any]


class NodeTrainer:
    """Trains a swarm of which every member is a node; `round` is the whole protocol.

    A member whose node is gone is not alive in the Frame, and takes none of the steps it is
    granted. Weights go from node to node where their architectures are the same; where they are
    not, the member keeps its own and takes over the genes.
    """

    def __init__(self, fleet: Fleet, space: Space, members: int, births: int = 0):
        """Nothing is trained before the first round.

        Args:
            fleet: the nodes, as many as there are members.
            space: of their genes.
            members: how many.
            births: networks that were born before, in a run that is taken up.
        """
        self._fleet, self._space, self._members = fleet, space, members
        self._births = births

    def gather(self, seconds: float) -> int:
        """Waits for so long that every member has a node, and returns how many have."""
        self._fleet.wait(lambda: len(self._fleet.by_slot()) == self._members, seconds)
        return len(self._fleet.by_slot())

    def wait(self, seconds: float) -> None:
        """Waits until every member has a node; InputError if that takes longer."""
        joined = self.gather(seconds)
        if joined < self._members:
            raise InputError(
                f"only {joined} of {self._members} nodes have joined within {seconds:g} s; "
                "start more of them, or ask for fewer"
            )

    def round(self, plan: Plan, frame: Frame) -> Frame:
        """Follows `plan` from the state that `frame` showed, and shows the state afterwards."""
        round, peers = int(frame.round) + 1, self._fleet.by_slot()
        plan = Plan(*map(_hosted, plan))
        orders = {slot: self._order(plan, peers, slot) for slot in sorted(peers)}
        # Not for those that an earlier controller told, and that are done.
        due = {slot: o for slot, o in orders.items() if not self._fleet.done(o.peer, round)}
        parcels = self._parcels(plan, peers, due)
        steps_of = np.asarray(frame.total_steps)
        for slot, order in orders.items():
            parts = parcels.get(int(plan.parent[slot])) if order.start == "weights" else None
            fields = {"start": "own" if order.start == "weights" and parts is None else order.start}
            if parts is not None:
                step = int(steps_of[plan.parent[slot]])
                fields |= {"request": self._fleet.give(order.peer, parts), "step": step}
            self._fleet.grant(
                order.peer, round=round, steps=int(plan.steps[slot]), genes=order.told, **fields
            )
        self._await(orders)
        return self._frame(plan, frame, orders)

    def windows(self, frame: Frame, *, again: bool = False) -> Mapping[str, np.ndarray]:
        """Windows of the round that `frame` shows, by slot of this trainer.

        With `again` it may be any round; without, the one that was trained last.
        """
        return window_columns(self._fleet.windows(again=again), frame)

    def _order(self, plan: Plan, peers: dict[int, Peer], slot: int) -> _Order:
        peer, parent = peers[slot], peers.get(int(plan.parent[slot]))
        planned = {name: np.asarray(values[slot]) for name, values in plan.genome.items()}
        fixed = raw_genes(self._space, peer.announce.genes)
        genes = {n: planned[n] if n in peer.announce.obeys else fixed[n] for n in planned}
        values = self._space.values({n: np.asarray([v]) for n, v in genes.items()}, 0)
        told = {name: values[name] for name in genes if name in peer.announce.obeys}
        start = "own"
        if plan.fresh[slot]:
            start = "fresh"
        elif parent is not None and parent is not peer and peer.fits(parent):
            start = "weights"
        return _Order(peer, start, genes, told)

    def _parcels(self, plan: Plan, peers: dict[int, Peer], orders) -> dict[int, list[bytes]]:
        """Slot -> weights of everyone from whom somebody starts, as far as they came."""
        wanted = {int(plan.parent[slot]) for slot, o in orders.items() if o.start == "weights"}
        come = self._fleet.fetch((peers[slot] for slot in sorted(wanted)), _SENDING)
        return {slot: come[peers[slot].name] for slot in wanted if peers[slot].name in come}

    def _await(self, orders: dict[int, _Order]) -> None:
        """Until every node has reported, returned as another incarnation, or was given up."""

        def done():
            return all(
                order.peer.report is not None or not self._same(order.peer)
                for order in orders.values()
            )

        while not self._fleet.wait(done, 60.0):
            pass

    def _same(self, peer: Peer) -> bool:
        """Whether the node is there, and has not been started again."""
        return peer.present and self._fleet.peers.get(peer.name) is peer

    def _frame(self, plan: Plan, frame: Frame, orders: dict[int, _Order]) -> Frame:
        now = self._fleet.by_slot()
        after = _Columns(frame)
        taken = np.zeros(self._members, np.int32)
        births = self._births
        for slot in range(self._members):
            order, peer = orders.get(slot), now.get(slot)
            report = order.peer.report if order is not None and self._same(order.peer) else None
            if order is not None and report is not None:
                births = after.report(slot, plan, order, report, births)
                taken[slot] = min(report.steps, int(plan.steps[slot]))
            elif peer is not None and (order is None or peer is not order.peer):
                births = after.arrive(slot, peer, self._space, births)
            elif peer is None:
                after.columns["alive"][slot] = False
        self._births = births
        return after.frame(taken)


class _Columns:
    """The Frame to be, as arrays `[N]` that may be written."""

    def __init__(self, frame: Frame):
        self._before = frame
        names = (
            "loss gradient_norm total_steps alive cost parameters bytes seconds descriptor birth "
            "lineage"
        ).split()
        self.columns = {name: np.array(getattr(frame, name)) for name in names}
        self._metrics = {name: np.array(values) for name, values in frame.metrics.items()}
        self._genome = {name: np.array(values) for name, values in frame.genome.items()}

    def report(self, slot: int, plan: Plan, order: _Order, report: Report, births: int) -> int:
        """What a node reported; returns how many networks were born so far."""
        columns, before = self.columns, self._before
        if report.started != "own" or columns["birth"][slot] < 0:
            parent = int(plan.parent[slot])
            inherited = report.started == "weights"
            columns["birth"][slot] = births
            columns["lineage"][slot] = np.asarray(before.lineage)[parent] if inherited else births
            births += 1
            for name in _TRAINED:
                columns[name][slot] = (
                    np.asarray(getattr(before, name))[parent] if inherited else np.nan
                )
        self._write(slot, order.peer, order.genes)
        columns["alive"][slot] = report.finite
        columns["total_steps"][slot] = report.step
        for name, values in self._metrics.items():
            values[slot] = report.metrics.get(name, np.nan)
        for name in _TRAINED if report.steps else ():
            columns[name][slot] = getattr(report, name)
        made, wanted = np.asarray(report.outputs, object), columns["descriptor"][slot].shape
        with np.errstate(over="ignore"):
            fitting = made.astype(np.float16) if made.shape == wanted else np.nan
        columns["descriptor"][slot] = fitting
        return births

    def arrive(self, slot: int, peer: Peer, space: Space, births: int) -> int:
        """A node that joined or returned: a network of which nothing is known yet."""
        columns = self.columns
        for name in _TRAINED:
            columns[name][slot] = np.nan
        for values in self._metrics.values():
            values[slot] = np.nan
        columns["descriptor"][slot] = np.nan
        step = peer.announce.step if peer.report is None else peer.report.step
        columns["alive"][slot], columns["total_steps"][slot] = True, step
        columns["birth"][slot] = columns["lineage"][slot] = births
        self._write(slot, peer, raw_genes(space, peer.announce.genes))
        return births + 1

    def _write(self, slot: int, peer: Peer, genes: dict[str, np.ndarray]) -> None:
        for name, value in genes.items():
            self._genome[name][slot] = value
        said = peer.announce
        for name, value in (("cost", said.cost), ("parameters", said.parameters)):
            self.columns[name][slot] = value
        self.columns["bytes"][slot] = said.bytes

    def frame(self, taken: np.ndarray) -> Frame:
        """The Frame after a round in which these steps were taken."""
        before = self._before
        after = before._replace(
            round=np.asarray(before.round + 1, np.int32), steps=taken,
            remaining=np.asarray(before.remaining - taken.sum(), np.int32),
            metrics=self._metrics, genome=self._genome, **self.columns,
        )  # fmt: skip
        return after._replace(alarm=anomaly.alarms(before, after))


def _hosted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: np.asarray(each) for name, each in value.items()}
    return np.asarray(value)
