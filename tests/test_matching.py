"""Matching of hidden units: planted permutations, and the laws of reordering."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from swarmjax import matching
from swarmjax.mlp import MLP
from swarmjax.types import InputError

SIZES = (5, 12, 9, 3)


def network(seed, sizes=SIZES):
    rng = np.random.default_rng(seed)
    return {
        f"Dense_{i}": {
            "kernel": rng.normal(size=(a, b)).astype(np.float32),
            "bias": rng.normal(size=b).astype(np.float32),
        }
        for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False))
    }


def shuffles(seed, sizes=SIZES):
    rng = np.random.default_rng(seed)
    return {f"Dense_{i}": rng.permutation(size) for i, size in enumerate(sizes[1:-1])}


def inner(a, b):
    return sum(float(np.vdot(a[name][part], b[name][part])) for name in a for part in a[name])


def test_two_swapped_units_by_hand():
    a = {
        "Dense_0": {"kernel": np.array([[1.0, 0.0]]), "bias": np.array([0.0, 2.0])},
        "Dense_1": {"kernel": np.array([[3.0], [4.0]]), "bias": np.array([5.0])},
    }
    order = {"Dense_0": np.array([1, 0])}
    b = matching.permute(a, order)
    assert b["Dense_0"]["kernel"].tolist() == [[0.0, 1.0]]
    assert b["Dense_0"]["bias"].tolist() == [2.0, 0.0]
    assert b["Dense_1"]["kernel"].tolist() == [[4.0], [3.0]]
    assert matching.match_units(a, b)["Dense_0"].tolist() == [1, 0]


@given(st.integers(0, 1000))
def test_in_one_hidden_layer_a_planted_permutation_is_always_found(seed):
    a, planted = network(seed, (3, 8, 2)), shuffles(seed + 1, (3, 8, 2))
    found = matching.match_units(a, matching.permute(a, planted))
    assert found["Dense_0"].tolist() == np.argsort(planted["Dense_0"]).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_in_many_layers_a_planted_permutation_is_found(seed):
    # More inputs than units: else a local maximum may hold the search up.
    sizes = (30, 12, 12, 12, 3)
    a, planted = network(seed, sizes), shuffles(seed + 1, sizes)
    found = matching.match_units(a, matching.permute(a, planted))
    for name, order in planted.items():
        assert found[name].tolist() == np.argsort(order).tolist()


@given(st.integers(0, 1000), st.sampled_from([(5, 3), (4, 6, 2), SIZES, (2, 7, 7, 7, 7, 1)]))
def test_matching_permutes_and_never_fits_worse(seed, sizes):
    a, b = network(seed, sizes), network(seed + 5000, sizes)
    found = matching.match_units(a, b)
    assert list(found) == [f"Dense_{i}" for i in range(len(sizes) - 2)]
    for name, order in found.items():
        assert sorted(order) == list(range(len(a[name]["bias"])))
    assert inner(a, matching.permute(b, found)) >= inner(a, b) - 1e-4


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_reordering_keeps_the_function(activation):
    params = network(3)
    net = MLP(outputs=3, depth=2, width=12, activation=activation)
    params["Dense_1"] = network(4, (12, 12))["Dense_0"]
    params["Dense_2"] = network(5, (12, 3))["Dense_0"]
    orders = {"Dense_0": np.random.default_rng(0).permutation(12), "Dense_1": np.arange(12)[::-1]}
    x = np.random.default_rng(1).normal(size=(20, 5)).astype(np.float32)
    moved = matching.permute(params, orders)
    assert not np.array_equal(moved["Dense_1"]["kernel"], params["Dense_1"]["kernel"])
    before, after = (net.apply({"params": p}, x) for p in (params, moved))
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-5)


def test_layers_are_ordered_by_number_not_by_name():
    sizes = (2, *[3] * 11, 1)
    assert matching.layers(network(0, sizes)) == [f"Dense_{i}" for i in range(12)]


def test_what_cannot_be_matched():
    with pytest.raises(InputError, match="one architecture"):
        matching.match_units(network(0), network(0, (5, 12, 8, 3)))
    with pytest.raises(InputError, match=r"got \['head'\]"):
        matching.match_units({"head": {}}, {"head": {}})
