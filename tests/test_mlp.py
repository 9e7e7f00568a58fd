import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax import space
from swarmjax.activations import ACTIVATIONS
from swarmjax.mlp import MLP, Box, mlp
from swarmjax.types import InputError

FEATURES, OUTPUTS, BATCH = 3, 4, 6
NAMES = tuple(ACTIVATIONS)
SPACE = space.Space(
    activation=space.choice(*NAMES),
    depth=space.structure(1, 2, 3),
    width=space.structure(2, 3, 5),
)
FAMILY = mlp(SPACE, FEATURES, OUTPUTS)
BIG = Box(3, 5)
# Every activation, every depth and every width; outputs are more than some widths.
MEMBERS = [
    {"activation": "relu", "depth": 1, "width": 2},
    {"activation": "leaky_relu", "depth": 2, "width": 3},
    {"activation": "silu", "depth": 3, "width": 2},
    {"activation": "gelu", "depth": 1, "width": 5},
    {"activation": "tanh", "depth": 2, "width": 2},
    {"activation": "relu", "depth": 3, "width": 5},
    {"activation": "relu", "depth": 2, "width": 3},
]
GENOME = {
    name: np.asarray([gene.options.index(m[name]) for m in MEMBERS], np.int32)
    for name, gene in SPACE.genes
}
KEYS = jax.vmap(jax.random.key)(np.arange(len(MEMBERS)))
X = np.random.default_rng(0).normal(size=(BATCH, FEATURES)).astype(np.float32)
Y = np.arange(BATCH) % OUTPUTS


def architecture(member):
    return (("depth", member["depth"]), ("width", member["width"]))


def padded(box, member):
    """Which entries a member uses in `box`, told layer by layer and entry by entry."""
    depth, width = member["depth"], member["width"]

    def used(layer, entry):
        head = layer == "head"
        i = box.depth if head else int(layer.removeprefix("Dense_"))
        *row, column = entry
        # The head has eight columns, whatever it needs of them.
        fits = column < (OUTPUTS if head else width) and (head or i < depth)
        return fits and all(r < (width if i else FEATURES) for r in row)

    rows = [FEATURES] + [box.width] * box.depth
    layers = [f"Dense_{i}" for i in range(box.depth)] + ["head"]
    shapes = {
        layer: {"kernel": (rows[i], box.width if layer != "head" else 8)}
        for i, layer in enumerate(layers)
    }
    return {
        layer: {
            part: np.asarray([used(layer, e) for e in np.ndindex(shape)]).reshape(shape)
            for part, shape in (kinds | {"bias": kinds["kernel"][1:]}).items()
        }
        for layer, kinds in shapes.items()
    }


@pytest.fixture(scope="module")
def big():
    """Variables `[N]` of all members in one container."""

    @jax.jit
    @jax.vmap
    def init(key, genome):
        return FAMILY.init(key, BIG, SPACE.numbers(genome))

    return jax.device_get(init(KEYS, GENOME))


def one(variables, i):
    return jax.tree.map(lambda leaf: leaf[i], variables)


@pytest.mark.parametrize("i", [0, 1, 2, 3])
def test_initial_weights_do_not_depend_on_the_container(big, i):
    """To the last bit, so that a member is the same whoever it shares a program with."""
    shape = architecture(MEMBERS[i])
    tight = FAMILY.contain(shape)
    assert tight == Box(MEMBERS[i]["depth"], MEMBERS[i]["width"])
    genome = {name: values[i] for name, values in GENOME.items()}
    own = jax.jit(lambda k, g: FAMILY.init(k, tight, SPACE.numbers(g)))(KEYS[i], genome)
    jax.tree.map(
        np.testing.assert_array_equal,
        FAMILY.crop(one(big, i), shape),
        FAMILY.crop(own, shape),
    )


