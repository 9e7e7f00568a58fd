"""Searches without a run directory: many seeds of one policy as one swarm.

Each search has a part of the swarm to itself: its members, its budget, its policy's state. They see
the same batches. As in `swarmjax.run`, the network that is tested is the best one ever seen by
validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from paper import cases, pairs
from paper.pairs import Pairs
from swarmjax import ensemble, fitness
from swarmjax.cohorts import Costs
from swarmjax.experiment import Experiment, Setup, check
from swarmjax.frames import first_frame
from swarmjax.members import Network
from swarmjax.planner import Choices
from swarmjax.policy import check_plan, guarded
from swarmjax.result import main_metric, score_on
from swarmjax.rounds import begin, budgeted, decide, policy_bits
from swarmjax.space import Space
from swarmjax.succession import lineages
from swarmjax.tasks import Task
from swarmjax.train import LocalTrainer
from swarmjax.types import Frame, Genome, Plan, Policy

Case = cases.Case[Task, Space]


class Outcome(NamedTuple):
    """What a search found.

    Attributes:
        curve: `[rounds]` best validation score so far after each round.
        valid: best validation score.
        test: test score of that network.
        last: test score of the best network of the last round.
        ensemble: test score of the greedy ensemble of five of the last round.
        soup: test score of the lineage soup of the last round.
        lineages: of the last round.
        pairs: of the best networks of the last round; None where there is no pair.
    """

    curve: list[float]
    valid: float
    test: float
    last: float
    ensemble: float
    soup: float
    lineages: int
    pairs: Pairs | None = None


class Best(NamedTuple):
    """A network, what it was chosen by, and its validation metrics."""

    score: float
    scores: dict[str, float]
    network: Network


# More programs than one search would repay, since all seeds and policies share them; and the same
# ones wherever this is measured.
CHOICES = Choices(Costs(compile_seconds=0.3))

# Of the ensemble.
VOTES = 5


class Part(NamedTuple):
    """One search's part of a trainer: its slots count from 0.

    Attributes:
        trainer: of all searches.
        first: slot of its first member.
        genome: of all searches.
    """

    trainer: LocalTrainer
    first: int
    genome: Genome

    def networks(self, slots: Sequence[int], genome: Genome) -> Iterator[tuple[int, Network]]:
        """Slots with copies of their networks, whose genes are those of the whole genome."""
        del genome
        theirs = [self.first + slot for slot in slots]
        for slot, network in self.trainer.networks(theirs, self.genome):
            yield slot - self.first, network

    def network(self, slot: int) -> Network:
        """A copy of the network in `slot`."""
        return self.trainer.network(self.first + slot, self.genome)


class Search:
    """One case and one policy, compiled once; call it with seeds."""

    def __init__(self, case: Case, policy: Policy):
        self._case, self._policy = case, guarded(policy)
        experiment = Experiment(
            task=case.task, space=case.space, policy=policy, members=case.members,
            budget=case.budget, round_steps=case.round_steps,
        )  # fmt: skip
        self._setup: Setup = check(experiment)
        self._update = jax.jit(jax.vmap(partial(decide, policy)))

    def __call__(self, seeds: Sequence[int]) -> list[Outcome]:
        """The searches with these seeds, which draw genes, weights and decisions.

        Batches, and weights in the order of births, are drawn by the first of them.
        """
        case, count = self._case, len(seeds)
        trainer, whole = self._begin(seeds)
        remaining = np.full(count, case.budget)
        frames = self._split(whole, remaining)
        states: Any = [self._policy.init(frame) for frame in frames]
        curves: list[list[float]] = [[] for _ in seeds]
        best: list[Best | None] = [None] * count
        while remaining.any():
            plans, states = self._decide(seeds, frames, states)
            for plan, frame in zip(plans, frames, strict=True):
                check_plan(plan, frame)
            plan = _joined(plans, case.members)
            if not plan.steps.any():
                # Nobody is left alive, and nobody is revived.
                break
            whole = trainer.round(plan, whole)
            remaining = remaining - plan.steps.reshape(count, -1).sum(axis=1)
            frames = self._split(whole, remaining)
            for i, frame in enumerate(frames):
                part = Part(trainer, i * case.members, whole.genome)
                best[i] = found = _better(part, frame, best[i])
                curves[i].append(found.scores[main_metric(case.task)] if found else float("nan"))
        return [
            self._outcome(Part(trainer, i * case.members, whole.genome), frames[i], found, curve)
            for i, (found, curve) in enumerate(zip(best, curves, strict=True))
        ]

    def _begin(self, seeds: Sequence[int]) -> tuple[LocalTrainer, Frame]:
        case, members = self._case, self._case.members * len(seeds)
        experiment = replace(
            self._setup.experiment, seed=seeds[0], members=members, budget=case.budget * len(seeds)
        )
        trainer, _ = begin(self._setup._replace(experiment=experiment), CHOICES)
        drawn = [case.space.draw(seed, case.members) for seed in seeds]
        genome = jax.tree.map(lambda *leaves: np.concatenate(leaves), *drawn)
        return trainer, first_frame(self._setup.recipe, case.task, members, genome)

    def _split(self, whole: Frame, remaining: np.ndarray) -> list[Frame]:
        """Each search's Frame, with its own budget."""
        size, experiment = self._case.members, self._setup.experiment
        parts = [
            jax.tree.map(lambda leaf, i=i: leaf[i * size :][:size] if leaf.ndim else leaf, whole)
            for i in range(len(remaining))
        ]
        return [
            budgeted(part, int(left), experiment)
            for part, left in zip(parts, remaining, strict=True)
        ]

    def _decide(
        self, seeds: Sequence[int], frames: list[Frame], states: Any
    ) -> tuple[list[Plan], Any]:
        """Each search's Plan, all new in the first round, and its policy's state."""
        bits = [policy_bits(seed, int(frames[0].round) + 1) for seed in seeds]
        if self._policy.host:
            each = zip(bits, frames, states, strict=True)
            decided = [decide(self._policy, *asked) for asked in each]
            plans, states = (list(some) for some in zip(*decided, strict=True))
        else:
            asked = (_stacked(bits), _stacked(frames), _stacked(states))
            plans, states = (_unstacked(some, len(seeds)) for some in self._update(*asked))
        if frames[0].round == 0:
            fresh = np.ones(self._case.members, bool)
            plans = [plan._replace(fresh=fresh) for plan in plans]
        return plans, states

    def _outcome(self, part: Part, frame: Frame, best: Best | None, curve: list[float]) -> Outcome:
        case, setup = self._case, self._setup
        name = main_metric(case.task)
        tested = name.replace("valid", "test")
        last = _better(part, frame, None)
        curve = curve + [curve[-1]] * (-(-case.steps // case.round_steps) - len(curve))
        if best is None or last is None:
            # Whoever ends with nothing is worth nothing.
            return Outcome(curve, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
        together = ensemble.choose_ensemble(setup, part, frame, VOTES)
        return Outcome(
            curve=curve,
            valid=best.scores[name],
            test=score_on(setup, best.network, "test")[tested],
            last=score_on(setup, last.network, "test")[tested],
            ensemble=together.scores[tested],
            soup=ensemble.choose_soup(setup, part, frame).scores[tested],
            lineages=lineages(frame),
            pairs=pairs.look(setup, part, frame),
        )


def _better(part: Part, frame: Frame, best: Best | None) -> Best | None:
    """The best network of this round if it beats the one before."""
    scores = np.asarray(fitness.worst_if_dead(fitness.default(frame), frame))
    slot = int(scores.argmax())
    if scores[slot] <= (-np.inf if best is None else best.score):
        return best
    found = {name: float(values[slot]) for name, values in frame.metrics.items()}
    return Best(float(scores[slot]), found, part.network(slot))


def _joined(plans: list[Plan], members: int) -> Plan:
    """One Plan for all searches, whose slots follow one another."""
    moved = [
        plan._replace(parent=plan.parent + i * members, mate=plan.mate + i * members)
        for i, plan in enumerate(plans)
    ]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *moved)


def _stacked(trees: Any) -> Any:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def _unstacked(tree: Any, count: int) -> list[Any]:
    tree = jax.tree.map(np.asarray, tree)
    return [jax.tree.map(lambda leaf, i=i: leaf[i], tree) for i in range(count)]
