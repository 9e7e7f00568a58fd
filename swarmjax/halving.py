"""Successive halving and Hyperband: policies that stop training whoever falls behind.

Members compete within *brackets*, groups of slots that share the quota equally. A bracket climbs
its *rungs* at even distances over the rounds of the run; with each only `1 / eta` of its members
train on. Members that were left out get no step again, unless all that were kept have died: then
the living go on. Members need not start together: a network that takes another's place takes its
standing too, if these policies stand behind those of the chain that select: what is moved after
them they learn of too late, and it is in the running again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import fitness, memory
from swarmjax.allocate import fill_unknown, integer_shares, normalise, shown, standing
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy, State


class Bracket(NamedTuple):
    """A group of slots that compete.

    Attributes:
        members: how many.
        rungs: stages between which some of them are left out.
    """

    members: int
    rungs: int


# More than any swarm can be divided into.
_MOST_RUNGS = 64


def successive_halving(
    eta: float = 3.0, rungs: int | None = None, goal: fitness.Goal | None = None
) -> Policy:
    """Equal steps for all, then for the best third, and so on: one bracket.

    The run's budget is used whole, each rung taking an equal part of it. Source: Karnin et al.
    2013, ICML; Jamieson and Talwalkar 2016, arXiv:1502.07943.

    Args:
        eta: at least 1.1; each rung keeps the best `1 / eta`, at least one.
        rungs: how many, at least 1; None for as many as leave less than `eta` members.
        goal: fitness, `fitness.default` unless given.
    """
    _check_eta(eta)
    if rungs is not None and (not isinstance(rungs, int) or not 1 <= rungs <= _MOST_RUNGS):
        raise InputError(
            f"successive_halving needs a whole number of rungs from 1 to {_MOST_RUNGS}, "
            f"got {rungs!r}"
        )

    def brackets(members: int) -> list[Bracket]:
        return [Bracket(members, rungs or 1 + _halvings(members, eta))]

    name = f"successive_halving({eta=}, {rungs=}{shown(goal)})"
    # Who trains at all is in the one bracket.
    return _halving(brackets, eta, goal or fitness.default, name)._replace(even=True)


def hyperband(eta: float = 3.0, goal: fitness.Goal | None = None) -> Policy:
    """Brackets of 1, 2, ... rungs beside one another, in case early scores mislead.

    They take part in the swarm in the proportions of Hyperband and share the quota equally, as far
    as any of their members live. Source: Li et al. 2017, Hyperband, JMLR 18.

    Args:
        eta: at least 1.1; each rung keeps the best `1 / eta` of a bracket, at least one.
        goal: fitness, `fitness.default` unless given.
    """
    _check_eta(eta)

    def brackets(members: int) -> list[Bracket]:
        most = _halvings(members, eta)
        rungs = np.arange(1, most + 2)
        wanted = np.ceil((most + 1) / rungs * eta ** (rungs - 1.0))
        ends = np.round(members * np.cumsum(wanted) / wanted.sum()).astype(int)
        sizes = np.diff(ends, prepend=0)
        return [Bracket(int(n), int(k)) for n, k in zip(sizes, rungs, strict=True) if n]

    name = f"hyperband({eta=}{shown(goal)})"
    return _halving(brackets, eta, goal or fitness.default, name)


def _halving(
    brackets: Callable[[int], list[Bracket]], eta: float, goal: fitness.Goal, name: str
) -> Policy:
    def init(frame: Frame) -> State:
        return memory.blank_memory(np.ones(frame.alive.shape, bool), frame)

    def update(key: Key, plan: Plan, frame: Frame, state: State) -> tuple[Plan, State]:
        del key
        everyone = np.ones(frame.alive.shape, bool)
        kept = memory.follow(memory.recall(state, everyone, frame), everyone, plan)
        score, living = standing(goal, plan, frame)
        groups = brackets(frame.alive.shape[0])
        kept = select(fill_unknown(score), kept, living, deal(groups), keeps(groups, eta, frame))
        # Each bracket's part is split among those it keeps.
        part = jnp.where(kept, 1.0 / jnp.maximum(jnp.sum(kept, axis=1, keepdims=True), 1), 0.0)
        kept = jnp.any(kept, axis=0)
        steps = integer_shares(normalise(jnp.sum(part, axis=0), kept), frame.quota)
        return plan._replace(steps=steps), memory.remember(kept, plan, frame)

    return Policy(init, update, name)


def keeps(groups: list[Bracket], eta: float, frame: Frame) -> jax.Array:
    """How many members each bracket keeps in the next round, `[B]` int32."""
    rounds = frame.round + -(-frame.remaining // jnp.maximum(frame.quota, 1))
    most = max(group.rungs for group in groups)
    table = [[max(1, int(n / eta**k + 1e-9)) for k in range(most)] for n, _ in groups]
    rungs = np.asarray([group.rungs for group in groups], np.int32)
    rung = jnp.minimum(frame.round * rungs // jnp.maximum(rounds, 1), rungs - 1)
    return jnp.asarray(table, jnp.int32)[jnp.arange(len(groups)), rung]


def select(score: Array, kept: Array, living: Array, member: Array, keeps: Array) -> jax.Array:
    """Who trains on in each bracket, `[B, N]`; ties go to the lower slot.

    Args:
        score: `[N]` fitness.
        kept: `[N]` who was kept so far.
        living: `[N]` who can be.
        member: `[B, N]` who is in which bracket.
        keeps: `[B]` how many to keep.
    """

    def best(mine: jax.Array, most: Array) -> jax.Array:
        able = mine & living & kept
        able = jnp.where(jnp.any(able), able, mine & living)
        return able & (fitness.ranks(jnp.where(able, score, -jnp.inf)) < most)

    return jax.vmap(best)(jnp.asarray(member), keeps)


def deal(groups: list[Bracket]) -> np.ndarray:
    """Who is in which bracket, `[B, N]`: slots dealt out evenly, since neighbours may be alike."""
    places = np.concatenate([(np.arange(n) + 0.5) / n for n, _ in groups])
    bracket = np.repeat(np.arange(len(groups)), [n for n, _ in groups])
    bracket = bracket[np.argsort(places, kind="stable")]
    return bracket[None] == np.arange(len(groups))[:, None]


def _halvings(members: int, eta: float) -> int:
    """How often `members` can be divided by `eta` until less than `eta` are left."""
    count = 0
    while members >= eta ** (count + 1) - 1e-9:
        count += 1
    return count


def _check_eta(eta: float) -> None:
    # The number of rungs, and so of divisions, grows without bound as it nears 1.
    if not 1.1 <= eta < float("inf"):
        raise InputError(f"eta must be a finite number >= 1.1, got {eta}; 3 is usual")
