"""What members are alike by, and who is nearest to whom."""

from __future__ import annotations

import numpy as np

from swarmjax import similarity
from swarmjax.space import Choice
from viz import neighbours
from viz.history import History

NEIGHBOURS = 3
# Kinds in which who is near has a large inner product.
PRODUCTS = ("predictions", "outputs")
# Dimensions in which outputs are compared.
FEATURES = 128


def kinds(history: History) -> list[str]:
    """Similarities that can be shown; the first is the default."""
    known = ["architecture", "genome"] if history.space.structural else ["genome"]
    if history.descriptor is not None:
        known += ["predictions"] if "valid_accuracy" in history.names else []
        known += ["outputs"]
    return known


def describe(history: History, kind: str) -> np.ndarray:
    """Features `[N, F]` that members are alike by."""
    return points(history, kind) if kind in PRODUCTS else of_genes(history, kind)[0]


def link(history: History, kind: str, features: np.ndarray) -> np.ndarray:
    """Edges `[E, 2]` to the nearest members by `kind` of similarity."""
    if kind in PRODUCTS:
        # Equals choose each other at random, or they would all hang on the same one.
        noise = np.random.default_rng(0).normal(0, 1e-4, features.shape).astype(np.float32)
        near = similarity.nearest_by_product(features + noise, NEIGHBOURS)
        # The dead are alike only in that nothing is known.
        known = np.flatnonzero((features != 0).any(axis=1))
        near = near[known]
    else:
        near = neighbours.nearest(features, of_genes(history, kind)[1], NEIGHBOURS)
        known = np.arange(len(near))
    pairs = np.stack([np.repeat(known, near.shape[1]), near.ravel()], axis=1)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def of_genes(history: History, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Features `[N, F]` whose city-block distance says how unlike genomes or architectures are.

    And which of them, `[F]`, many members share.
    """
    genome, space = history.genome(), history.space
    features = np.asarray(similarity.features(space, genome))
    options = [name for name, gene in space.genes if isinstance(gene, Choice)]
    wide = {name: np.asarray(similarity.features(space, genome, [name])) for name in genome}
    each = [np.full(wide[name].shape[1], name in options) for name, _ in space.genes]
    shared = np.concatenate(each) if each else np.zeros(1, bool)
    if kind != "architecture":
        return features, shared
    # Among equal architectures the genome decides, faintly.
    shape = np.asarray(similarity.features(space, genome, space.structural))
    both = np.concatenate([shape, 0.05 * features], axis=1)
    return both, np.concatenate([np.ones(shape.shape[1], bool), shared])


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
