"""How alike members are, by their genes: Gower distance, and the nearest of each.

Gower (1971), "A general coefficient of similarity and some of its properties": each gene adds a
distance between 0 and 1 and the genes are averaged. Ranges count by their place in the range,
numeric options by their place in the list, other options by whether they differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import KDTree

from swarmjax.space import Choice, Gene, Space
from swarmjax.types import Array, Genome


def features(space: Space, genome: Genome, genes: Sequence[str] | None = None) -> np.ndarray:
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
    return np.concatenate(blocks, axis=1).astype(np.float32) / np.float32(len(names))


def genome_distance(space: Space, genome: Genome) -> np.ndarray:
    """Gower distance `[N, N]` in `[0, 1]` over all genes."""
    return _pairwise(features(space, genome))


def architecture_distance(space: Space, genome: Genome) -> np.ndarray:
    """Gower distance `[N, N]` in `[0, 1]` over the genes that shape the network."""
    return _pairwise(features(space, genome, space.structural))


def nearest(points: np.ndarray, k: int) -> np.ndarray:
    """Indices `[N, k']` of the nearest other points `[N, F]` by city-block distance.

    `k'` is `k`, or `N - 1` where there are no more others. Nearest first.
    """
    members = len(points)
    k = max(0, min(k, members - 1))
    if k == 0:
        return np.zeros((members, 0), np.int64)
    _, found = KDTree(points).query(points, k=k + 1, p=1)
    # Among identical points the search need not list the point itself first, or at all.
    own = found == np.arange(members)[:, None]
    order = np.argsort(own, axis=1, kind="stable")
    return np.take_along_axis(found, order, axis=1)[:, :k]


def _coordinates(gene: Gene, values: Array) -> np.ndarray:
    if not isinstance(gene, Choice):
        return np.asarray(gene.encode(values))[:, None]
    index = np.asarray(values, np.int64)
    if all(isinstance(option, int | float) for option in gene.options):
        return (index / max(1, len(gene.options) - 1))[:, None]
    return np.eye(len(gene.options))[index] / 2


def _pairwise(points: np.ndarray) -> np.ndarray:
    return np.abs(points[:, None, :] - points[None, :, :]).sum(-1)
