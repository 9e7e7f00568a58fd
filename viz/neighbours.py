"""The nearest members by their genes, found fast where genes have options that many share."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

# Up to so many of a kind are compared all with all.
FEW = 1500
# Of one kind, equals are told apart by so much, at random.
NOISE = 1e-3


def nearest(points: np.ndarray, shared: np.ndarray, k: int) -> np.ndarray:
    """Indices `[N, k']` of the nearest others by city-block distance; `k'` is at most N - 1.

    Members that agree in all `shared` coordinates are of one kind. Whoever has `k` of its own kind
    nearer than any other kind can be needs to be compared with these alone.

    Args:
        points: `[N, F]` coordinates.
        shared: `[F]` which of them take few values.
        k: how many are wanted.
    """
    members = len(points)
    k = max(0, min(k, members - 1))
    found = np.zeros((members, k), np.int64)
    if not k:
        return found
    noise = np.random.default_rng(0).random(points.shape) * NOISE
    alike = points[:, shared] if shared.any() else np.zeros((members, 1))
    kinds, kind = np.unique(alike, axis=0, return_inverse=True)
    reach = np.full(members, np.inf)
    own = np.argsort(kind.ravel(), kind="stable")
    for rows in np.split(own, np.cumsum(np.bincount(kind.ravel()))[:-1]):
        if len(rows) > k:
            places = noise[rows, :1] if shared.all() else (points[rows] + noise[rows])[:, ~shared]
            near, reach[rows] = _among(places, k)
            found[rows] = rows[near]
    unsure = np.flatnonzero(reach > _gap(kinds))
    if unsure.size:
        found[unsure] = _search(points + noise, unsure, k)
    return found


def _among(places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices `[n, k]` of the nearest others among all, and the distance `[n]` to the last."""
    if len(places) > FEW:
        far, near = KDTree(places).query(places, k=k + 1, p=1)
        return np.asarray(near)[:, 1:], np.asarray(far)[:, -1]
    away = cdist(places, places, "cityblock")
    np.fill_diagonal(away, np.inf)
    near = np.argpartition(away, k - 1, axis=1)[:, :k]
    return near, np.take_along_axis(away, near, axis=1).max(axis=1)


def _gap(kinds: np.ndarray) -> float:
    """Less than the distance between any two kinds: the least step of any one coordinate."""
    steps = [np.diff(np.unique(column)) for column in kinds.T]
    least = min((step.min() for step in steps if step.size), default=np.inf)
    return float(least) if len(kinds) > 1 else np.inf


def _search(points: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """The nearest of all other points to those of the `rows`."""
    _, near = KDTree(points).query(points[rows], k=k + 1, p=1)
    near = np.asarray(near)
    # Noise keeps points apart, so that each is the nearest to itself.
    return near[:, 1:]
