"""Where the members of the graph lie: near the similar ones, and near where they were."""

from __future__ import annotations

import math
import threading
import time
from typing import NamedTuple

import numpy as np

from viz.history import History
from viz.likeness import describe, kinds, link
from viz.selection import Window

# Up to ALL members, every pair repels; beyond, random ones stand for the rest: SAMPLES, or as
# many as are WORK in all.
ALL, SAMPLES, WORK = 400, (6, 48), 150_000
# Steps of a first layout and of a later one; of many members less, but no less than the first.
FIRST, LATER = (40, 220, 1_500_000), (5, 20, 60_000)
# Edges that took longer than INSTANT seconds to find stay for PATIENCE times as long.
INSTANT, PATIENCE = 0.05, 10.0
PUSH = 4.0
# Pull to the centre; stronger in height, because the card is wide.
GRAVITY = np.array([0.03, 0.12])
WIDE, STRETCH = 2.4, 1.6
# Shares of the view that stay empty left of and below, and right of and above the members, for
# their glyphs and names; a new view has SPARE times as much, and lasts while FILL is used.
BELOW, ABOVE = np.array([0.03, 0.06]), np.array([0.03, 0.1])
SPARE, FILL = 1.7, 0.62


class Layout(NamedTuple):
    """Where the members of one round lie.

    Attributes:
        positions: `[N, 2]`.
        edges: `[E, 2]` pairs of members.
        round: the round it was made for.
        view: left, bottom, right and top of a box around all members that seldom changes.
        features: `[N, F]` by which the edges were found.
        linked: the round that the edges are of.
    """

    positions: np.ndarray
    edges: np.ndarray
    round: int
    view: Window
    features: np.ndarray
    linked: int


class Layouts:
    """The layouts of one history by kind of similarity, each made when it is first asked for.

    Kinds that were asked for in the history `before` are made at once, near where they were.
    """

    def __init__(self, history: History, before: Layouts | None = None):
        self.history = history
        self._lock = threading.Lock()
        self._before = dict(before._made) if before else {}
        # Of each kind, when it may be linked anew.
        self._due = dict(before._due) if before else {}
        self._made: dict[str, Layout] = {}
        for kind in {kinds(history)[0], *self._before} & set(kinds(history)):
            self._made[kind] = self._arrange(kind)

    def __getitem__(self, kind: str) -> Layout:
        with self._lock:
            if kind not in self._made:
                self._made[kind] = self._arrange(kind)
            return self._made[kind]

    def _arrange(self, kind: str) -> Layout:
        before, begun = self._before.get(kind), time.monotonic()
        if begun < self._due.get(kind, 0.0):
            return arrange(self.history, kind, before, relink=False)
        found = arrange(self.history, kind, before)
        ended = time.monotonic()
        if ended - begun > INSTANT:
            self._due[kind] = ended + PATIENCE * (ended - begun)
        return found


def arrange(
    history: History, kind: str, before: Layout | None = None, *, relink: bool = True
) -> Layout:
    """The layout of the latest round: survivors near where they were, children at a parent.

    Without `relink`, the edges stay what they were in the layout `before`.
    """
    number = int(history.rounds[-1])
    if before is None or len(before.positions) != history.members:
        features = describe(history, kind)
        edges = link(history, kind, features)
        positions = _settle(_spread(features), edges, steps=_few(FIRST, history.members), heat=0.3)
        return Layout(positions, edges, number, surround(positions), features, number)
    kept = before
    if relink:
        features = describe(history, kind)
        same = np.array_equal(features, before.features)
        edges = before.edges if same else link(history, kind, features)
        kept = before._replace(features=features, edges=edges, linked=number)
    positions, churn = _follow(history, before)
    if churn or kept.edges is not before.edges:
        # Newcomers crowd at their parents, who then have to make room.
        heat, steps = 0.02 + 0.2 * min(churn, 1.0), _few(LATER, history.members)
        positions = _settle(positions, kept.edges, steps=steps, heat=heat)
    view = surround(positions, before.view)
    return kept._replace(positions=positions, round=number, view=view)


def _follow(history: History, before: Layout) -> tuple[np.ndarray, float]:
    """Everyone where its network was, children at a parent; and the share of children since."""
    positions, churn = before.positions, 0.0
    for later in history.frames[int(np.searchsorted(history.rounds, before.round, "right")) :]:
        moved = later["parent"] != later["member"]
        jitter = np.random.default_rng(int(later["round"][0])).normal(0, 0.03, positions.shape)
        positions = positions[later["parent"]] + jitter * moved[:, None]
        churn += float(moved.mean())
    return positions, churn


def _few(bounds: tuple[int, int, int], members: int) -> int:
    least, most, work = bounds
    return min(most, max(least, work // members))


def surround(positions: np.ndarray, before: Window | None = None) -> Window:
    """The view of a layout: that of `before` while it holds all members and they fill it."""
    low, high = positions.min(0), positions.max(0)
    middle, size = (low + high) / 2, np.maximum(high - low, 1.0)
    # The card is wide; up to a factor of STRETCH, the layout is stretched to fill it.
    size = np.maximum(size, size[::-1] * (WIDE / STRETCH, 1 / WIDE / STRETCH))
    if before is not None:
        left, bottom, right, top = before
        seen = np.array([right - left, top - bottom])
        holds = low - seen * BELOW >= (left, bottom), high + seen * ABOVE <= (right, top)
        if np.all(holds) and (size > FILL * seen).all():
            return before
    whole = size / (1 - SPARE * (BELOW + ABOVE))
    left, bottom = middle - size / 2 - SPARE * whole * BELOW
    right, top = middle + size / 2 + SPARE * whole * ABOVE
    return float(left), float(bottom), float(right), float(top)


def _spread(features: np.ndarray) -> np.ndarray:
    """A first guess `[N, 2]`: the two widest directions of the features, with some noise."""
    centred = features - features.mean(0)
    noise = np.random.default_rng(0).normal(0, 0.3, (len(features), 2))
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]
    flat = centred @ axes.T
    wide = flat / max(float(np.abs(flat).max()), 1e-6) * math.sqrt(len(features)) / 2
    return np.pad(wide, ((0, 0), (0, 2 - wide.shape[1]))) + noise


def _settle(positions: np.ndarray, edges: np.ndarray, steps: int, heat: float) -> np.ndarray:
    """Moves the nodes down the gradient of attraction along edges and repulsion from samples.

    The unit of length is the wished distance between neighbours. Repulsion is estimated from a
    few random others per step (negative sampling, as in Tang et al. 2016, LargeVis).
    """
    random = np.random.default_rng(len(edges))
    members = len(positions)
    every, sampled = np.arange(members)[None], _few((*SAMPLES, WORK), members)
    a, b = edges.T
    for step in range(steps):
        pull = positions[b] - positions[a]
        force = np.zeros_like(positions)
        for axis in range(2):
            force[:, axis] += np.bincount(a, pull[:, axis], members)
            force[:, axis] -= np.bincount(b, pull[:, axis], members)
        others = random.integers(0, members, (members, sampled)) if members > ALL else every
        away = positions[:, None] - positions[others]
        distance = (away**2).sum(-1, keepdims=True) + 0.3
        force += (away / distance**1.5).sum(1) * (PUSH * members / others.shape[1])
        force -= positions * GRAVITY
        size = np.linalg.norm(force, axis=1, keepdims=True)
        cooling = heat * (1 - step / steps)
        positions = positions + force / np.maximum(size, 1e-9) * np.minimum(size * 0.2, 2) * cooling
    return positions
