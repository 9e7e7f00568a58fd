import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from swarmjax import space
from swarmjax.activations import ACTIVATIONS
from swarmjax.cnn import CNN, ConvBox, cnn, image_shape
from swarmjax.optimizers import KINDS, make_rule, unified
from swarmjax.types import InputError

OUTPUTS, BATCH = 3, 4
SPACE = space.Space(
    activation=space.choice(*ACTIVATIONS),
    depth=space.structure(1, 2, 3),
    width=space.structure(2, 4),
    kernel=space.structure(1, 3, 5),
)
FAMILY = cnn(SPACE, (6, 5, 2), OUTPUTS)
BIG = ConvBox(3, 4, 5)
MEMBERS = [
    {"activation": "relu", "depth": 1, "width": 2, "kernel": 3},
    {"activation": "leaky_relu", "depth": 2, "width": 4, "kernel": 1},
    {"activation": "silu", "depth": 3, "width": 2, "kernel": 3},
    {"activation": "gelu", "depth": 2, "width": 2, "kernel": 5},
    {"activation": "tanh", "depth": 3, "width": 4, "kernel": 5},
]
GENOME = {
    name: np.asarray([gene.options.index(m[name]) for m in MEMBERS], np.int32)
    for name, gene in SPACE.genes
}
KEYS = jax.vmap(jax.random.key)(np.arange(len(MEMBERS)))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(BATCH, 6, 5, 2)).astype(np.float32)
Y = np.arange(BATCH) % OUTPUTS


def architecture(member):
    return tuple((name, member[name]) for name in SPACE.structural)


def used(member):
    """Which entries a member uses in the largest container."""
    depth, width, size = member["depth"], member["width"], member["kernel"]
    out = {}
    for i in range(3):
        rows = width if i else 2
        kernel = np.zeros((5, 5, 4 if i else 2, 4), bool)
        edge = (5 - size) // 2
        kernel[edge : 5 - edge, edge : 5 - edge, :rows, :width] = i < depth
        out[f"Conv_{i}"] = {"kernel": kernel, "bias": (np.arange(4) < width) & (i < depth)}
    head = np.zeros((9, 4, OUTPUTS), bool)
    head[:, :width] = True
    return out | {"head": {"kernel": head, "bias": np.ones(OUTPUTS, bool)}}


def one(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.fixture(scope="module")
def big():
    """Variables `[N]` of all members in one container, with biases that are not zero."""
    init = jax.jit(jax.vmap(lambda key, genes: FAMILY.init(key, BIG, SPACE.numbers(genes))))
    variables = jax.tree.map(np.array, init(KEYS, GENOME))
    for i, member in enumerate(MEMBERS):
        for layer, parts in used(member).items():
            np.testing.assert_array_equal(variables["params"][layer]["bias"][i], 0.0)
            variables["params"][layer]["bias"][i] = np.where(parts["bias"], 0.3, 0.0)
    return variables


def outputs(params, genes, x, deepest=None):
    return FAMILY.apply(BIG, {"params": params}, x, SPACE.numbers(genes), deepest=deepest)[0]


def objective(logits):
    return -jax.nn.log_softmax(logits)[jnp.arange(BATCH), Y].mean()


@pytest.fixture(scope="module")
def padded(big):
    """Outputs and gradients `[N]` of all members in one container."""

    def pull(params, genes):
        logits = outputs(params, genes, X)
        return logits, jax.grad(lambda p: objective(outputs(p, genes, X)))(params)

    return jax.device_get(jax.jit(jax.vmap(pull))(big["params"], GENOME))


@pytest.mark.parametrize("i", range(len(MEMBERS)))
def test_padded_outputs_and_gradients_are_those_of_the_flax_module(big, padded, i):
    """The module convolves by nn.Conv, on exactly the member's own weights."""
    module = FAMILY.build(MEMBERS[i])
    assert isinstance(module, CNN)
    shape = architecture(MEMBERS[i])

    @jax.jit
    def plain(params):
        logits = module.apply({"params": params}, X)
        return logits, jax.grad(lambda p: objective(module.apply({"params": p}, X)))(params)

    own = FAMILY.crop(one(big, i), shape)["params"]
    logits, gradient = plain(own)
    assert np.ptp(logits) > 0.05
    np.testing.assert_allclose(padded[0][i], logits, rtol=1e-4, atol=1e-5)
    cropped = FAMILY.crop({"params": one(padded[1], i)}, shape)["params"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), cropped, gradient
    )


def test_padding_is_zero_and_gets_exactly_no_gradient(big, padded):
    for i, member in enumerate(MEMBERS):
        for tree in (one(big["params"], i), one(padded[1], i)):
            jax.tree.map(
                lambda a, real: np.testing.assert_array_equal(a[~real], 0.0), tree, used(member)
            )
        jax.tree.map(
            lambda a, real: np.testing.assert_array_equal(a != 0, real),
            one(big["params"], i),
            used(member),
        )
        assert (one(padded[1], i)["Conv_0"]["kernel"][used(member)["Conv_0"]["kernel"]] != 0).any()


def test_padding_stays_exactly_zero_under_training(big):
    """With momentum and weight decay, which must not leak in either."""
    optimizer = unified(make_rule(KINDS["adamw"], 0.9), 0.05, 0.1)

    @jax.jit
    @jax.vmap
    def train(params, genes):
        def step(_, carry):
            params, state = carry
            gradient = jax.grad(lambda p: objective(outputs(p, genes, X)))(params)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state

        return jax.lax.fori_loop(0, 5, step, (params, optimizer.init(params)))[0]

    after = jax.device_get(train(big["params"], GENOME))
    for i, member in enumerate(MEMBERS):
        jax.tree.map(
            lambda a, real: np.testing.assert_array_equal(a != 0, real), one(after, i), used(member)
        )


