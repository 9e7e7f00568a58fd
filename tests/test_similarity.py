"""Distances between members, against values worked out by hand."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

import swarmjax.space as sp
from swarmjax import similarity
from swarmjax.matching import permute

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


def test_distances_of_genes_are_the_same_traced():
    genome = {name: jnp.asarray(values) for name, values in GENOME.items()}
    for distance in (
        similarity.genome_distance,
        similarity.architecture_distance,
        similarity.architecture_edit,
    ):
        plain, traced = distance(SPACE, GENOME), jax.jit(distance, static_argnums=0)(SPACE, genome)
        np.testing.assert_allclose(plain, traced, atol=1e-6)


def test_edits_of_architectures_by_hand():
    space = sp.Space(
        rate=sp.uniform(0, 1),
        activation=sp.choice("relu", "tanh"),
        depth=sp.structure(1, 2, 4),
        width=sp.structure(8, 16, 32),
    )
    genome = {
        "rate": np.array([0.0, 1.0, 0.5]),
        "activation": np.array([0, 0, 1]),
        "depth": np.array([0, 2, 1]),
        "width": np.array([0, 1, 2]),
    }
    # 0-1: three layers more, the one they share by half of the widths, which is half of a layer.
    # 0-2: one more, one of other width and activation; 1-2: two more, two of half the widths.
    expected = [[0, 3 + 0.25, 1 + 1], [3.25, 0, 2 + 2 * 0.75], [2, 3.5, 0]]
    np.testing.assert_allclose(similarity.architecture_edit(space, genome), expected, atol=1e-6)


def test_edits_without_depth_or_anything_else():
    rate = {"rate": np.array([0.1, 0.9])}
    assert not similarity.architecture_edit(sp.Space(rate=sp.uniform(0, 1)), rate).any()


def cka_by_definition(x, y):
    """||Y'X||^2 / (||X'X|| ||Y'Y||) of centred outputs, as in the paper."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    cross = np.linalg.norm(y.T @ x) ** 2
    return cross / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def test_cka_is_that_of_the_paper():
    outputs = np.random.default_rng(0).normal(size=(4, 9, 3))
    found = similarity.cka(outputs)
    for i in range(4):
        for j in range(4):
            expected = 1 - cka_by_definition(outputs[i], outputs[j])
            assert found[i, j] == pytest.approx(expected, abs=1e-5)


def test_cka_by_hand():
    # Centred outputs (1, -1, 0, 0) and (0, 0, 1, -1) are orthogonal; the third is the first, moved.
    outputs = np.array([[1, -1, 0, 0], [0, 0, 1, -1], [7, 3, 5, 5]])[:, :, None]
    expected = [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    np.testing.assert_allclose(similarity.cka(outputs), expected, atol=1e-6)


@given(st.integers(0, 1000), st.floats(1e-15, 1e15), st.floats(-10, 10))
def test_cka_ignores_turns_scales_and_shifts(seed, scale, shift):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(3, 16, 4))
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    other = np.concatenate([outputs[:2], scale * (outputs[2:] + shift) @ turn])
    np.testing.assert_allclose(similarity.cka(outputs), similarity.cka(other), atol=1e-4)


def test_cka_of_the_dead_and_the_constant():
    outputs = np.random.default_rng(0).normal(size=(4, 8, 2))
    outputs[1], outputs[2, 3, 0] = 5.0, np.nan
    found = similarity.cka(outputs)
    assert found[1].tolist() == [1, 0, 1, 1] and found[2].tolist() == [1, 1, 0, 1]
    np.testing.assert_allclose(found, jax.jit(similarity.cka)(outputs), atol=1e-5)


def test_cka_points_have_the_cka_as_inner_products():
    outputs = np.random.default_rng(0).normal(size=(5, 8, 2))
    outputs[3] = np.nan
    points = similarity.cka_points(outputs)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), [1, 1, 1, 0, 1], atol=1e-5)
    apart = 1 - points @ points.T
    rows = [0, 1, 2, 4]
    np.testing.assert_allclose(apart[np.ix_(rows, rows)], similarity.cka(outputs[rows]), atol=1e-5)


def test_label_points_share_what_is_predicted_alike():
    points = similarity.label_points(np.array([[0, 1, 2, 2], [0, 1, 2, 0], [-1, -1, -1, -1]]))
    expected = [[1, 0.75, 0], [0.75, 1, 0], [0, 0, 0]]
    np.testing.assert_allclose(points @ points.T, expected, atol=1e-6)


@pytest.mark.parametrize(("members", "k"), [(1200, 3), (4, 9), (1, 2), (0, 1)])
def test_nearest_by_product_finds_what_comparing_all_finds(members, k):
    points = np.random.default_rng(1).normal(size=(members, 6)).astype(np.float32)
    products = points @ points.T
    np.fill_diagonal(products, -np.inf)
    expected = np.argsort(-products, axis=1)[:, : min(k, max(members - 1, 0))]
    assert similarity.nearest_by_product(points, k).tolist() == expected.tolist()


def test_disagreement_by_hand():
    labels = np.array([[0, 1, 2, 2], [0, 1, 2, 0], [1, 0, 0, 1]])
    expected = [[0, 0.25, 1], [0.25, 0, 1], [1, 1, 0]]
    np.testing.assert_allclose(similarity.disagreement(labels), expected, atol=1e-6)
    traced = jax.jit(similarity.disagreement, static_argnums=1)(labels, 5)
    np.testing.assert_allclose(traced, expected, atol=1e-6)


def network(seed):
    rng = np.random.default_rng(seed)
    sizes = (20, 8, 8, 3)
    return {
        f"Dense_{i}": {"kernel": rng.normal(size=(a, b)), "bias": rng.normal(size=b)}
        for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False))
    }


def test_aligned_cosine_sees_through_a_reordering():
    a = network(0)
    order = {f"Dense_{i}": np.random.default_rng(i).permutation(8) for i in range(2)}
    assert similarity.aligned_cosine(a, permute(a, order)) == pytest.approx(1.0)
    negated = jax.tree.map(lambda leaf: -leaf, a)
    assert -1 <= similarity.aligned_cosine(a, negated) < 1
    assert similarity.aligned_cosine(a, jax.tree.map(np.zeros_like, a)) == 0.0


def test_aligned_cosine_is_at_least_the_plain_one():
    a, b = network(1), network(2)
    x, y = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(p)]) for p in (a, b))
    plain = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
    assert similarity.aligned_cosine(a, b) > plain
