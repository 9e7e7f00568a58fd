from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from swarmjax import space
from swarmjax.mlp import Box, mlp
from swarmjax.models import Sizes
from swarmjax.resize import repad, resize

FEATURES, OUTPUTS = 3, 2
SPACE = space.Space(
    activation=space.choice("relu", "tanh"),
    depth=space.structure(1, 2, 3, 4),
    width=space.structure(1, 2, 3, 4, 6),
)
FAMILY = mlp(SPACE, FEATURES, OUTPUTS)
SOURCE, TARGET = Box(3, 4), Box(4, 6)
X = np.random.default_rng(0).normal(size=(7, FEATURES)).astype(np.float32)

# Parent and child: activation, depth, width.
WIDER = [("relu", 2, 2, "relu", 2, 6), ("tanh", 3, 3, "tanh", 3, 4), ("tanh", 1, 3, "tanh", 1, 6)]
SAME = [("relu", 1, 4, "relu", 1, 4), ("tanh", 3, 2, "tanh", 3, 2)]
DEEPER = [("relu", 1, 4, "relu", 4, 4), ("relu", 2, 3, "relu", 3, 3), ("relu", 3, 2, "relu", 4, 6)]
FRESH = [
    ("tanh", 1, 3, "tanh", 2, 3),
    ("relu", 1, 3, "tanh", 2, 3),
    ("tanh", 1, 3, "relu", 2, 3),
    ("relu", 3, 3, "relu", 2, 3),
    ("tanh", 2, 3, "tanh", 1, 6),
    ("relu", 3, 4, "relu", 1, 2),
]
NARROWER = [
    ("relu", 2, 4, "relu", 2, 2),
    ("tanh", 3, 3, "tanh", 3, 1),
    ("relu", 2, 4, "relu", 4, 3),
]
ACTIVATION = [("relu", 2, 3, "tanh", 2, 3)]
CASES = WIDER + SAME + DEEPER + FRESH + NARROWER + ACTIVATION


def genome_of(members):
    """Genes `[N]` of members `(activation, depth, width)`."""
    genes = zip(*members, strict=True)
    return {
        name: np.asarray([gene.options.index(value) for value in values], np.int32)
        for (name, gene), values in zip(SPACE.genes, genes, strict=True)
    }


OLD, NEW = genome_of([c[:3] for c in CASES]), genome_of([c[3:] for c in CASES])


def weights(rng, box, depth, width):
    """Padded weights and biases of one member, as after training."""
    rows = [FEATURES] + [box.width] * box.depth
    params = {}
    for i in range(box.depth + 1):
        name, columns, fits = f"Dense_{i}", box.width, width
        if i == box.depth:
            name, columns, fits = "head", OUTPUTS, OUTPUTS
        kernel, bias = np.zeros((rows[i], columns), np.float32), np.zeros(columns, np.float32)
        if name == "head" or i < depth:
            fan_in = width if i else FEATURES
            kernel[:fan_in, :fits] = rng.normal(size=(fan_in, fits))
            bias[:fits] = rng.uniform(0.1, 1.0, fits)
        params[name] = {"kernel": kernel, "bias": bias}
    return params


def stack(box, members, seed):
    rng = np.random.default_rng(seed)
    each = [weights(rng, box, depth, width) for _, depth, width in members]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *each)


@jax.jit
def grow(parents, fresh, old, new):
    def one(params, fresh, old, new):
        sizes = [FAMILY.sizes(b, SPACE.numbers(g)) for b, g in ((SOURCE, old), (TARGET, new))]
        return resize(params, fresh, *sizes, TARGET)

    return jax.vmap(one)(parents, fresh, old, new)


@partial(jax.jit, static_argnums=0)
def outputs(box, params, genome):
    def one(params, genome):
        return FAMILY.apply(box, {"params": params}, X, SPACE.numbers(genome))[0]

    return jax.vmap(one)(params, genome)


@pytest.fixture(scope="module")
def family():
    """Parents, fresh weights, children and whether they inherited, of all cases `[N]`."""
    parents = stack(SOURCE, [case[:3] for case in CASES], seed=1)
    fresh = stack(TARGET, [case[3:] for case in CASES], seed=2)
    children, kept = grow(parents, fresh, OLD, NEW)
    return jax.device_get((parents, fresh, children, kept))


def one(tree, case):
    return jax.tree.map(lambda leaf: leaf[CASES.index(case)], tree)


