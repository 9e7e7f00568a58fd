"""What was made of the latest round, for all open pages that show the same."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")

# Histories, since a page may be one behind; and things made of each, the last ones.
HISTORIES, THINGS = 2, 64


class Made:
    """The last things made of the last histories, by key."""

    def __init__(self):
        self._held: list[tuple[Any, dict[Hashable, Any]]] = []

    def __len__(self) -> int:
        """How many things are held."""
        return sum(len(things) for _, things in self._held)

    def once(self, history: Any, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, or gave for the same `key` of this very `history`."""
        things = next((things for of, things in self._held if of is history), None)
        if things is None:
            things = {}
            self._held = [*self._held, (history, things)][-HISTORIES:]
        if key not in things:
            things[key] = make()
            if len(things) > THINGS:
                del things[next(iter(things))]
        return things[key]
