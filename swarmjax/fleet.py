"""The controller's side of the bus: who the training nodes are, what they said, what they are told.

DIR/inbox.db           every record that came, see `inbox`
DIR/directives.spool   directives on their way, see `spool`
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from swarmjax import clock, directives, inbox, records
from swarmjax.channels import Bus, BusError, Publisher
from swarmjax.directives import Given, Grant, Pulse, Share, Stop
from swarmjax.errors import InputError, one_line
from swarmjax.inbox import Inbox
from swarmjax.listener import Listener
from swarmjax.ntp import Timekeeper, server
from swarmjax.outbox import Outbox
from swarmjax.peers import Peer, raw_genes
from swarmjax.records import Announce, Beat, Leave, Report, Shared, Up
from swarmjax.space import Space
from swarmjax.spool import Spool


def check_patience(seconds: float) -> float:
    """The seconds; InputError unless they are more than none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise InputError(f"patience must be seconds, more than 0, got {seconds!r}")
    return seconds


class Fleet:
    """The nodes of a swarm; `peers` by name, to be read and waited for under `changed`."""

    def __init__(
        self,
        bus: Bus,
        swarm: str,
        space: Space,
        slots: int,
        directory: Path,
        *,
        stale: float = 10.0,
        retire: float = 60.0,
        patience: float = 300.0,
        ntp: str | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ):
        """Begins to listen.

        Args:
            bus: by which the nodes are reached.
            swarm: its name.
            space: of their genes.
            slots: how many nodes there may be.
            directory: exists; the fleet's files are kept there.
            stale: seconds of silence after which a node is said to be stale.
            retire: seconds of silence after which it is given up, until it is heard of again.
            patience: seconds in which a node that lives may take no step of its grant; then it is
                given up, until it moves again.
            ntp: a server of the time, see `ntp`; None for that of the environment, if any.
            tell: told in a line what happens to nodes and bus.

        Raises:
            InputError: the directory cannot be written, or is another process's.
        """
        if not 0 < stale <= retire:
            raise InputError(f"nodes need 0 < stale <= retire, got {stale} and {retire} seconds")
        check_patience(patience)
        self._swarm, self._space, self._slots, self._tell = swarm, space, slots, tell
        self._stale, self._retire, self._patience = stale, retire, patience
        self._bus, self._now = bus, clock.controller_clock()
        host, port = server(ntp)
        self._answering: Publisher | None = None
        self.changed = threading.Condition()
        self.peers: dict[str, Peer] = {}
        self._asked: set[int] = set()
        self._parcels: dict[int, list[bytes]] = {}
        self._spool = Spool(directory / "directives.spool", tell=tell)
        self._kept, self._seen = directory / "inbox.db", 0
        self.inbox = Inbox(self._kept)
        # Grants are numbered from here on: above all those of runs that began before.
        self._first = self.inbox.begun(self._now())
        self._recall()
        self._keeper = Timekeeper(host, port, self._now, tell=tell)
        self._outbox = Outbox(self._spool, bus, tell=tell)
        self._listener = Listener(bus, records.channel_up(swarm), self._hear)

    def by_slot(self) -> dict[int, Peer]:
        """The nodes that are present, by slot; those silent for too long are given up first."""
        with self.changed:
            for peer in self.peers.values():
                self._watch(peer)
            return {peer.slot: peer for peer in self.peers.values() if peer.present}

    def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Waits until `done`, asked under `changed`, or for so many seconds; what it said last."""
        until = time.monotonic() + seconds
        with self.changed:
            while not (so := done()) and (left := until - time.monotonic()) > 0:
                # Silence is no change: it has to be looked for.
                self.changed.wait(min(left, 0.2))
                self.by_slot()
            return so

    def grant(self, peer: Peer, *, round: int, **fields: Any) -> None:
        """Grants a node steps of a round; `fields` are those of a `Grant` without its number.

        A grant that an earlier controller gave has the same number: a node that has heard it takes
        no step twice, and the report of one that has followed it counts.
        """
        with self.changed:
            peer.number, peer.report = self._first + round, None
            if self.done(peer, round):
                peer.report = peer.latest
            peer.moved = time.monotonic()
        self._send(peer, Grant, number=peer.number, round=round, **fields)

    def done(self, peer: Peer, round: int) -> bool:
        """Whether the node has already reported what it was granted in a round."""
        return peer.latest is not None and peer.latest.grant == self._first + round

    def fetch(self, peers: Iterable[Peer], seconds: float) -> dict[str, list[bytes]]:
        """The weights of nodes, in parts, by name; without those that did not come in time."""
        asked = {self._now() + i: peer for i, peer in enumerate(peers)}
        with self.changed:
            self._asked, self._parcels = set(asked), {}
        for request, peer in asked.items():
            self._send(peer, Share, request=request)

        def done():
            return all(n in self._parcels or not peer.present for n, peer in asked.items())

        self.wait(done, seconds)
        with self.changed:
            self._asked, come = set(), self._parcels
        return {peer.name: come[n] for n, peer in asked.items() if n in come}

    def windows(self, *, again: bool = False) -> dict[int, list[pa.Table]]:
        """Slot -> tables of windows that came since this was asked last; `again`: all there are."""
        last, found = inbox.windows_by_node(self._kept, 0 if again else self._seen)
        self._seen = self._seen if again else last
        with self.changed:
            slots = {name: peer.slot for name, peer in self.peers.items()}
        return {slots[name]: tables for name, tables in found.items() if name in slots}

    def give(self, peer: Peer, parts: list[bytes]) -> int:
        """Sends a node the weights that it will start from; returns the number of the request."""
        request = self._now()
        for i, data in enumerate(parts):
            self._send(peer, Given, request=request, part=i, parts=len(parts), data=data)
        return request

    def close(self, reason: str | None = "the run is over") -> None:
        """Tells all nodes to stop, if there is a reason, and goes."""
        for peer in self.by_slot().values() if reason is not None else ():
            self._send(peer, Stop, reason=reason)
        self._outbox.close()
        self._listener.close()
        self._keeper.close()
        if self._answering is not None:
            self._answering.close()
        self._spool.close()
        self.inbox.close()

    def _send(self, peer: Peer, kind, **fields: Any) -> None:
        to = {"node": peer.name, "incarnation": peer.announce.incarnation}
        blob = directives.encode_down(kind(**to, **fields))
        self._spool.put(records.channel_down(self._swarm, peer.name), blob, precious=True)

    def _recall(self) -> None:
        """The nodes that an earlier controller knew; they are given time to be heard of."""
        for _, record in self.inbox.records():
            if isinstance(record, Announce | Leave | Report):
                self._understand(record)

    def _hear(self, blobs: list[bytes]) -> None:
        received = self._now()
        try:
            fresh = self.inbox.take(blobs)
        except sqlite3.Error as error:
            self._tell(f"records cannot be kept, they will come again: {error}")
            raise BusError("records cannot be kept") from None
        for record in fresh:
            with self.changed:
                self._understand(record)
                self.changed.notify_all()
            if isinstance(record, Beat):
                self._answer(record, received)

    def _understand(self, record: Up) -> None:
        try:
            if isinstance(record, Announce):
                self._join(record)
            peer = self.peers.get(record.node)
            if peer is None or peer.announce.incarnation != record.incarnation:
                return
            self._revive(peer, record)
            if isinstance(record, Leave):
                peer.present = False
                self._tell(f"node {peer.name} leaves: {one_line(record.reason)}")
            elif isinstance(record, Report):
                peer.latest = record
                peer.report = record if record.grant == peer.number else peer.report
            elif isinstance(record, Shared) and record.request in self._asked:
                parts = peer.parcel.add(record.request, record.part, record.parts, record.data)
                self._parcels |= {record.request: parts} if parts else {}
        except InputError as error:
            self.inbox.refuse(str(error))

    def _join(self, record: Announce) -> None:
        known = self.peers.get(record.node)
        if known is not None and known.announce.incarnation >= record.incarnation:
            if known.announce.incarnation > record.incarnation:
                self._tell(
                    f"node {record.node} is not heeded: by its clock it started before the one "
                    "that is known; set its clock right and start it again"
                )
            return
        try:
            raw_genes(self._space, record.genes)
            slot = self._free_slot() if known is None else known.slot
        except InputError as error:
            self._send(Peer(-1, record, 0.0), Stop, reason=one_line(error))
            self._tell(f"node {record.node} is turned away: {error}")
            raise
        self._tell(f"node {record.node} {'returns' if known else 'joins'} as member {slot}")
        self.peers[record.node] = Peer(slot, record, time.monotonic())

    def _free_slot(self) -> int:
        """A slot that nobody has; else that of a node which is gone, which loses it."""
        taken = {peer.slot: peer for peer in self.peers.values()}
        free = sorted(set(range(self._slots)) - set(taken))
        gone = sorted(slot for slot, peer in taken.items() if not peer.present)
        if not free and not gone:
            raise InputError(f"the swarm has its {self._slots} nodes already")
        if not free:
            del self.peers[taken[gone[0]].name]
        return (free + gone)[0]

    def _revive(self, peer: Peer, record: Up) -> None:
        peer.heard = time.monotonic()
        place = (record.grant, record.step) if isinstance(record, Beat) else None
        if place != peer.place:
            peer.place, peer.moved, peer.stuck = place or peer.place, peer.heard, False
        if (peer.stale or not peer.present) and not peer.stuck:
            self._tell(f"node {peer.name} is heard of again")
        peer.stale, peer.present = False, not peer.stuck

    def _watch(self, peer: Peer) -> None:
        now = time.monotonic()
        silent, still = now - peer.heard, now - peer.moved
        if peer.present and silent > self._stale and not peer.stale:
            peer.stale = True
            self._tell(f"node {peer.name} is stale: nothing heard for {silent:.0f} s")
        if peer.present and silent > self._retire:
            peer.present = False
            self._tell(f"node {peer.name} is given up: nothing heard for {silent:.0f} s")
        if peer.present and peer.busy and still > self._patience:
            peer.present, peer.stuck = False, True
            self._tell(f"node {peer.name} is given up: it took no step for {still:.0f} s")

    def _answer(self, beat: Beat, received: int) -> None:
        """Tells the node the time; an answer that is lost is not worth a second one."""
        channel = records.channel_down(self._swarm, beat.node)
        try:
            self._answering = self._answering or self._bus.publisher()
            answered = self._now()
            offset, bound = self._keeper.known(answered) or (0, clock.UNKNOWN)
            pulse = Pulse(
                node=beat.node, incarnation=beat.incarnation, sent=beat.sent, received=received,
                answered=answered, utc_offset=offset, utc_bound=bound,
            )  # fmt: skip
            self._answering.publish(channel, [directives.encode_down(pulse)])
        except BusError:
            if self._answering is not None:
                self._answering.close()
            self._answering = None
