"""The nearest members by their genes, found fast where genes have options that many share."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

# Up to so many of a kind are compared all with all.
FEW = 1500
# Of more members, who is only nearly the nearest may stand for the nearest.
MANY = 20_000
# Trees are slow in more dimensions than this.
DIMENSIONS = 4
# Random directions, and members on either side in each, among whom the nearest are sought.
DIRECTIONS, BESIDE = 8, 8
# Rows that are compared at a time.
BLOCK = 4096
# Of one kind, equals are told apart by so much, at random.
NOISE = 1e-3


def nearest(points: np.ndarray, shared: np.ndarray, k: int) -> np.ndarray:
    """Indices `[N, k']` of the nearest others by city-block distance; `k'` is at most N - 1.

    Members that agree in all `shared` coordinates are of one kind. Whoever has `k` of its own kind
    nearer than any other kind can be needs to be compared with these alone. Of more than `MANY`
    members, those of one's own kind stand for the nearest of all, and in many dimensions some may
    be missed.

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
    # Whoever is nearer in another kind is not missed among so many of one's own.
    unsure = np.flatnonzero(np.isinf(reach) if members > MANY else reach > _gap(kinds))
    if unsure.size:
        found[unsure] = _search(points + noise, unsure, k)
    return found


def _among(places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices `[n, k]` of the nearest others among all, and the distance `[n]` to the last."""
    if len(places) > MANY // 2 and places.shape[1] > DIMENSIONS:
        return _beside(places, np.arange(len(places)), k)
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
    if len(points) > MANY:
        return _beside(points, rows, k)[0]
    _, near = KDTree(points).query(points[rows], k=k + 1, p=1)
    near = np.asarray(near)
    # Noise keeps points apart, so that each is the nearest to itself.
    return near[:, 1:]


def _beside(points: np.ndarray, rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Near others `[n, k]` of the `rows`, and the distance `[n]` to the last of them.

    They are the nearest among those beside a point in a few random directions: points that are
    near each other are near in every direction (Indyk and Motwani 1998).
    """
    points = points.astype(np.float32)
    turns = np.random.default_rng(0).normal(size=(points.shape[1], DIRECTIONS)).astype(np.float32)
    orders = np.argsort(points @ turns, axis=0).T
    places = np.argsort(orders, axis=1)
    reach = max(BESIDE, k)
    steps = np.concatenate([np.arange(-reach, 0), np.arange(1, reach + 1)])
    near, far = np.empty((len(rows), k), np.int64), np.empty(len(rows))
    for start in range(0, len(rows), BLOCK):
        some = rows[start : start + BLOCK]
        at = (places[:, some, None] + steps) % len(points)
        others = np.take_along_axis(orders, at.reshape(len(orders), -1), axis=1)
        others = np.sort(others.reshape(at.shape).swapaxes(0, 1).reshape(len(some), -1), axis=1)
        away = np.abs(points[others] - points[some, None]).sum(axis=2)
        # Whoever is beside in several directions counts once.
        away[:, 1:][others[:, 1:] == others[:, :-1]] = np.inf
        best = np.argpartition(away, k - 1, axis=1)[:, :k]
        near[start : start + BLOCK] = np.take_along_axis(others, best, axis=1)
        far[start : start + BLOCK] = np.take_along_axis(away, best, axis=1).max(axis=1)
    return near, far