def assert_trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_wider_and_deeper_keep_the_function(family):
    parents, _, children, kept = family
    before, after = outputs(SOURCE, parents, OLD), outputs(TARGET, children, NEW)
    for case in WIDER + SAME + DEEPER:
        assert one(kept, case), case
        assert np.ptp(one(before, case), axis=0).min() > 1e-3, "a function worth keeping"
        np.testing.assert_allclose(one(after, case), one(before, case), rtol=1e-5, atol=1e-6)


def test_new_units_have_fresh_incoming_and_no_outgoing_weights(family):
    parents, fresh, children, _ = family
    for case in WIDER:
        (_, depth, old, _, _, new) = case
        parent, young, child = (one(tree, case) for tree in (parents, fresh, children))
        for i in range(depth):
            rows = FEATURES if i == 0 else new
            layer = child[f"Dense_{i}"]["kernel"]
            expected = young[f"Dense_{i}"]["kernel"][:rows, old:new]
            np.testing.assert_array_equal(layer[:rows, old:new], expected)
            assert (expected != 0.0).all()
            if i:
                assert (layer[old:, :old] == 0.0).all()
            np.testing.assert_array_equal(
                child[f"Dense_{i}"]["bias"][:new],
                np.append(parent[f"Dense_{i}"]["bias"][:old], np.zeros(new - old)),
            )
        assert (child["head"]["kernel"][old:] == 0.0).all()


def test_the_same_size_is_the_same_weights(family):
    parents, _, children, kept = family
    for case in SAME + ACTIVATION:
        _, depth, width = case[:3]
        assert one(kept, case)
        shape = (("depth", depth), ("width", width))
        mine = [FAMILY.crop({"params": one(tree, case)}, shape) for tree in (parents, children)]
        assert_trees_equal(*mine)


def test_other_changes_of_depth_are_fresh(family):
    _, fresh, children, kept = family
    for case in FRESH:
        assert not one(kept, case), case
        assert_trees_equal(one(children, case), one(fresh, case))


def test_padding_stays_zero(family):
    children = family[2]
    for case in CASES:
        _, depth, width = case[3:]
        params = one(children, case)
        for name, layer in params.items():
            used = name == "head" or int(name.removeprefix("Dense_")) < depth
            columns = OUTPUTS if name == "head" else width
            rows = FEATURES if name == "Dense_0" else width
            if not used:
                rows = columns = 0
            assert (layer["bias"][columns:] == 0.0).all(), (case, name)
            assert (layer["kernel"][:, columns:] == 0.0).all(), (case, name)
            assert (layer["kernel"][rows:] == 0.0).all(), (case, name)


def narrowed(params, depth, width):
    """The most important units of every hidden layer, worked out with NumPy from the last back."""
    layers = [*(params[f"Dense_{i}"] for i in range(depth)), params["head"]]
    kernels, biases = [p["kernel"] for p in layers], [p["bias"] for p in layers]
    norm = np.linalg.norm
    chosen = [
        np.argsort(-norm(kernels[i], axis=0) * norm(kernels[i + 1], axis=1), kind="stable")[:width]
        for i in range(depth)
    ]
    rows = [np.arange(FEATURES), *chosen]
    columns = [*chosen, np.arange(OUTPUTS)]
    return [(k[r][:, c], b[c]) for k, b, r, c in zip(kernels, biases, rows, columns, strict=True)]


def test_narrower_keeps_the_most_important_units(family):
    parents, _, children, kept = family
    for case in NARROWER:
        _, depth, _, _, deeper, width = case
        assert one(kept, case)
        child = one(children, case)
        expected = narrowed(one(parents, case), depth, width)
        names = [*(f"Dense_{i}" for i in range(depth)), "head"]
        for name, (kernel, bias) in zip(names, expected, strict=True):
            rows, columns = kernel.shape
            np.testing.assert_array_equal(child[name]["kernel"][:rows, :columns], kernel)
            np.testing.assert_array_equal(child[name]["bias"][:columns], bias)
        for i in range(depth, deeper):
            np.testing.assert_array_equal(
                child[f"Dense_{i}"]["kernel"][:width, :width], np.eye(width)
            )


