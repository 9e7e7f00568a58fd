"""Distances between members, against values worked out by hand."""

import numpy as np

import swarmjax.space as sp
from swarmjax import similarity

SPACE = sp.Space(
    learning_rate=sp.log_uniform(1e-4, 1e-2),
    activation=sp.choice("relu", "gelu", "tanh"),
    depth=sp.structure(1, 2, 3),
)
GENOME = {
    "learning_rate": np.array([1e-4, 1e-3, 1e-2], np.float32),
    "activation": np.array([0, 1, 0]),
    "depth": np.array([0, 0, 2]),
}


def test_genome_distance_is_gower():
    found = similarity.genome_distance(SPACE, GENOME)
    # 0-1: half the log range, another activation, same depth; 0-2: the range, same, both ends.
    expected = np.array([[0, 1.5, 2], [1.5, 0, 2.5], [2, 2.5, 0]]) / 3
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_architecture_distance_sees_only_structure():
    found = similarity.architecture_distance(SPACE, GENOME)
    np.testing.assert_allclose(found, [[0, 0, 1], [0, 0, 1], [1, 1, 0]], atol=1e-6)


def test_without_structure_all_architectures_are_one():
    space = sp.Space(rate=sp.uniform(0, 1))
    genome = {"rate": np.array([0.1, 0.9])}
    assert not similarity.architecture_distance(space, genome).any()


def test_one_option_adds_nothing():
    space = sp.Space(depth=sp.structure(2), rate=sp.uniform(0, 1))
    genome = {"depth": np.array([0, 0]), "rate": np.array([0.0, 1.0])}
    np.testing.assert_allclose(similarity.genome_distance(space, genome), [[0, 0.5], [0.5, 0]])


def test_nearest_orders_others():
    points = np.array([[0.0], [1.0], [3.0]])
    assert similarity.nearest(points, 2).tolist() == [[1, 2], [0, 2], [1, 0]]


def test_nearest_never_returns_itself_among_duplicates():
    found = similarity.nearest(np.zeros((50, 2)), 4)
    assert found.shape == (50, 4)
    assert (found != np.arange(50)[:, None]).all()


def test_nearest_gives_what_there_is():
    assert similarity.nearest(np.zeros((1, 2)), 3).shape == (1, 0)
    assert similarity.nearest(np.array([[0.0], [1.0]]), 3).tolist() == [[1], [0]]
