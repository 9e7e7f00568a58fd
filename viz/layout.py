"""Where the members of the graph lie: near the similar ones, and near where they were."""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np

from swarmjax import similarity
from viz.source import History

NEIGHBOURS = 3
# Dimensions in which outputs are compared.
FEATURES = 128
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


class Layouts:
    """The layouts of one history by kind of similarity, each made when it is first asked for.

    Kinds that were asked for in the history `before` are made at once, near where they were.
    """

    def __init__(self, history: History, before: Layouts | None = None):
        self.history = history
        self._lock = threading.Lock()
        self._before = dict(before._made) if before else {}
        wanted = {kinds(history)[0], *self._before} & set(kinds(history))
        self._made = {kind: arrange(history, kind, self._before.get(kind)) for kind in wanted}

    def __getitem__(self, kind: str) -> Layout:
        with self._lock:
            if kind not in self._made:
                self._made[kind] = arrange(self.history, kind, self._before.get(kind))
            return self._made[kind]


def link(history: History, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Features `[N, F]` and edges `[E, 2]` to the nearest members by `kind` of similarity."""
    random = np.random.default_rng(0)
    if kind in ("predictions", "outputs"):
        features = points(history, kind)
        # Equals choose each other at random, or they would all hang on the same one.
        noise = random.normal(0, 1e-4, features.shape).astype(np.float32)
        near = similarity.nearest_by_product(features + noise, NEIGHBOURS)
        # The dead are alike only in that nothing is known.
        near = near[(features != 0).any(axis=1)]
        known = np.flatnonzero((features != 0).any(axis=1))
    else:
        features = of_genes(history, kind)
        near = similarity.nearest(features + random.random(features.shape) * 1e-3, NEIGHBOURS)
        known = np.arange(len(near))
    pairs = np.stack([np.repeat(known, near.shape[1]), near.ravel()], axis=1)
    return features, np.unique(np.sort(pairs, axis=1), axis=0)


def of_genes(history: History, kind: str) -> np.ndarray:
    """Features `[N, F]` whose city-block distance says how unlike genomes or architectures are."""
    genome = history.genome()
    features = np.asarray(similarity.features(history.space, genome))
    if kind != "architecture":
        return features
    # Among equal architectures the genome decides, faintly.
    shape = similarity.features(history.space, genome, history.space.structural)
    return np.concatenate([shape, 0.05 * features], axis=1)


def points(history: History, kind: str) -> np.ndarray:
    """Points `[N, F]` whose inner products say how alike outputs or predictions are; 0: unknown.

    Of many dimensions, random ones are kept, in which inner products are nearly the same (Johnson
    and Lindenstrauss 1984).
    """
    outputs = history.descriptor
    assert outputs is not None
    known = np.isfinite(outputs).all(axis=(1, 2)) & history.last("alive")
    outputs = np.where(known[:, None, None], outputs, np.nan)
    if kind == "predictions":
        labels = np.where(known[:, None], np.nan_to_num(outputs).argmax(axis=2), -1)
        found = similarity.label_points(labels, outputs.shape[2])
    else:
        found = similarity.cka_points(outputs)
    found = np.asarray(found, np.float32)
    if found.shape[1] <= FEATURES:
        return found
    turn = np.random.default_rng(0).normal(0, FEATURES**-0.5, (found.shape[1], FEATURES))
    return found @ turn.astype(np.float32)


def kinds(history: History) -> list[str]:
    """Similarities that can be shown; the first is the default."""
    known = ["architecture", "genome"] if history.space.structural else ["genome"]
    if history.descriptor is not None:
        known += ["predictions"] if "valid_accuracy" in history.names else []
        known += ["outputs"]
    return known


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
