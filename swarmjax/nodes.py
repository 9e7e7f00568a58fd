"""Training nodes: how a trainer in any framework joins a swarm.

    from swarmjax.nodes import Node, Profile

    profile = Profile(genes={"learning_rate": 1e-3}, weights=arrays_of(model))
    with Node("amqp://localhost", "digits", "torch-0", "torch-0.spool", profile) as node:
        for job in node.jobs():
            ...                                   # heed job.start, job.weights and job.genes
            for _ in range(job.steps):
                node.step(loss_of_one_step())
            node.report({"valid_loss": ...}, arrays_of(model))

Nothing here needs JAX, and training never waits for the bus: what is told is spooled on disk, and
sent, directed and timed by threads.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from swarmjax import clock, directives, parcels, records, windows
from swarmjax.bus import open_bus
from swarmjax.channels import Bus, Publisher
from swarmjax.directives import Given, Grant, Pulse, Share, Stop
from swarmjax.errors import InputError
from swarmjax.listener import Listener
from swarmjax.ntp import Timekeeper, server
from swarmjax.outbox import Outbox
from swarmjax.profiles import Arrays, Profile
from swarmjax.recorder import Recorder
from swarmjax.spool import Spool
from swarmjax.usage import Usage

# Seconds after which windows are sent, however few there are, and how many are sent at once.
_SOON, _MANY = 0.5, 64


class Job(NamedTuple):
    """What a node is to do next.

    Attributes:
        number: of the grant; 0: nothing was granted yet.
        round: of the swarm.
        steps: training steps to take; 0: only evaluate.
        genes: new values of the genes that the node obeys.
        start: from what: its `own` weights as they are, `fresh` ones, or the given `weights`.
        weights: path -> array to start from, where `start` is `weights`; else None.
    """

    number: int
    round: int
    steps: int
    genes: dict[str, Any]
    start: str
    weights: dict[str, np.ndarray] | None


class Node:
    """A member of a swarm that trains in this process; a context manager.

    `refused` counts directives that were malformed or could not be followed.
    """

    def __init__(
        self,
        bus: str | Bus | None,
        swarm: str,
        name: str,
        spool: str | Path,
        profile: Profile,
        *,
        watch: Sequence[str] = (),
        window: int = 50,
        heartbeat: float = 1.0,
        read_clock: clock.Clock = clock.read,
        ntp: str | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ):
        """Joins the swarm, as soon as there is a bus.

        Args:
            bus: its URL, see `channels`; None for that of the environment.
            swarm: its name.
            name: of this node, unique in the swarm.
            spool: file for what is not sent yet; this node's alone.
            profile: what it is.
            watch: patterns of paths, such as `*/kernel`, whose statistics are told.
            window: steps of a window; 1 tells the loss of every step.
            heartbeat: seconds between two signs of life.
            read_clock: this machine's clocks.
            ntp: a server of the time, see `ntp`; None for that of the environment, if any.
            tell: told in a line when the bus is lost or back.

        Raises:
            InputError: something of this is not as it must be.
        """
        self._up, down = records.channel_up(swarm), records.channel_down(swarm, name)
        self._name, self._clock, self._watch = name, read_clock, watch
        profile.check_watched(watch)
        host, port = server(ntp)
        bus = open_bus(bus) if bus is None or isinstance(bus, str) else bus
        self._recorder = Recorder(window, self._stamp, Usage().sample)
        self._shapes, self._snapshot = profile.fields()["weights"], _copied(profile.weights)
        self._sequence, self._beats, self._step, self.refused = 0, 0, profile.step, 0
        self._putting, self._timing = threading.Lock(), threading.Lock()
        self._exchanges: deque[clock.Exchange] = deque(maxlen=clock.KEPT)
        # The controller against UTC, and this node's nanoseconds when it was asked for.
        self._utc: tuple[clock.Estimate | None, int] = (None, 0)
        self._orders: queue.SimpleQueue[Grant | Stop] = queue.SimpleQueue()
        self._collector, self._given, self._heard = parcels.Collector(), (-1, []), 0
        self._job, self._stopped = Job(0, 0, 0, {}, "own", None), False
        self._sent = time.monotonic()
        self._spool = Spool(spool, tell=tell)
        self._keeper = Timekeeper(host, port, lambda: read_clock().monotonic, tell=tell)
        try:
            self._put(records.Announce, **profile.fields())
        except (InputError, TypeError):
            self._keeper.close()
            self._spool.close()
            raise
        self._outbox = Outbox(self._spool, bus, tell=tell, beat=self._beat, every=heartbeat)
        self._listener = Listener(bus, down, self._hear)

    def __enter__(self) -> Node:
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.close("finished" if error is None else type(error).__name__)

    def jobs(self, seconds: float = math.inf) -> Iterator[Job]:
        """What to do, one after the other, until the swarm stops the node.

        Every job ends with a `report`. Ends too if no job comes for so many seconds.
        """
        until = time.monotonic() + seconds
        while not self._stopped and (left := until - time.monotonic()) > 0:
            try:
                order = self._orders.get(timeout=min(left, 1.0))
            except queue.Empty:
                continue
            if isinstance(order, Stop):
                return
            self._job = self._begin(order)
            self._recorder.begin(order.round)
            yield self._job
            until = time.monotonic() + seconds

    def step(self, loss: float, gradient_norm: float | None = None) -> bool:
        """Tells of one training step; False if the swarm wants this node to stop."""
        self._step += 1
        if self._recorder.add(loss, gradient_norm, self._step):
            late = time.monotonic() - self._sent > _SOON
            if late or len(self._recorder.rows) > _MANY:
                # The last row may get metrics yet.
                self._send(len(self._recorder.rows) - 1)
        return not self._stopped

    def report(
        self,
        metrics: Mapping[str, float],
        weights: Arrays | None = None,
        outputs: Sequence[Sequence[float]] = (),
    ) -> None:
        """Ends the job.

        Args:
            metrics: validation metrics of the weights: `valid_loss`, `valid_accuracy`, ...
            weights: path -> array as they are now, for whoever starts from them.
            outputs: what describes the network, see `records.Report`.
        """
        arrays = _copied(weights or {})
        scores = records.check_metrics({name: float(value) for name, value in metrics.items()})
        told = windows.statistics(arrays, self._watch) | scores
        totals = self._recorder.end(self._step, told)
        self._send(len(self._recorder.rows))
        self._snapshot = arrays
        finite = all(bool(np.isfinite(array).all()) for array in arrays.values())
        self._put(
            records.Report, grant=self._job.number, started=self._job.start, step=self._step,
            metrics=scores, finite=finite and not (totals.steps and not math.isfinite(totals.loss)),
            outputs=tuple(tuple(map(float, row)) for row in outputs), **totals._asdict(),
        )  # fmt: skip

    def close(self, reason: str = "finished") -> None:
        """Leaves the swarm; what cannot be sent now is sent by the next node with this spool."""
        self._put(records.Leave, reason=reason)
        self._outbox.close()
        self._listener.close()
        self._keeper.close()
        self._spool.close()

    def _begin(self, grant: Grant) -> Job:
        weights, start = None, grant.start
        if start == "weights":
            try:
                request, parts = self._given
                weights = parcels.read_weights(
                    parts if request == grant.request else [], self._shapes
                )
                self._step = grant.step
            except InputError:
                self.refused, start = self.refused + 1, "own"
        if start == "fresh":
            self._step = 0
        return Job(grant.number, grant.round, grant.steps, dict(grant.genes), start, weights)

    def _send(self, count: int) -> None:
        rows, self._recorder.rows = self._recorder.rows[:count], self._recorder.rows[count:]
        self._sent = time.monotonic()
        for start in range(0, len(rows), _MANY):
            table = windows.write_windows(rows[start : start + _MANY])
            self._put(records.Windows, precious=False, table=table)

    def _put(self, kind, *, precious: bool = True, **fields) -> None:
        with self._putting:
            record = kind(**self._mark(self._sequence), **fields)
            self._spool.put(self._up, records.encode_up(record), precious=precious)
            self._sequence += 1

    def _mark(self, sequence: int) -> dict[str, Any]:
        who = {"node": self._name, "incarnation": self._spool.incarnation, "sequence": sequence}
        return who | self._stamp()._asdict()

    def _stamp(self) -> clock.Stamp:
        reading = self._clock()
        with self._timing:
            known = clock.estimate(self._exchanges, reading.monotonic)
            utc, asked = self._utc
        here = self._keeper.known(reading.monotonic)
        other = clock.between(here, utc, reading.monotonic - asked)
        return clock.stamp(reading, clock.best(known, other))

    def _beat(self, publisher: Publisher) -> None:
        mark, self._beats = self._mark(self._beats), self._beats + 1
        beat = records.Beat(**mark, sent=mark["monotonic_ns"], grant=self._heard, step=self._step)
        publisher.publish(self._up, [records.encode_up(beat)])

    def _hear(self, messages: list[bytes]) -> None:
        returned = self._clock().monotonic
        for message in messages:
            try:
                order = directives.decode_down(message)
                if order.incarnation == self._spool.incarnation and order.node == self._name:
                    self._obey(order, returned)
            except InputError:
                self.refused += 1

    def _obey(self, order: directives.Down, returned: int) -> None:
        if isinstance(order, Pulse):
            exchange = clock.Exchange(order.sent, order.received, order.answered, returned)
            with self._timing:
                self._exchanges.append(clock.check_exchange(exchange))
                utc = clock.Estimate(order.utc_offset, order.utc_bound)
                self._utc = (utc if order.utc_bound >= 0 else None, order.sent)
        elif isinstance(order, Given):
            parts = self._collector.add(order.request, order.part, order.parts, order.data)
            self._given = (order.request, parts) if parts else self._given
        elif isinstance(order, Share):
            parts = parcels.write_weights(self._snapshot)
            for i, data in enumerate(parts):
                self._put(
                    records.Shared, request=order.request, part=i, parts=len(parts), data=data
                )
        elif isinstance(order, Stop):
            self._stopped = True
            self._orders.put(order)
        elif order.number > self._heard:
            self._heard = order.number
            self._orders.put(order)


def _copied(arrays: Arrays) -> dict[str, np.ndarray]:
    """Arrays that stay as they are now, whatever the trainer does with its own."""
    return {path: np.array(array) for path, array in arrays.items()}
