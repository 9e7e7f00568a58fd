"""Searches among recorded learning curves: nothing is trained, and a granted step is an epoch.

A member's scores are read off the curve of its genes at the epochs it was granted so far; a fresh
member begins at epoch 0. Beyond the last point of a curve epochs are spent like any others and
change nothing. Curves have no weights: a policy that takes some over is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from swarmjax import fitness
from swarmjax.compiling import QUICK
from swarmjax.policy import check_plan, children
from swarmjax.rounds import decide, policy_bits
from swarmjax.space import Space
from swarmjax.types import Array, Frame, Genome, InputError, Plan, Policy, State

Curves = Callable[[Genome], dict[str, np.ndarray]]


class Setting(NamedTuple):
    """How much is searched with.

    Attributes:
        members: networks alive at a time.
        rounds: how many.
        quota: epochs granted in each round, at least one a member.
    """

    members: int
    rounds: int
    quota: int


class Outcome(NamedTuple):
    """What a search found.

    Attributes:
        curve: `[rounds]` best validation accuracy so far after each round.
        valid: best validation accuracy.
        test: balanced test accuracy of that network then.
        epochs: that it was trained for, none beyond the last of its curve.
        tried: networks that were trained at all.
        wasted: epochs granted beyond the last of a curve.
    """

    curve: list[float]
    valid: float
    test: float
    epochs: int
    tried: int
    wasted: int


class Best(NamedTuple):
    """A network's scores, and the epochs behind them."""

    valid: float
    test: float
    epochs: int


class Search:
    """One space, setting and policy, compiled once; call it with curves and a seed."""

    def __init__(self, space: Space, setting: Setting, policy: Policy):
        self._space, self._setting, self._policy = space, setting, policy
        self._update: Callable[..., tuple[Plan, State]] = partial(decide, policy)
        if not policy.host:
            self._update = jax.jit(self._update, compiler_options=QUICK)

    def __call__(self, curves: Curves, seed: int) -> Outcome:
        """The search with this seed, which draws genes and decisions.

        Raises:
            InputError: the policy needs weights.
        """
        reader, frame = Reader(curves, self._setting.members), self._begin(seed)
        state, best = self._policy.init(frame), []
        while frame.remaining > 0:
            plan, state = self._update(policy_bits(seed, int(frame.round) + 1), frame, state)
            plan = jax.tree.map(np.asarray, plan)
            if frame.round == 0:
                plan = plan._replace(fresh=np.ones(self._setting.members, bool))
            check_plan(plan, frame)
            if not plan.steps.any():
                raise InputError(f"policy {self._policy.name} grants no member an epoch")
            frame = reader.round(plan, frame)
            best.append(max([*best[-1:], reader.best(frame)], key=lambda found: found.valid))
        curve = [found.valid for found in best]
        return Outcome(curve, *best[-1], tried=reader.tried, wasted=reader.wasted)

    def _begin(self, seed: int) -> Frame:
        members, rounds, quota = self._setting
        genome = self._space.draw(seed, members)
        return first_frame(self._space, genome, quota, budget=rounds * quota)


