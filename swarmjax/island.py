"""The trainer of one island: some members of a larger swarm, and the networks that these borrow.

It is the vectorised local trainer, told by `Order`s what to hold. Keys, batches and programs are
those of the whole swarm, so that no member's result depends on where it trains.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from swarmjax import anomaly, moving
from swarmjax.dealing import Order
from swarmjax.following import Homes
from swarmjax.frames import LaneReport
from swarmjax.members import Recipe
from swarmjax.moving import Crate
from swarmjax.planner import Choices
from swarmjax.swarm import empty_swarm
from swarmjax.tasks import Task
from swarmjax.train import LocalTrainer
from swarmjax.types import Genome
from swarmjax.watch import Wanted


class OutOfStepError(RuntimeError):
    """An island is asked for another round than the one it has come to."""


class Settings(NamedTuple):
    """What all islands of a run share.

    Attributes:
        recipe: what all members share.
        task: what they learn.
        members: of the whole swarm.
        budget: member-steps of the whole run.
        seed: of weights, batches and dropout.
        storage: as in `LocalTrainer`.
        wanted: what is kept of single steps.
        share: part of the swarm that an island is expected to hold.
        even: as in `LocalTrainer`.
    """

    recipe: Recipe
    task: Task
    members: int
    budget: int
    seed: int
    storage: str
    wanted: Wanted
    share: float
    even: bool


class Prepared(NamedTuple):
    """What was decided about programs; `notes` tell of it in a line each."""

    choices: Choices
    homes: Homes
    notes: list[str]


class Harvest(NamedTuple):
    """What an island brings in after a round.

    Attributes:
        round: finished rounds.
        slots: `[n]` its own.
        step: `[n]` steps behind their weights.
        slow: `[n]` as measured by `pace`.
        retired: `[n]` bool, whose program fails.
        reports: of all lanes; places are slots of the whole swarm.
        choices: about speed.
        seconds: that it trained.
        arrived: networks that came from other islands, and their bytes.
        used: of its machine meanwhile, as from `usage.Usage.sample`.
        stamp: when it was finished, by the island's clock: a `clock.Stamp`.
        host: where it runs.
        pid: number of its process there.
        notes: what is to be told.
    """

    round: int
    slots: np.ndarray
    step: np.ndarray
    slow: np.ndarray
    retired: np.ndarray
    reports: list[LaneReport]
    choices: Choices
    seconds: float
    arrived: tuple[int, int]
    used: dict[str, float]
    stamp: Any
    host: str
    pid: int
    notes: list[str]


class IslandTrainer(LocalTrainer):
    """The local trainer of an island; its slots are those that the last `Order` named."""

    def __init__(self, settings: Settings, choices: Choices | None = None):
        """Holds nobody yet; with `choices` nothing is tried out."""
        self._notes: list[str] = []
        super().__init__(
            settings.recipe, settings.task, members=settings.members, budget=settings.budget,
            seed=settings.seed, storage=settings.storage, choices=choices, wanted=settings.wanted,
            share=settings.share, even=settings.even, report=self._notes.append,
        )  # fmt: skip
        self._wanted = settings.wanted
        self.done, self.slots = 0, np.zeros(0, np.int64)
        self._clear()

    def _clear(self) -> None:
        self._swarm, self._detector = empty_swarm(0), anomaly.init(0)

    def decide(self, genome: Genome) -> Prepared:
        """As `prepare`; tells what was decided. From then on only this is tried out."""
        self.prepare(genome)
        return Prepared(self.choices, self.planner.homes, self._told())

    def settle(self, choices: Choices) -> None:
        """Tries nothing out any more, but takes these choices."""
        self.planner.choices, self.planner.free = choices, False

    def hold(
        self, round: int, slots: np.ndarray, birth: np.ndarray, crates: Sequence[Crate]
    ) -> None:
        """Holds `slots` `[n]` as they were after a round, and nothing else."""
        self._clear()
        self._turn(slots, birth, crates)
        self.done = round

    def pack(self, slots: np.ndarray) -> list[Crate]:
        """Copies of the networks in `slots` `[n]` of the whole swarm."""
        places = self._places(slots)
        return moving.packed(self._swarm, self.planner.store, self._detector, places, slots)

    def follow(self, order: Order, crates: Sequence[Crate]) -> Harvest:
        """Trains a round; `crates` hold what it borrows.

        Raises:
            OutOfStepError: it is not the next one.
        """
        if order.round != self.done:
            raise OutOfStepError(f"round {order.round + 1} is asked for after round {self.done}")
        begun = time.perf_counter()
        self._turn(order.slots, order.birth, crates)
        reports = self._trained(order) if order.own else []
        own = np.arange(order.own)
        slow = np.asarray(self.measured["slow"])[own] if order.own else np.zeros(0)
        retired = self.retired()[own] if order.own else np.zeros(0, bool)
        self._turn(order.slots[own], order.born[own], ())
        self.done = order.round + 1
        sent = [_sent(report, order.slots) for report in reports]
        arrived = sum(len(crate.slots) for crate in crates), moving.bytes_of(crates)
        return Harvest(
            self.done, self.slots, self._swarm.step, slow, retired, sent, self.choices,
            time.perf_counter() - begun, arrived, {}, None,
            platform.node(), os.getpid(), self._told(),
        )  # fmt: skip

    def _trained(self, order: Order) -> list[LaneReport]:
        self.planner.adopt(order.homes)
        frame: Any = _Before(np.asarray(order.round, np.int32), order.genome)
        traced = tuple(self._traced(order))
        planner, wanted = self.planner, self._wanted._replace(traced=traced)
        planner.engine = planner.engine._replace(wanted=wanted)
        return self.train(order.plan, frame, order.born)

    def _turn(self, slots: np.ndarray, birth: np.ndarray, crates: Sequence[Crate]) -> None:
        """Holds `slots` `[m]` from now on, as far as they are here or in `crates`."""
        origin = self._places(slots)
        self._swarm, self._detector = moving.relaid(self._swarm, self._detector, origin)
        self._swarm, self._detector = moving.unpacked(
            self._swarm, self.planner.store, self._detector, crates, slots
        )
        self._swarm = self._swarm._replace(birth=np.asarray(birth), births=1)
        self.slots = slots

    def _places(self, slots: np.ndarray) -> np.ndarray:
        """Where `slots` `[m]` are here; -1: nowhere."""
        order = np.argsort(self.slots)
        if not len(order):
            return np.full(len(slots), -1)
        at = np.minimum(np.searchsorted(self.slots, slots, sorter=order), len(order) - 1)
        return np.where(self.slots[order[at]] == slots, order[at], -1)

    def _traced(self, order: Order):
        """The traced members, numbered as here; no place has the number of one who is elsewhere."""
        own = order.slots[: order.own]
        for slot in self._wanted.traced:
            found = np.flatnonzero(own == slot)
            yield int(found[0]) if len(found) else -2 - slot

    def _told(self) -> list[str]:
        notes, self._notes[:] = list(self._notes), []
        return notes


class _Before(NamedTuple):
    """What of the Frame before a round an island needs."""

    round: np.ndarray
    genome: Genome


def _sent(lane: LaneReport, slots: np.ndarray) -> LaneReport:
    """A report in the numbers of the whole swarm, without what only its own process understands."""
    places = np.where(lane.places >= 0, slots[np.maximum(lane.places, 0)], -1)
    report = jax.tree.map(np.asarray, lane.report._replace(detector=None))
    return LaneReport(places, report, lane.seconds, None, lane.reckoned)
