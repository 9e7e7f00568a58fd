"""The one selection that every view of a page shares."""

from __future__ import annotations

from collections.abc import Iterable

import param


class Selection(param.Parameterized):
    """Selected members, in the order in which they were picked; the order gives their colours."""

    members: tuple[int, ...] = param.Parameter(default=(), doc="slots")  # pyright: ignore
    size = param.Integer(default=0, doc="number of slots in the swarm")

    def toggle(self, member: int) -> None:
        """Adds the member, or takes it away; numbers outside the swarm change nothing."""
        if member in self.members:
            self.members = tuple(m for m in self.members if m != member)
        elif 0 <= member < self.size:
            self.members = (*self.members, member)

    def replace(self, members: Iterable[int]) -> None:
        """Selects exactly these."""
        unique = dict.fromkeys(int(member) for member in members)
        self.members = tuple(member for member in unique if 0 <= member < self.size)

    def clear(self) -> None:
        """Selects none."""
        self.members = ()
