"""The one selection that every view of a page shares."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import param

# Left, bottom, right and top of a part of a figure.
Window = tuple[float, float, float, float]


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


def inside(polygon: np.ndarray, points: np.ndarray) -> list[int]:
    """Which of `points` `[N, 2]` lie within the corners `[K, 2]`, by the even-odd rule."""
    x, y = points.T
    crossed = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if y0 != y1:
            across = ((y0 <= y) & (y < y1)) | ((y1 <= y) & (y < y0))
            crossed ^= across & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return np.flatnonzero(crossed).tolist()


def nearest(points: np.ndarray, x: float, y: float, reach: float = 0.03) -> int | None:
    """The point `[N, 2]` nearest to a tap, None when none is within `reach` of the whole span."""
    if not np.isfinite(points).all(axis=1).any():
        return None
    span = np.nanmax(points, axis=0) - np.nanmin(points, axis=0)
    away = (points - (x, y)) / np.where(span > 0, span, 1.0)
    distance = np.nan_to_num(np.hypot(*away.T), nan=np.inf)
    return int(distance.argmin()) if distance.min() < reach else None
