"""What a benchmark of searches has searched: a task, genes, and with how much."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

TaskT = TypeVar("TaskT")
SpaceT = TypeVar("SpaceT")


class Case(NamedTuple, Generic[TaskT, SpaceT]):
    """One search, whatever trains it.

    Attributes:
        task: what networks learn; its name where other programs are told of it.
        space: genes; as JSON has them where other programs are told of them.
        members: networks alive at a time.
        steps: member-steps, divided by the members.
        round_steps: mean steps of a member in a round.
    """

    task: TaskT
    space: SpaceT
    members: int
    steps: int
    round_steps: int

    @property
    def budget(self) -> int:
        """Member-steps in all."""
        return self.members * self.steps
