"""Searches without a run directory: many seeds of one policy after another in one process.

Seeds share every compiled program, since what differs is traced. As in `swarmjax.run`, the network
that is tested is the best one ever seen by validation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from swarmjax import ensemble, fitness
from swarmjax.cohorts import Costs
from swarmjax.experiment import Experiment, Setup, check
from swarmjax.policy import check_plan
from swarmjax.result import main_metric, score_on
from swarmjax.run import begin, budgeted, decide, policy_bits
from swarmjax.space import Space
from swarmjax.succession import lineages
from swarmjax.tasks import Task
from swarmjax.train import Choices, LocalTrainer, Network
from swarmjax.types import Frame, Plan, Policy, State


class Case(NamedTuple):
    """What is searched, and with how much.

    Attributes:
        task: what networks learn.
        space: genes.
        members: networks alive at a time.
        steps: member-steps, divided by the members.
        round_steps: mean steps of a member in a round.
    """

    task: Task
    space: Space
    members: int
    steps: int
    round_steps: int

    @property
    def budget(self) -> int:
        """Member-steps in all."""
        return self.members * self.steps


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
    """

    curve: list[float]
    valid: float
    test: float
    last: float
    ensemble: float
    soup: float
    lineages: int


class Best(NamedTuple):
    """A network, what it was chosen by, and its validation metrics."""

    score: float
    scores: dict[str, float]
    network: Network


# One program for all architectures, the same for every seed: seeds need no program of their own.
ONE_PROGRAM = Choices(Costs(compile_seconds=1e9))

# Of the ensemble.
VOTES = 5


class Search:
    """One case and one policy, compiled once; call it with a seed."""

    def __init__(self, case: Case, policy: Policy):
        self._case = case
        experiment = Experiment(
            task=case.task, space=case.space, policy=policy, members=case.members,
            budget=case.budget, round_steps=case.round_steps,
        )  # fmt: skip
        self._setup: Setup = check(experiment)
        update = partial(decide, policy)
        self._update: Callable[..., tuple[Plan, State]] = update if policy.host else jax.jit(update)

    def __call__(self, seed: int) -> Outcome:
        """The search with this seed, which draws genes, weights, batches and decisions."""
        case, setup = self._case, self._setup
        experiment = replace(self._setup.experiment, seed=seed)
        trainer, frame = begin(setup._replace(experiment=experiment), ONE_PROGRAM)
        state, curve, best = setup.policy.init(frame), [], None
        while frame.remaining > 0:
            plan, state = self._update(policy_bits(seed, int(frame.round) + 1), frame, state)
            plan = jax.tree.map(np.asarray, plan)
            if frame.round == 0:
                plan = plan._replace(fresh=np.ones(case.members, bool))
            if not plan.steps.any():
                # Nobody is left alive, and nobody is revived.
                break
            check_plan(plan, frame)
            after = trainer.round(plan, frame)
            frame = budgeted(after, int(after.remaining), experiment)
            best = _better(trainer, frame, best)
            curve.append(best.scores[main_metric(case.task)] if best else float("nan"))
        curve += [curve[-1]] * (-(-case.steps // case.round_steps) - len(curve))
        return _outcome(setup, trainer, frame, best, curve)


def _better(trainer: LocalTrainer, frame: Frame, best: Best | None) -> Best | None:
    """The best network of this round if it beats the one before."""
    scores = np.asarray(fitness.worst_if_dead(fitness.default(frame), frame))
    slot = int(scores.argmax())
    if scores[slot] <= (-np.inf if best is None else best.score):
        return best
    found = {name: float(values[slot]) for name, values in frame.metrics.items()}
    return Best(float(scores[slot]), found, trainer.network(slot, frame.genome))


def _outcome(setup: Setup, trainer, frame: Frame, best: Best | None, curve: list[float]) -> Outcome:
    name = main_metric(setup.task)
    tested = name.replace("valid", "test")
    last = _better(trainer, frame, None)
    if best is None or last is None:
        # Whoever ends with nothing is worth nothing.
        return Outcome(curve, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    together = ensemble.choose_ensemble(setup, trainer, frame, VOTES)
    return Outcome(
        curve=curve,
        valid=best.scores[name],
        test=score_on(setup, best.network, "test")[tested],
        last=score_on(setup, last.network, "test")[tested],
        ensemble=together.scores[tested],
        soup=ensemble.choose_soup(setup, trainer, frame).scores[tested],
        lineages=lineages(frame),
    )