def test_weights_are_zero_in_padding_and_only_there(big):
    for i, member in enumerate(MEMBERS):
        params = one(big, i)["params"]
        used = padded(BIG, member)
        for layer in used:
            kernel = params[layer]["kernel"]
            np.testing.assert_array_equal(kernel != 0.0, used[layer]["kernel"])
            assert (params[layer]["bias"] == 0.0).all()


def test_weights_keep_the_scale_of_their_own_width():
    """Uniform with variance 1 / fan-in (LeCun), the fan-in of the member and not of its box."""
    searched = space.Space(width=space.structure(16, 64), depth=space.structure(1, 2))
    family = mlp(searched, 32, 3)
    numbers = {"width": np.int32([16, 64]), "depth": np.int32([2, 2])}
    init = jax.jit(jax.vmap(lambda n: family.init(jax.random.key(0), Box(2, 64), n)))
    params = init(numbers)["params"]
    for i, width in enumerate(numbers["width"]):
        for layer, fan_in in (("Dense_0", 32), ("Dense_1", width), ("head", width)):
            kernel = params[layer]["kernel"][i]
            weights = np.asarray(kernel)[np.asarray(kernel) != 0.0]
            limit = np.sqrt(3.0 / fan_in)
            assert abs(weights).max() <= limit
            # The mean square of n draws strays by 0.9 / sqrt(n) of itself.
            assert abs(np.mean(weights**2) * fan_in - 1.0) < 4.0 / np.sqrt(weights.size)
    assert not np.array_equal(params["Dense_0"]["kernel"][1], params["Dense_1"]["kernel"][1, :32])


def test_padded_forward_is_the_flax_module(big):
    """For every activation, depth and width, with what `crop` and `build` give."""

    @jax.jit
    @jax.vmap
    def apply(variables, genome):
        return FAMILY.apply(BIG, variables, X.reshape(BATCH, 1, 3), SPACE.numbers(genome))

    # Biases start at zero; others make sure that they are used.
    nudged = jax.tree.map(np.array, big)
    for i, member in enumerate(MEMBERS):
        for layer, used in padded(BIG, member).items():
            ramp = np.linspace(-0.5, 0.4, len(used["bias"]))
            nudged["params"][layer]["bias"][i] = np.where(used["bias"], ramp, 0.0)
    outputs, extra = apply(nudged, GENOME)
    assert extra == {}
    for i, member in enumerate(MEMBERS):
        module = FAMILY.build(member)
        assert module == MLP(OUTPUTS, member["depth"], member["width"], member["activation"])
        expected = module.apply(FAMILY.crop(one(nudged, i), architecture(member)), X)
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(outputs[i], expected, rtol=1e-5, atol=1e-5)


def test_crop_gives_the_names_and_shapes_that_flax_wants(big):
    for i, member in enumerate(MEMBERS):
        wanted = jax.eval_shape(FAMILY.build(member).init, jax.random.key(0), X)
        got = FAMILY.crop(one(big, i), architecture(member))
        assert jax.tree.map(np.shape, got) == jax.tree.map(np.shape, dict(wanted))


def test_padding_gets_exactly_no_gradient(big):
    @jax.jit
    @jax.vmap
    def gradient(variables, genome):
        def loss(params):
            logits, _ = FAMILY.apply(BIG, {"params": params}, X, SPACE.numbers(genome))
            return -jax.nn.log_softmax(logits)[jnp.arange(BATCH), Y].mean()

        return jax.grad(loss)(variables["params"])

    gradients = jax.device_get(gradient(big, GENOME))
    for i, member in enumerate(MEMBERS):
        used = padded(BIG, member)
        jax.tree.map(
            lambda g, real: np.testing.assert_array_equal(g[~real], 0.0),
            one(gradients, i),
            used,
        )
        assert (one(gradients, i)["head"]["bias"][:OUTPUTS] != 0.0).all()
        assert (one(gradients, i)["Dense_0"]["kernel"][used["Dense_0"]["kernel"]] != 0.0).any()


def net(depth, width):
    return (("depth", depth), ("width", width))


