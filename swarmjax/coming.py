"""The coming round: what directives ask of it, and what holds from round to round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from swarmjax import fitness
from swarmjax.obey import Orders, no_orders
from swarmjax.steerable import Scene
from swarmjax.steering import Member
from swarmjax.types import Array, Frame, InputError


class Standing:
    """What holds until it is taken back, or until the network that it was asked for is gone.

    Attributes:
        birth: `[N]` network that it was asked for.
        frozen: `[N]` bool.
        pinned: `[N]` bool.
        boost: `[N]`, 1: none.
        dials: as in `Frame`.
    """

    def __init__(self, members: int, dials: dict[str, Array]):
        self.birth = np.full(members, -1)
        self.frozen, self.pinned = np.zeros(members, bool), np.zeros(members, bool)
        self.boost, self.dials = np.ones(members), dials

    def release(self, slots: Any) -> None:
        """Nothing holds for these slots any more."""
        self.frozen[slots] = self.pinned[slots] = False
        self.boost[slots] = 1.0

    def expire(self, frame: Frame) -> list[int]:
        """Releases the slots whose network is gone or dead, and tells which something held for."""
        gone = (self.birth != frame.birth) | ~np.asarray(frame.alive)
        held = gone & (self.frozen | self.pinned | (self.boost != 1))
        self.release(gone)
        return np.flatnonzero(held).tolist()


class Coming:
    """The coming round: what is asked of it so far.

    Args:
        scene: what directives are checked against.
        frame: of the round before, on the host.
        standing: changed by what holds until further notice.
        seed: of the genes of fresh networks and of coins.
        goal: by which the worst give way.
    """

    def __init__(
        self, scene: Scene, frame: Frame, standing: Standing, seed: int, goal: fitness.Goal
    ):
        self.scene, self.frame, self.standing, self.goal = scene, frame, standing, goal
        self.random = np.random.default_rng([seed, int(frame.round)])
        self.asked = no_orders(scene.space, len(frame.alive))
        self.taken: dict[int, str] = {}

    def orders(self) -> Orders:
        """All that was asked, and what holds until further notice."""
        asked, standing = self.asked, self.standing
        return asked._replace(
            held=asked.held | standing.frozen | standing.pinned,
            still=standing.frozen.copy(),
            boost=standing.boost.copy(),
        )

    def own(self, member: Member) -> int:
        """The slot of a network that outlives this round; whatever held for another ends."""
        if member.slot in self.taken:
            raise InputError(f"member {member.slot} {self.taken[member.slot]} in this round")
        if self.standing.birth[member.slot] != member.birth:
            self.standing.release(member.slot)
        self.standing.birth[member.slot] = member.birth
        return member.slot

    def take(self, slot: int, why: str) -> int:
        """Ends the network in a slot, whatever was asked for it."""
        if slot in self.taken:
            raise InputError(f"member {slot} {self.taken[slot]} in this round already")
        self.taken[slot], self.asked.held[slot] = why, False
        self.standing.release(slot)
        for values in self.asked.given.values():
            values[slot] = np.nan
        return slot

    def draw(self) -> None:
        """Draws the genes of fresh networks, once."""
        if not (self.asked.fresh | self.asked.ended).any():
            space, members = self.scene.space, len(self.frame.alive)
            drawn = space.draw(int(self.random.integers(2**32)), members)
            self.asked = self.asked._replace(drawn=drawn)

    def give(self, slot: int, genes: dict[str, float]) -> None:
        """Sets genes of whoever lives in the slot after this round."""
        for name, value in genes.items():
            self.asked.given[name][slot] = value

    def room(self, count: int, but: Sequence[int] = ()) -> list[int]:
        """So many slots for new networks: those of the dead first, then of the worst.

        Never the best, nor anyone who is held, taken or a parent, nor `but`.
        """
        frame, asked = self.frame, self.asked
        score = np.asarray(fitness.worst_if_dead(self.goal(frame), frame))
        free = ~(asked.held | self.standing.frozen | self.standing.pinned)
        best = [int(score.argmax())] if np.isfinite(score.max()) else []
        free[[*best, *self.taken, *but, *asked.source[asked.source >= 0]]] = False
        order = np.lexsort((score, frame.alive))
        slots = order[free[order]][:count].tolist()
        if len(slots) < count:
            raise InputError(f"there is room for {len(slots)} new networks only, not for {count}")
        return slots
