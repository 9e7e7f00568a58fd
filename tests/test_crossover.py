from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmjax import crossover, space
from swarmjax.mlp import Box, mlp
from swarmjax.models import Sizes

FEATURES, OUTPUTS = 3, 2
SPACE = space.Space(depth=space.structure(1, 2, 3), width=space.structure(2, 3, 5, 8))
FAMILY = mlp(SPACE, FEATURES, OUTPUTS)
BOX, WIDE = Box(3, 8), Box(3, 16)
X = np.random.default_rng(0).normal(size=(7, FEATURES)).astype(np.float32)
KEY = jax.random.key(3)
TREE = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3), "bias": jnp.arange(3.0)},
        "b": {"kernel": 1.0 + jnp.arange(3.0).reshape(3, 1), "bias": jnp.ones(1)}}  # fmt: skip
OTHER = jax.tree.map(lambda leaf: -10.0 - leaf, TREE)


def network(seed, depth, width, box=BOX):
    """Padded weights and biases of one MLP, as after training."""
    rng = np.random.default_rng(seed)
    rows, params = [FEATURES] + [box.width] * box.depth, {}
    for i in range(box.depth + 1):
        name = f"Dense_{i}" if i < box.depth else "head"
        columns, used = (box.width, width) if i < box.depth else (8, OUTPUTS)
        kernel, bias = np.zeros((rows[i], columns), np.float32), np.zeros(columns, np.float32)
        if name == "head" or i < depth:
            fan_in = width if i else FEATURES
            kernel[:fan_in, :used] = rng.normal(size=(fan_in, used))
            bias[:used] = rng.normal(size=used)
        params[name] = {"kernel": kernel, "bias": bias}
    return jax.tree.map(jnp.asarray, params)


def sizes(depth, width):
    return Sizes(np.int32(depth), np.int32(width), np.asarray(True))


def outputs(params, depth, width, box=BOX):
    numbers = {"depth": depth, "width": width}
    return np.asarray(FAMILY.apply(box, {"params": params}, X, numbers)[0])


def leaves(tree):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("operator", sorted(crossover.OF_TWO))
def test_a_child_of_one_parent_twice_is_that_parent(operator):
    a = network(1, 2, 5)
    number = crossover.OPERATORS.index(operator)
    child = crossover.combine(number, KEY, a, a, sizes(2, 5))
    assert_same(child, a)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from(("uniform", "neuron", "layer")))
def test_every_weight_comes_from_a_parent(seed, operator):
    child = crossover.SIMPLE[operator](jax.random.key(seed), TREE, OTHER)
    for x, a, b in zip(*map(leaves, (child, TREE, OTHER)), strict=True):
        assert ((x == a) | (x == b)).all()


def test_neurons_keep_their_weights_and_bias_together():
    from_a = []
    for seed in range(20):
        child = crossover.neuron(jax.random.key(seed), TREE, OTHER)["a"]
        units = (np.asarray(child["bias"]) >= 0).astype(int)
        assert ((np.asarray(child["kernel"]) >= 0) == units).all()
        from_a.append(units)
    assert 0.2 < np.mean(from_a) < 0.8 and np.ptp(from_a, axis=0).all(), "both parents serve"


def test_layers_are_inherited_whole():
    chosen = set()
    for seed in range(20):
        child = crossover.layer(jax.random.key(seed), TREE, OTHER)
        for name in TREE:
            source = TREE if np.asarray(child[name]["kernel"]).min() >= 0 else OTHER
            assert_same(child[name], source[name])
        chosen.add(tuple(np.asarray(child[name]["kernel"]).min() >= 0 for name in TREE))
    assert len(chosen) == 4


def test_mean_shrunk_and_perturbed_by_hand():
    a, b = {"w": jnp.asarray([1.0, 3.0])}, {"w": jnp.asarray([5.0, -1.0])}
    assert leaves(crossover.average(KEY, a, b))[0].tolist() == [3.0, 1.0]
    np.testing.assert_allclose(crossover.shrink(KEY, a, b)["w"], [0.8, 2.4], rtol=1e-6)
    np.testing.assert_allclose(crossover.perturb(a, b)["w"], [1.8, 2.2], rtol=1e-6)


def test_noise_is_a_tenth_of_a_leaf_and_leaves_padding_alone():
    a = {"w": jnp.concatenate([jnp.full(4000, 2.0), jnp.zeros(50)])}
    (child,) = leaves(crossover.noise(KEY, a, a))
    assert np.std(child[:4000] - 2.0) == pytest.approx(0.2, rel=0.05)
    assert (child[4000:] == 0).all()


@pytest.mark.parametrize(("depth", "width"), [(1, 5), (2, 8), (3, 3)])
def test_aligning_keeps_the_function(depth, width):
    a, b = network(1, depth, width), network(2, depth, width)
    aligned = crossover.align(a, b, sizes(depth, width))
    np.testing.assert_allclose(
        outputs(aligned, depth, width), outputs(b, depth, width), rtol=1e-4, atol=1e-5
    )
    assert max(np.abs(x - y).max() for x, y in zip(leaves(aligned), leaves(b), strict=True)) > 0.1
    for x, y in zip(leaves(aligned), leaves(network(3, depth, width)), strict=True):
        assert (x[y == 0] == 0).all(), "padding stays where it is"


@pytest.mark.parametrize(("depth", "width"), [(1, 5), (2, 8), (3, 3)])
def test_a_network_with_its_units_reordered_aligns_to_itself(depth, width):
    """The order is found again, so the mean of both is the network."""
    a = network(4, depth, width)
    rng, mixed, before = np.random.default_rng(0), {}, np.arange(FEATURES)
    for i in range(3):
        layer, order = a[f"Dense_{i}"], np.arange(8)
        if i < depth:
            order[:width] = rng.permutation(width)
        rows = np.arange(len(layer["kernel"])) if i in (0, depth) else before
        mixed[f"Dense_{i}"] = {
            "kernel": layer["kernel"][rows][:, order], "bias": layer["bias"][order]
        }  # fmt: skip
        before = order if i < depth else np.arange(8)
        if i == depth - 1:
            mixed["head"] = a["head"] | {"kernel": a["head"]["kernel"][order]}
    aligned = jax.jit(crossover.align)(a, mixed, sizes(depth, width))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), aligned, a)
    number = crossover.OPERATORS.index("aligned")
    child = crossover.combine(number, KEY, a, mixed, sizes(depth, width))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), child, a)


@pytest.mark.parametrize(("depth", "widths"), [(1, (5, 3)), (2, (8, 8)), (3, (2, 5))])
def test_the_union_is_the_mean_of_the_parents_outputs(depth, widths):
    a, b = network(1, depth, widths[0]), network(2, depth, widths[1])
    both = jax.jit(crossover.union)(a, b, np.int32(widths[0]))
    mean = (outputs(a, depth, widths[0]) + outputs(b, depth, widths[1])) / 2
    assert np.ptp(mean) > 0.1
    np.testing.assert_allclose(outputs(both, depth, sum(widths), WIDE), mean, rtol=1e-5, atol=1e-5)


def test_operators_without_units_work_on_any_tree_and_jitted():
    for number, name in enumerate(crossover.OPERATORS):
        plain = crossover.combine(number, KEY, TREE, OTHER, None)
        jitted = jax.jit(crossover.combine, static_argnums=4)(number, KEY, TREE, OTHER, None)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-6), jitted, plain)
        if name in ("clone", "union", "perturb"):
            assert_same(plain, TREE)