@pytest.mark.parametrize("i", [0, 2])
def test_initial_weights_do_not_depend_on_the_container(i):
    tight = FAMILY.contain(architecture(MEMBERS[i]))
    assert tight == ConvBox(*(MEMBERS[i][name] for name in ConvBox._fields))
    genes = one(GENOME, i)
    both = jax.jit(lambda k: [FAMILY.init(k, box, SPACE.numbers(genes)) for box in (tight, BIG)])
    mine, padded = (FAMILY.crop(each, architecture(MEMBERS[i])) for each in both(KEYS[i]))
    jax.tree.map(np.testing.assert_array_equal, mine, padded)


def test_weights_keep_the_scale_of_their_own_size():
    """Variance 1 / fan-in, the fan-in of the member and not of its container."""
    family = cnn(space.Space(width=space.structure(12, 24)), (8, 8), 2)
    box = ConvBox(2, 24, 3)
    params = jax.jit(lambda: family.init(KEYS[0], box, {"width": 12}))()["params"]
    for name, fan_in in (("Conv_0", 9), ("Conv_1", 9 * 12), ("head", 16 * 12)):
        weights = np.asarray(params[name]["kernel"])
        weights = weights[weights != 0]
        assert abs(weights).max() <= np.sqrt(3 / fan_in)
        assert abs(np.mean(weights**2) * fan_in - 1) < 4 / np.sqrt(weights.size)


def test_layers_beyond_the_deepest_are_skipped(big):
    shallow = [0, 1, 3]
    params, genes = one(big["params"], np.array(shallow)), one(GENOME, np.array(shallow))
    poison = jax.tree.map(np.copy, params)
    poison["Conv_2"]["kernel"][:] = np.nan
    run = jax.jit(lambda p, deepest: jax.vmap(outputs, (0, 0, None, None))(p, genes, X, deepest))
    np.testing.assert_array_equal(run(poison, 2), run(params, 3))
    assert np.isnan(run(poison, 3)).any(axis=(1, 2)).sum() == 0, "where() chooses, not adds"
    layers = [int(FAMILY.layers(BIG, SPACE.numbers(one(GENOME, i)))) for i in range(len(MEMBERS))]
    assert layers == [member["depth"] for member in MEMBERS]


def test_crop_gives_the_names_and_shapes_that_flax_wants(big):
    for i, member in enumerate(MEMBERS):
        wanted = jax.eval_shape(FAMILY.build(member).init, jax.random.key(0), X)
        got = FAMILY.crop(one(big, i), architecture(member))
        assert jax.tree.map(np.shape, got) == jax.tree.map(np.shape, dict(wanted))


def net(depth, width, kernel):
    return (("depth", depth), ("width", width), ("kernel", kernel))


def test_containers_cover_and_cost():
    assert FAMILY.cover(ConvBox(1, 4, 3), ConvBox(3, 2, 1)) == ConvBox(3, 4, 3)
    # 6 x 5 pixels of 2 channels, then 3 x 3 of 4, then 9 cells of 4.
    first, later, head = 30 * 25 * 2 * 4, 9 * 25 * 4 * 4, 9 * 4 * OUTPUTS
    assert FAMILY.flops(BIG, net(3, 4, 5)) == 6 * (first + 2 * later + head)
    assert FAMILY.flops(BIG, net(1, 2, 1)) == 6 * (first + head), "depth is not padded"
    assert FAMILY.genes == {"activation", "depth", "width", "kernel"}
    assert FAMILY.sizes is None


def test_without_genes_a_usual_network_of_flat_images():
    family = cnn(space.Space(), (64,), OUTPUTS)
    assert family.contain(()) == ConvBox(2, 16, 3)
    module = family.build({})
    assert module == CNN(OUTPUTS, 2, 16, 3, "relu")
    x = RNG.normal(size=(2, 64)).astype(np.float32)
    variables = family.init(KEYS[0], ConvBox(2, 16, 3), {})
    mine, _ = family.apply(ConvBox(2, 16, 3), variables, x, {})
    plain = module.apply(family.crop(variables, ()), x.reshape(2, 8, 8, 1))
    np.testing.assert_allclose(mine, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(63,), (), (2, 2, 2, 2), (0,), (8, 0)])
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(InputError, match="a CNN needs images.*got inputs of shape"):
        cnn(space.Space(), shape, OUTPUTS)


def test_image_shapes():
    assert image_shape((64,)) == (8, 8, 1)
    assert image_shape((3, 4)) == (3, 4, 1)
    assert image_shape((3, 4, 2)) == (3, 4, 2)


@pytest.mark.parametrize(
    ("gene", "message"),
    [
        ({"depth": space.structure(0, 2)}, "'depth' must be structure.* >= 1"),
        ({"width": space.choice(1, 2)}, "'width' must be structure"),
        ({"kernel": space.structure(3, 4)}, "'kernel' must be structure.*among 1, 3, 5"),
        ({"activation": space.choice("relu", "mish")}, "'activation'.*got.*mish"),
    ],
)
def test_bad_genes_are_named(gene, message):
    with pytest.raises(InputError, match=message):
        cnn(space.Space(**gene), (8, 8), OUTPUTS)


def test_parameters_are_counted():
    numbers = SPACE.numbers({name: np.int32(0) for name, _ in SPACE.genes})
    for container in (BIG, ConvBox(1, 2, 3), ConvBox(2, 4, 1)):
        made = jax.eval_shape(lambda c=container: FAMILY.init(jax.random.key(0), c, numbers))
        assert FAMILY.parameters(container) == sum(leaf.size for leaf in jax.tree.leaves(made))