def test_containers_cover_and_cost():
    assert FAMILY.cover(Box(1, 5), Box(3, 2)) == Box(3, 5)
    # Beyond one vector, widths are whole vectors.
    assert FAMILY.contain(net(2, 9)) == FAMILY.contain(net(2, 16)) == Box(2, 16)
    # Multiply-adds of 3-5-5-5-4, twice for operations, thrice for forward and backward.
    assert FAMILY.flops(Box(3, 5), net(3, 5)) == 6 * (3 * 5 + 5 * 5 + 5 * 5 + 5 * 4)
    assert FAMILY.flops(Box(3, 5), net(1, 2)) == 6 * (3 * 5 + 5 * 4), "width is padded, depth not"
    assert FAMILY.layers(BIG, SPACE.numbers({"activation": 4, "depth": 1, "width": 0})) == 2
    assert FAMILY.genes == {"activation", "depth", "width"}
    sizes = FAMILY.sizes(BIG, SPACE.numbers({"activation": 4, "depth": 1, "width": 0}))
    assert (int(sizes.depth), int(sizes.width), bool(sizes.idempotent)) == (2, 2, False)


def test_without_genes_a_usual_network():
    family = mlp(space.Space(), FEATURES, OUTPUTS)
    assert family.contain(()) == Box(2, 64)
    assert family.build({}) == MLP(OUTPUTS, 2, 64, "relu")
    sizes = family.sizes(Box(2, 64), {})
    assert (sizes.depth, sizes.width, bool(sizes.idempotent)) == (2, 64, True)


@pytest.mark.parametrize(
    ("gene", "message"),
    [
        ({"depth": space.structure(0, 2)}, "'depth' must be structure.* >= 1"),
        ({"depth": space.choice(1, 2)}, "'depth' must be structure"),
        ({"depth": space.structure(True)}, "'depth' must be structure.*whole numbers"),
        ({"width": space.structure(16, -4)}, "'width' must be structure.* >= 1"),
        ({"width": space.structure(2.5)}, "'width' must be structure.*whole numbers"),
        ({"width": space.structure("wide")}, "'width' must be structure.*wide"),
        ({"width": space.uniform(8, 64)}, "'width' must be structure.*Range"),
        ({"activation": space.choice("relu", "mish")}, "'activation'.*leaky_relu.*got.*mish"),
        ({"activation": space.choice(1, 2)}, "'activation'.*got 1, 2"),
        ({"activation": space.uniform(0, 1)}, "'activation'.*got a range"),
    ],
)
def test_bad_genes_are_named(gene, message):
    with pytest.raises(InputError, match=message):
        mlp(space.Space(**gene), FEATURES, OUTPUTS)


def test_parameters_are_counted():
    numbers = SPACE.numbers({name: np.int32(0) for name, _ in SPACE.genes})
    for container in (BIG, Box(1, 2), Box(2, 16)):
        made = jax.eval_shape(lambda c=container: FAMILY.init(jax.random.key(0), c, numbers))
        assert FAMILY.parameters(container) == sum(leaf.size for leaf in jax.tree.leaves(made))


@pytest.mark.parametrize("box", [Box(2, 3), BIG])
def test_dead_units_are_those_that_make_no_difference(box):
    """Of two layers of three units; what pads them does not count."""
    numbers = {"activation": NAMES.index("relu"), "depth": 2, "width": 3}
    variables = FAMILY.init(KEYS[0], box, numbers)
    params = variables["params"]
    alive = jnp.zeros(box.width).at[:3].set(100.0)
    for name in ("Dense_0", "Dense_1"):
        params[name]["bias"] = alive
    share = jax.jit(lambda p: FAMILY.dead(box, {"params": p}, X, numbers))
    assert share(params) == 0.0
    params["Dense_0"]["bias"] = alive.at[1].set(-1e3)
    assert share(params) == pytest.approx(1 / 6)
    params["Dense_1"]["bias"] = jnp.full(box.width, -1e6)
    assert share(params) == pytest.approx(4 / 6)
