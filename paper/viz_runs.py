"""Synthetic run directories, written through the store, of a swarm that learns, copies, dies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import swarmjax.space as sp
from swarmjax import store, telemetry
from swarmjax.types import Frame, Genome, Plan

SPACE = sp.Space(
    learning_rate=sp.log_uniform(1e-4, 1e-1),
    weight_decay=sp.log_uniform(1e-6, 1e-2),
    activation=sp.choice("relu", "gelu", "silu", "tanh"),
    optimizer=sp.choice("sgd", "momentum", "adam", "adamw"),
    depth=sp.structure(1, 2, 3),
    width=sp.structure(16, 32, 64, 128),
)


class Swarm:
    """A made-up swarm: skill decides how fast accuracy rises.

    Every `pause` rounds one of `share` members, the worst, copy the best.
    """

    def __init__(
        self,
        members: int = 64,
        seed: int = 0,
        space: sp.Space = SPACE,
        pause: int = 3,
        share: int = 16,
    ):
        self.random = np.random.default_rng(seed)
        self.space, self.pause, self.share = space, pause, share
        self.round = 0
        self.members = members
        units = self.random.random((members, len(space.genes)))
        self.genome: Genome = {name: np.array(v) for name, v in space.decode(units).items()}
        self.birth = np.arange(members)
        self.lineage = np.arange(members)
        self.total = np.zeros(members, int)
        self.skill = self._skill()
        self.alive = np.ones(members, bool)

    def _skill(self) -> np.ndarray:
        points = np.asarray(self.space.encode(self.genome))
        return 1.2 - np.abs(points[:, 0] - 0.6) + 0.4 * points[:, -1]

    def step(self) -> tuple[Plan, Frame]:
        """Trains one round."""
        n, slots = self.members, np.arange(self.members)
        self.round += 1
        parent = slots.copy()
        if self.round % self.pause == 0:
            self._exploit(parent)
        steps = self.random.integers(20, 60, n)
        self.total = self.total[parent] + steps
        progress = 1 - np.exp(-self.total * self.skill / 1500)
        peak = 0.55 + 0.2 * np.clip(self.skill, 0, 1.6)
        accuracy = 0.1 + peak * np.clip(progress + self.random.normal(0, 0.008, n), 0, 1)
        loss = 2.3 * np.exp(-3 * progress * peak) + self.random.gamma(2, 0.01, n)
        if self.round == 4 and n > 4:
            self.alive[3] = False
        accuracy, loss = (np.where(self.alive, v, np.nan) for v in (accuracy, loss))
        plan = Plan(parent, slots, slots * 0, steps, slots * 0 + 1, slots < 0, self.genome)
        metrics = {"valid_loss": loss * 1.1, "valid_accuracy": accuracy}
        cost = 1e4 * (1 + self.genome.get("width", slots)) ** 1.5
        norm = self.random.lognormal(0, 0.3, n)
        parameters, seconds = np.asarray(cost / 6, np.int32), np.asarray(cost / 1e9, np.float32)
        frame = Frame(
            np.array(self.round, np.int32), np.array(0), np.array(0),
            loss, metrics, norm, steps, self.total, self.alive,
            0 * steps, cost, parameters, 12.0 * parameters, seconds,
            np.zeros((n, 2, 3), np.float16), self.genome, self.birth, self.lineage, self.space,
        )  # fmt: skip
        return plan, frame

    def _exploit(self, parent: np.ndarray) -> None:
        score = np.where(self.alive, self.total * self.skill, -1)
        order = np.argsort(score)
        cut = max(1, self.members // self.share)
        losers, winners = order[:cut], self.random.choice(order[-cut:], cut)
        losers = losers[self.alive[losers]]
        winners = winners[: len(losers)]
        parent[losers] = winners
        self.birth[losers] = self.birth.max() + 1 + np.arange(len(losers))
        self.lineage = self.lineage[parent]
        self.genome = {name: values[parent] for name, values in self.genome.items()}
        if "learning_rate" in self.genome:
            self.genome["learning_rate"][losers] *= self.random.choice([0.8, 1.25], len(losers))
            self.genome = {k: np.array(v) for k, v in self.space.clip(self.genome).items()}
        self.skill = self._skill()


class Run:
    """A run directory that grows by `advance`."""

    def __init__(
        self, directory: Path, members: int = 64, budget: int = 100_000, window: int = 0,
        **options,
    ):  # fmt: skip
        self.swarm = Swarm(members, **options)
        config = {"task": "digits", "window": window}
        self.writer = store.create(directory, config, self.swarm.space)
        self.budget, self.done = budget, 0
        self.say("running")

    def advance(self, rounds: int = 1) -> None:
        """Appends rounds as a trainer would."""
        for _ in range(rounds):
            self.store(*self.swarm.step())

    def store(self, plan: Plan, frame: Frame) -> None:
        """Appends the round that the swarm made last."""
        self.done += int(np.sum(frame.steps))
        table = telemetry.frame_table(plan, frame, 1.7e9 + self.swarm.round)
        self.writer.frame(self.swarm.round, table)
        self.say("running", float(np.nanmax(frame.metrics["valid_accuracy"])))

    def say(self, state: str, best: float | None = None) -> None:
        """Writes the status."""
        swarm = self.swarm
        self.writer.status(
            store.Status(
                state,
                swarm.round,
                self.done,
                self.budget,
                best,
                int(swarm.alive.sum()),
                swarm.members,
                0.0,
            )  # fmt: skip
        )