def test_narrowing_by_hand():
    """One layer of three units, whose importances are 2 x 1, 1 x 1 and 3 x 2."""
    params = {
        "Dense_0": {"kernel": np.float32([[2, 0, 0], [0, 1, -3]]), "bias": np.float32([7, 8, 9])},
        "head": {"kernel": np.float32([[1], [-1], [2]]), "bias": np.float32([5])},
    }
    fresh = jax.tree.map(lambda leaf: np.full_like(leaf, 99), params)
    fresh["Dense_0"] = {"kernel": np.full((2, 2), 99.0), "bias": np.full(2, 99.0)}
    fresh["head"]["kernel"] = np.full((2, 1), 99.0)
    old, new = Sizes(1, 3, jnp.bool_(False)), Sizes(1, 2, jnp.bool_(False))
    child, kept = jax.jit(resize, static_argnums=4)(params, fresh, old, new, Box(1, 2))
    assert kept
    np.testing.assert_array_equal(child["Dense_0"]["kernel"], [[0, 2], [-3, 0]])
    np.testing.assert_array_equal(child["Dense_0"]["bias"], [9, 7])
    np.testing.assert_array_equal(child["head"]["kernel"], [[2], [1]])
    np.testing.assert_array_equal(child["head"]["bias"], [5])


def test_wider_then_narrower_gives_the_network_back(family):
    """New units of a last hidden layer have no outgoing weights: they are the first to go."""
    parents, _, children, _ = family
    case = WIDER[2]
    _, depth, width, _, _, wider = case
    young = weights(np.random.default_rng(3), SOURCE, depth, width)
    sizes = Sizes(depth, wider, np.bool_(False)), Sizes(depth, width, np.bool_(False))
    back, _ = jax.jit(resize, static_argnums=4)(one(children, case), young, *sizes, SOURCE)
    parent = one(parents, case)
    order = np.argsort(
        -np.linalg.norm(parent["Dense_0"]["kernel"], axis=0)
        * np.linalg.norm(parent["head"]["kernel"], axis=1)
    )
    np.testing.assert_array_equal(back["Dense_0"]["kernel"], parent["Dense_0"]["kernel"][:, order])
    np.testing.assert_array_equal(back["Dense_0"]["bias"], parent["Dense_0"]["bias"][order])
    np.testing.assert_array_equal(back["head"]["kernel"], parent["head"]["kernel"][order])


def test_one_by_one_is_the_same_as_all_at_once(family):
    """With sizes known beforehand instead of traced."""
    parents, fresh, children, kept = family
    for case in (NARROWER[2], FRESH[3]):
        activation, depth, width, other, deeper, wider = case
        old = Sizes(depth, width, np.bool_(activation == "relu"))
        new = Sizes(deeper, wider, np.bool_(other == "relu"))
        alone, inherited = resize(one(parents, case), one(fresh, case), old, new, TARGET)
        assert bool(inherited) == one(kept, case)
        assert_trees_equal(jax.device_get(alone), one(children, case))


def zeros(box):
    made = FAMILY.init(jax.random.key(0), box, {"depth": box.depth, "width": box.width})["params"]
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), made)


def numbers_of(params):
    """The weights with a different number in each."""
    ends = np.cumsum([0, *(leaf.size for leaf in jax.tree.leaves(params))])
    leaves = [
        np.arange(a, b, dtype=np.float32).reshape(leaf.shape) + 1
        for leaf, a, b in zip(jax.tree.leaves(params), ends, ends[1:], strict=False)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), leaves)


def test_padding_is_added_and_taken_away_of_weights_and_of_all_that_belongs_to_them():
    small, large = zeros(Box(1, 2)), zeros(Box(3, 6))
    held = numbers_of(small)
    vector = np.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(held)])
    total = sum(leaf.size for leaf in jax.tree.leaves(large))
    state = (optax.adam(1.0).init(held)[0]._replace(mu=held, count=np.int32(7)), vector)
    blank = (optax.adam(1.0).init(large)[0], np.zeros(total, np.float32))
    there = repad((held, state), (large, blank), held, large)
    weights, (adam, moments) = there
    wide = weights["Dense_0"]["kernel"]
    np.testing.assert_array_equal(wide[:, :2], held["Dense_0"]["kernel"])
    assert not np.asarray(wide[:, 2:]).any() and not np.asarray(weights["Dense_1"]["kernel"]).any()
    jax.tree.map(np.testing.assert_array_equal, adam.mu, weights)
    assert int(adam.count) == 7 and not any(map(np.any, jax.tree.leaves(adam.nu)))
    whole = np.concatenate([np.reshape(leaf, -1) for leaf in jax.tree.leaves(weights)])
    np.testing.assert_array_equal(moments, whole)
    back = repad(there, (small, (state[0], np.zeros_like(vector))), weights, small)
    jax.tree.map(np.testing.assert_array_equal, back, (held, state))


def test_padding_anew_is_the_same_compiled():
    small, large = zeros(Box(2, 3)), zeros(Box(3, 4))
    held = numbers_of(small)
    plain, compiled = repad(held, large, held, large), jax.jit(repad)(held, large, held, large)
    jax.tree.map(np.testing.assert_array_equal, plain, compiled)
