"""Where the members of the graph lie: near the similar ones, and near where they were."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from swarmjax import similarity
from swarmjax.space import Space
from viz.source import History

NEIGHBOURS = 3
# Up to ALL members, every pair repels; beyond, SAMPLES random ones stand for the rest.
ALL, SAMPLES = 400, 48
PUSH = 4.0
# Pull to the centre; stronger in height, because the card is wide.
GRAVITY = np.array([0.03, 0.12])
WIDE, STRETCH = 2.4, 1.6
# Shares of the view that stay empty left of and below, and right of and above the members, for
# their glyphs and names; a new view has SPARE times as much, and lasts while FILL is used.
BELOW, ABOVE = np.array([0.03, 0.06]), np.array([0.03, 0.1])
SPARE, FILL = 1.5, 0.68

View = tuple[float, float, float, float]


class Layout(NamedTuple):
    """Where the members of one round lie.

    Attributes:
        positions: `[N, 2]`.
        edges: `[E, 2]` pairs of members.
        round: the round it was made for.
        view: left, bottom, right and top of a box around all members that seldom changes.
    """

    positions: np.ndarray
    edges: np.ndarray
    round: int
    view: View


def link(history: History, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Features `[N, F]` and edges `[E, 2]` to the nearest members by `kind` of similarity."""
    genome = history.genome()
    features = np.asarray(similarity.features(history.space, genome))
    if kind == "architecture":
        # Among equal architectures the genome decides, faintly.
        shape = similarity.features(history.space, genome, history.space.structural)
        features = np.concatenate([shape, 0.05 * features], axis=1)
    # Equals choose each other at random, or they would all hang on the same one.
    noise = np.random.default_rng(0).random(features.shape) * 1e-3
    near = similarity.nearest(features + noise, NEIGHBOURS)
    pairs = np.stack([np.repeat(np.arange(len(near)), near.shape[1]), near.ravel()], axis=1)
    return features, np.unique(np.sort(pairs, axis=1), axis=0)


def kinds(space: Space) -> list[str]:
    """Similarities that can be shown; the first is the default."""
    return ["architecture", "genome"] if space.structural else ["genome"]


def arrange_all(history: History, before: dict[str, Layout] | None) -> dict[str, Layout]:
    """The layout of the latest round for every kind of similarity."""
    before = before or {}
    return {kind: arrange(history, kind, before.get(kind)) for kind in kinds(history.space)}


def arrange(history: History, kind: str, before: Layout | None = None) -> Layout:
    """The layout of the latest round: survivors near where they were, children at a parent."""
    features, edges = link(history, kind)
    number = int(history.rounds[-1])
    if before is None or len(before.positions) != history.members:
        positions = _settle(_spread(features), edges, steps=220, heat=0.3)
        return Layout(positions, edges, number, surround(positions))
    positions, churn = before.positions, 0.0
    for later in history.frames[int(np.searchsorted(history.rounds, before.round, "right")) :]:
        moved = later["parent"] != later["member"]
        jitter = np.random.default_rng(int(later["round"][0])).normal(0, 0.03, positions.shape)
        positions = positions[later["parent"]] + jitter * moved[:, None]
        churn += float(moved.mean())
    # Newcomers crowd at their parents, who then have to make room.
    heat = 0.02 + 0.2 * min(churn, 1.0)
    positions = _settle(positions, edges, steps=20, heat=heat)
    return Layout(positions, edges, number, surround(positions, before.view))


def surround(positions: np.ndarray, before: View | None = None) -> View:
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
    every = np.arange(members)[None]
    a, b = edges.T
    for step in range(steps):
        pull = positions[b] - positions[a]
        force = np.zeros_like(positions)
        for axis in range(2):
            force[:, axis] += np.bincount(a, pull[:, axis], members)
            force[:, axis] -= np.bincount(b, pull[:, axis], members)
        others = random.integers(0, members, (members, SAMPLES)) if members > ALL else every
        away = positions[:, None] - positions[others]
        distance = (away**2).sum(-1, keepdims=True) + 0.3
        force += (away / distance**1.5).sum(1) * (PUSH * members / others.shape[1])
        force -= positions * GRAVITY
        size = np.linalg.norm(force, axis=1, keepdims=True)
        cooling = heat * (1 - step / steps)
        positions = positions + force / np.maximum(size, 1e-9) * np.minimum(size * 0.2, 2) * cooling
    return positions


def pick(layout: Layout, x: float, y: float) -> int | None:
    """The member nearest to a tap, None when the tap is far from all."""
    distance = np.hypot(*(layout.positions - (x, y)).T)
    reach = 0.03 * float(np.ptp(layout.positions, axis=0).max() + 1)
    return int(distance.argmin()) if distance.min() < reach else None


def inside(layout: Layout, bounds: tuple[float, float, float, float]) -> list[int]:
    """Members within a box (left, bottom, right, top)."""
    x, y = layout.positions.T
    left, bottom, right, top = bounds
    return np.flatnonzero((x >= left) & (x <= right) & (y >= bottom) & (y <= top)).tolist()
