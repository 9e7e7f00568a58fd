"""How alike members are: by their genes, their architectures, what they compute, or their weights.

Distances between all members are arrays `[N, N]`, 0 for alike; most of them take NumPy or traced
arrays. Genes: Gower (1971), "A general coefficient of similarity and some of its properties": each
gene adds a distance between 0 and 1 and the genes are averaged; ranges count by their place in the
range, numeric options by their place in the list, other options by whether they differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from swarmjax.matching import Params, match_units, permute
from swarmjax.space import Choice, Gene, Space
from swarmjax.types import Array, Genome, namespace

# What every hidden layer of a member has, besides its structural genes.
_OF_LAYERS = ("activation",)
# Members compared with all others at a time, which bounds the memory taken.
_ROWS = 512


def features(space: Space, genome: Genome, genes: Sequence[str] | None = None) -> Array:
    """Coordinates `[N, F]` float32 whose city-block distance is the Gower distance.

    Args:
        space: the space of the genome.
        genome: gene name -> `[N]` values in the gene's own units (choices: option index).
        genes: names that count; None: all of the space.
    """
    names = [name for name, _ in space.genes] if genes is None else list(genes)
    members = len(next(iter(genome.values()))) if genome else 0
    blocks = [_coordinates(space[name], genome[name]) for name in names]
    if not blocks:
        return np.zeros((members, 1), np.float32)
    xp = namespace(*blocks)
    return xp.concatenate(blocks, axis=1).astype(np.float32) / np.float32(len(names))


def genome_distance(space: Space, genome: Genome) -> Array:
    """Gower distance `[N, N]` in `[0, 1]` over all genes."""
    return _pairwise(features(space, genome))


def architecture_distance(space: Space, genome: Genome) -> Array:
    """Gower distance `[N, N]` in `[0, 1]` over the genes that shape the network."""
    return _pairwise(features(space, genome, space.structural))


def architecture_edit(space: Space, genome: Genome) -> Array:
    """Edit distance `[N, N]` between the lists of hidden layers, in layers.

    A layer more or less counts 1. A layer in place of another counts the Gower distance of what
    layers are made of: all structural genes but `depth`, and `activation`. The hidden layers of a
    member are alike, so this is the cheapest edit (Levenshtein 1966).
    """
    depth = _depths(space, genome)
    xp = namespace(depth)
    names = [
        name
        for name, gene in space.genes
        if name != "depth" and (gene.structural or name in _OF_LAYERS)
    ]
    more = xp.abs(depth[:, None] - depth[None, :])
    return more + xp.minimum(depth[:, None], depth[None, :]) * _pairwise(
        features(space, genome, names)
    )


def cka(outputs: Array) -> Array:
    """1 - linear CKA of outputs `[N, P, D]` for the same P inputs, `[N, N]` in `[0, 1]`.

    Members with an output that is not finite, or with the same for all inputs, are unlike all
    others. Source: Kornblith et al. 2019, Similarity of Neural Network Representations Revisited
    (arXiv:1905.00414).
    """
    points = cka_points(outputs)
    return _apart(namespace(points).clip(1.0 - points @ points.T, 0.0, 1.0))


def cka_points(outputs: Array) -> Array:
    """Points `[N, P * P]` of length 1 whose inner products are the linear CKA, as in `cka`.

    They are zero where `cka` knows nothing.
    """
    xp = namespace(outputs)
    outputs = xp.asarray(outputs, np.float32)
    finite = xp.isfinite(outputs).all(axis=(1, 2))
    centred = xp.where(finite[:, None, None], outputs, 0.0)
    # Scaled first: else squares of large outputs overflow.
    scale = xp.maximum(xp.abs(centred).max(axis=(1, 2), keepdims=True), 1e-30)
    centred = centred / scale
    centred = centred - centred.mean(axis=1, keepdims=True)
    grams = xp.einsum("npd,nqd->npq", centred, centred).reshape(len(outputs), -1)
    norms = xp.sqrt((grams * grams).sum(axis=1, keepdims=True))
    return xp.where(norms > 1e-10, grams / xp.maximum(norms, 1e-10), 0.0)


def disagreement(labels: Array, classes: int | None = None) -> Array:
    """Share `[N, N]` of the same P inputs for which two members predict different classes.

    Args:
        labels: `[N, P]` class numbers.
        classes: how many there are; needed for traced labels.
    """
    points = label_points(labels, classes)
    return _apart(namespace(points).clip(1.0 - points @ points.T, 0.0, 1.0))


def label_points(labels: Array, classes: int | None = None) -> Array:
    """Points `[N, P * classes]` whose inner products are the share of equal labels `[N, P]`.

    A label below 0 equals none; otherwise as in `disagreement`.
    """
    xp = namespace(labels)
    labels = xp.asarray(labels)
    count = int(labels.max(initial=0)) + 1 if classes is None else classes
    hits = (labels[:, :, None] == xp.arange(count)[None, None]).astype(np.float32)
    return hits.reshape(len(labels), -1) / np.float32(labels.shape[1]) ** 0.5


def aligned_cosine(a: Params, b: Params) -> float:
    """Cosine of the weights of two MLPs after the units of `b` are matched with those of `a`.

    See `matching`, also for the form of the parameters. 0 if one of them has only zeros.
    """
    moved = permute(b, match_units(a, b))
    x, y = (
        np.concatenate([np.ravel(params[name][part]) for name in a for part in ("kernel", "bias")])
        for params in (a, moved)
    )
    norm = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / norm if norm > 0 else 0.0


def nearest(points: np.ndarray, k: int) -> np.ndarray:
    """Indices `[N, k']` of the nearest other points `[N, F]` by city-block distance.

    `k'` is `k`, or `N - 1` where there are no more others. Nearest first.
    """
    # Here: it takes long to import, and a run needs it rarely.
    from scipy.spatial import KDTree

    members = len(points)
    k = max(0, min(k, members - 1))
    if k == 0:
        return np.zeros((members, 0), np.int64)
    _, found = KDTree(points).query(points, k=k + 1, p=1)
    # Among identical points the search need not list the point itself first, or at all.
    own = found == np.arange(members)[:, None]
    order = np.argsort(own, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)[:, :k]


def nearest_by_product(points: np.ndarray, k: int) -> np.ndarray:
    """Indices `[N, k']` of the others with the largest inner products; see `nearest`.

    For points of many dimensions, such as those of `cka_points`, in which trees are of no use.
    """
    members = len(points)
    k = max(0, min(k, members - 1))
    found = np.zeros((members, k), np.int64)
    for start in range(0, members if k else 0, _ROWS):
        products = points[start : start + _ROWS] @ points.T
        rows = np.arange(len(products))[:, None]
        products[rows, rows + start] = -np.inf
        best = np.argpartition(-products, k - 1, axis=1)[:, :k]
        order = np.argsort(-products[rows, best], axis=1, kind="stable")
        found[start : start + _ROWS] = best[rows, order]
    return found


def _coordinates(gene: Gene, values: Array) -> Array:
    xp = namespace(values)
    if not isinstance(gene, Choice):
        return xp.asarray(gene.encode(values))[:, None]
    index = xp.asarray(values).astype(np.int32)
    if all(isinstance(option, int | float) for option in gene.options):
        return (index / max(1, len(gene.options) - 1))[:, None]
    return xp.asarray(np.eye(len(gene.options)) / 2)[index]


def _depths(space: Space, genome: Genome) -> Array:
    """Hidden layers `[N]`; 1 where that is no gene."""
    if "depth" not in space or not isinstance(gene := space["depth"], Choice):
        return np.ones(len(next(iter(genome.values()))), np.float32)
    index = genome["depth"]
    return namespace(index).asarray(np.asarray(gene.options, np.float32))[index]


def _pairwise(points: Array) -> Array:
    if namespace(points) is np:
        from scipy.spatial.distance import cdist

        return cdist(points, points, "cityblock")
    return abs(points[:, None, :] - points[None, :, :]).sum(-1)


def _apart(distances: Array) -> Array:
    """With zeros for the distance to oneself."""
    xp = namespace(distances)
    return xp.where(xp.eye(len(distances), dtype=bool), 0.0, distances)