class Reader:
    """Stands where a trainer stands in a run: it reads what a training would have shown.

    Attributes:
        tried: networks that took an epoch.
        wasted: epochs granted beyond the last of a curve.
    """

    def __init__(self, curves: Curves, members: int):
        self._ask, self._members = curves, members
        self._curves: dict[str, np.ndarray] = {}
        self.tried = self.wasted = 0

    def round(self, plan: Plan, frame: Frame) -> Frame:
        """The Frame after `plan`; raises InputError where a curve does not say what it would be."""
        check_weightless(plan, frame)
        self._learn(plan)
        begun = np.where(plan.fresh, 0, frame.total_steps)
        total = (begun + plan.steps).astype(np.int32)
        birth, lineage = _born(plan, frame)
        self.tried += int(((begun == 0) & (plan.steps > 0)).sum())
        self.wasted += int(np.minimum(plan.steps, np.maximum(total - self._last, 0)).sum())
        remaining = _scalar(frame.remaining - plan.steps.sum())
        return frame._replace(
            round=_scalar(frame.round + 1), remaining=remaining,
            quota=_scalar(min(frame.quota, remaining)), steps=plan.steps, total_steps=total,
            metrics={name: self._read(name, total) for name in frame.metrics},
            genome=plan.genome, birth=birth, lineage=lineage,
        )  # fmt: skip

    def best(self, frame: Frame) -> Best:
        """The member that scores best now, by the goal that policies have unless told otherwise."""
        score = np.asarray(fitness.worst_if_dead(fitness.default(frame), frame))
        slot = int(score.argmax())
        test = self._read("test_balanced_accuracy", frame.total_steps)
        epochs = min(int(frame.total_steps[slot]), self._last)
        return Best(float(frame.metrics["valid_accuracy"][slot]), float(test[slot]), epochs)

    @property
    def _last(self) -> int:
        return next(iter(self._curves.values())).shape[1]

    def _learn(self, plan: Plan) -> None:
        """Asks for the curves of all new networks at once."""
        if not plan.fresh.any():
            return
        found = self._ask({name: values[plan.fresh] for name, values in plan.genome.items()})
        for name, values in found.items():
            blank = np.full((self._members, values.shape[1]), np.nan, np.float32)
            self._curves.setdefault(name, blank)[plan.fresh] = values

    def _read(self, name: str, epochs: Array) -> np.ndarray:
        point = np.clip(epochs, 1, self._last) - 1
        values = np.take_along_axis(self._curves[name], point[:, None], axis=1)[:, 0]
        return np.where(epochs > 0, values, np.nan).astype(np.float32)


def check_weightless(plan: Plan, frame: Frame) -> None:
    """Raises InputError if `plan` takes over weights, or changes the genes of a trained network."""
    old = ~np.asarray(plan.fresh)
    mixed = children(plan) | (old & (plan.operator != 0))
    if mixed.any():
        raise InputError(
            f"member {mixed.argmax()} takes over weights, of which learning curves have none; "
            "leave exploit, breed, mutate and their like out of the policy"
        )
    for name, values in plan.genome.items():
        changed = old & (frame.total_steps > 0) & (values != frame.genome[name])
        if changed.any():
            raise InputError(
                f"gene {name} of member {changed.argmax()} changes within its training, and no "
                "curve tells what comes of that; let the policy start it fresh"
            )


def first_frame(space: Space, genome: Genome, quota: int, budget: int) -> Frame:
    """The Frame before anything was trained; every epoch costs the same."""
    members = len(next(iter(genome.values())))
    zeros, none = np.zeros(members, np.int32), np.full(members, -1, np.int32)
    unknown = np.full(members, np.nan, np.float32)
    ones = np.ones(members, np.float32)
    return Frame(
        round=_scalar(0), quota=_scalar(quota), remaining=_scalar(budget), loss=unknown,
        metrics={"valid_accuracy": unknown, "valid_loss": unknown}, gradient_norm=unknown,
        steps=zeros, total_steps=zeros, alive=np.ones(members, bool), alarm=zeros, cost=ones,
        parameters=zeros + 1, bytes=ones, seconds=unknown,
        descriptor=np.full((members, 1, 1), np.nan, np.float16),
        genome={name: np.asarray(values) for name, values in genome.items()},
        birth=none, lineage=none, space=space,
    )  # fmt: skip


def _born(plan: Plan, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Birth and lineage `[N]`: whoever is fresh is a network of its own."""
    members = len(plan.fresh)
    new = _scalar(frame.round * members) + np.arange(members, dtype=np.int32)
    return np.where(plan.fresh, new, frame.birth), np.where(plan.fresh, new, frame.lineage)


def _scalar(value: Array | int) -> np.ndarray:
    return np.asarray(value, np.int32)
