from functools import partial

import jax
import numpy as np
import optax
import pytest

from swarmjax import space
from swarmjax.optimizers import from_genome
from swarmjax.transformer import Stack, Transformer, transformer
from swarmjax.types import InputError

LENGTH, OUTPUTS, BATCH = 6, 11, 3
SPACE = space.Space(
    activation=space.choice("gelu", "relu", "tanh"),
    depth=space.structure(1, 2, 3),
    width=space.structure(16, 32, 48),
)
FAMILY = transformer(SPACE, LENGTH, OUTPUTS)
BIG = Stack(3, 48)
# Every activation, depth and width; the last fills the container.
MEMBERS = [
    {"activation": "gelu", "depth": 2, "width": 16},
    {"activation": "relu", "depth": 1, "width": 32},
    {"activation": "tanh", "depth": 3, "width": 32},
    {"activation": "gelu", "depth": 3, "width": 48},
]
GENOME = {
    name: np.asarray([gene.options.index(m[name]) for m in MEMBERS], np.int32)
    for name, gene in SPACE.genes
}
KEYS = jax.vmap(jax.random.key)(np.arange(len(MEMBERS)))
X = np.random.default_rng(0).integers(0, OUTPUTS, (BATCH, LENGTH)).astype(np.int32)
Y = np.random.default_rng(1).integers(0, OUTPUTS, (BATCH, LENGTH)).astype(np.int32)
# Compiled fast, since each program runs once.
jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def architecture(member):
    return (("depth", member["depth"]), ("width", member["width"]))


def one(tree, i):
    return jax.tree.map(lambda leaf: leaf[i], tree)


def mean_loss(logits):
    return optax.softmax_cross_entropy_with_integer_labels(logits, Y).mean()


def apply(params, genome, deepest=None):
    numbers = SPACE.numbers(genome)
    return FAMILY.apply(BIG, {"params": params}, X, numbers, deepest=deepest)[0]


def loss(params, genome, deepest=None):
    return mean_loss(apply(params, genome, deepest))


@pytest.fixture(scope="module")
def big():
    """Parameters `[N]` of all members in one container."""

    @jit
    @jax.vmap
    def init(key, genome):
        return FAMILY.init(key, BIG, SPACE.numbers(genome))["params"]

    return jax.device_get(init(KEYS, GENOME))


@pytest.fixture(scope="module")
def gradients(big):
    return jax.device_get(jit(jax.vmap(jax.grad(loss)))(big, GENOME))


def used(member):
    """Which entries of each leaf a member uses in `BIG`, told from its sizes alone."""
    depth, width = member["depth"], member["width"]
    unit, wide, layer = np.arange(48) < width, np.arange(192) < 4 * width, np.arange(3) < depth
    every = np.ones(OUTPUTS, bool)

    def outer(*parts):
        return np.stack(np.meshgrid(*parts, indexing="ij")).all(axis=0)

    return {
        "embed": outer(every, unit),
        "position": outer(np.ones(LENGTH, bool), unit),
        "norm": unit,
        "head": outer(unit, every),
        "layers": {
            "norm_attention": outer(layer, unit),
            "qkv": outer(layer, unit, np.ones(3, bool), unit),
            "out": outer(layer, unit, unit),
            "norm_mlp": outer(layer, unit),
            "up": outer(layer, unit, wide),
            "down": outer(layer, wide, unit),
        },
    }


@pytest.mark.parametrize("i", [0, 1])
def test_initial_weights_do_not_depend_on_the_container(big, i):
    shape = architecture(MEMBERS[i])
    tight, genome = FAMILY.contain(shape), one(GENOME, i)
    assert tight == Stack(MEMBERS[i]["depth"], MEMBERS[i]["width"])
    own = jit(lambda k, g: FAMILY.init(k, tight, SPACE.numbers(g)))(KEYS[i], genome)
    wide = FAMILY.crop({"params": one(big, i)}, shape)
    jax.tree.map(np.testing.assert_array_equal, wide, FAMILY.crop(own, shape))


def test_weights_are_zero_in_padding_and_only_there(big):
    for i, member in enumerate(MEMBERS):
        jax.tree.map(
            lambda leaf, real: np.testing.assert_array_equal(leaf != 0.0, real),
            one(big, i),
            used(member),
        )


def test_weights_have_the_scale_of_their_own_width(big):
    """Variance 1 / fan-in, the fan-in of the member and not of its container."""
    for i, member in enumerate(MEMBERS):
        weights, real, width = one(big, i), used(member), member["width"]
        for name, fan_in in (("embed", 1), ("position", width), ("head", width)):
            values = weights[name][real[name]]
            assert abs(np.mean(values**2) * fan_in - 1.0) < 4.0 / np.sqrt(values.size)
        for name, fan_in in (("qkv", width), ("out", width), ("up", width), ("down", 4 * width)):
            values = weights["layers"][name][real["layers"][name]]
            assert abs(np.mean(values**2) * fan_in - 1.0) < 4.0 / np.sqrt(values.size)
    assert (big["layers"]["qkv"][3, 0] != big["layers"]["qkv"][3, 1]).all()
    assert (big["layers"]["qkv"][3, :, :, 0] != big["layers"]["qkv"][3, :, :, 1]).all()


def test_padded_forward_and_backward_are_the_flax_module(big, gradients):
    outputs = jit(jax.vmap(apply))(big, GENOME)
    for i, member in enumerate(MEMBERS[:3]):
        module = FAMILY.build(member)
        sizes = member["depth"], member["width"], member["activation"]
        assert module == Transformer(OUTPUTS, LENGTH, *sizes)
        shape = architecture(member)
        params = FAMILY.crop({"params": one(big, i)}, shape)["params"]

        def plain(params, module=module):
            logits = module.apply({"params": params}, X)
            return mean_loss(logits), logits

        (_, logits), gradient = jit(jax.value_and_grad(plain, has_aux=True))(params)
        assert np.ptp(logits) > 1.0
        np.testing.assert_allclose(outputs[i], logits, rtol=2e-5, atol=2e-5)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6),
            FAMILY.crop({"params": one(gradients, i)}, shape)["params"],
            gradient,
        )


def test_crop_gives_the_names_and_shapes_that_flax_wants(big):
    i = 2
    wanted = jax.eval_shape(FAMILY.build(MEMBERS[i]).init, jax.random.key(0), X)
    got = FAMILY.crop({"params": one(big, i)}, architecture(MEMBERS[i]))
    assert jax.tree.map(np.shape, got) == jax.tree.map(np.shape, dict(wanted))


def test_padding_gets_exactly_no_gradient(gradients):
    for i, member in enumerate(MEMBERS):
        gradient, real = one(gradients, i), used(member)
        for got, mask in zip(*map(jax.tree.leaves, (gradient, real)), strict=True):
            np.testing.assert_array_equal(got[~mask], 0.0)
            assert (got[mask] != 0.0).any()


def test_padding_stays_exactly_zero_under_training(big):
    rule = space.Space(optimizer=space.choice("adam", "adamw"))

    @jit
    @partial(jax.vmap, in_axes=(0, None, None))
    @partial(jax.vmap, in_axes=(None, 0, 0))
    def train(optimizer, params, genome):
        numbers = {"optimizer": optimizer, "learning_rate": 0.01, "weight_decay": 0.1}
        transformation = from_genome(rule, numbers)

        def step(carry, _):
            params, state = carry
            gradient = jax.grad(loss)(params, genome)
            updates, state = transformation.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), None

        start = params, transformation.init(params)
        return jax.lax.scan(step, start, None, length=3)[0][0]

    trained = jax.device_get(train(np.arange(2), big, GENOME))
    for i, member in enumerate(MEMBERS):
        for optimizer in range(2):
            jax.tree.map(
                lambda new, old, real: np.testing.assert_array_equal(new != old, real),
                one(one(trained, optimizer), i),
                one(big, i),
                used(member),
            )


def test_layers_that_no_member_has_may_be_skipped(big):
    """For every depth of the deepest; outputs stay the same to the last bit."""
    shallow = [i for i, member in enumerate(MEMBERS) if member["depth"] <= 2]
    some, genome = one(big, np.asarray(shallow)), one(GENOME, np.asarray(shallow))
    run = jit(jax.vmap(apply, (0, 0, None)))
    np.testing.assert_array_equal(run(some, genome, 3), run(some, genome, 2))
    cut = run(some, genome, 1)
    np.testing.assert_array_equal(run(some, genome, 2)[1], cut[1])
    assert (run(some, genome, 2)[0] != cut[0]).any(), "a layer that it has counts"


def test_jit_equals_no_jit():
    numbers, stack = SPACE.numbers(one(GENOME, 1)), Stack(1, 32)
    variables = jit(lambda: FAMILY.init(KEYS[1], stack, numbers))()
    run = lambda v: FAMILY.apply(stack, v, X, numbers)[0]  # noqa: E731
    with jax.disable_jit():
        eager = run(variables)
    np.testing.assert_allclose(jit(run)(variables), eager, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("cut", [1, 4])
def test_no_token_sees_what_comes_after_it(big, cut):
    numbers = SPACE.numbers(one(GENOME, 2))
    later = X.copy()
    later[:, cut:] = (later[:, cut:] + 1) % OUTPUTS
    run = jit(lambda x: FAMILY.apply(BIG, {"params": one(big, 2)}, x, numbers)[0])
    before, after = run(X), run(later)
    np.testing.assert_array_equal(before[:, :cut], after[:, :cut])
    assert (before[:, cut:] != after[:, cut:]).any(axis=(0, 2)).all()


def test_the_order_of_earlier_tokens_matters(big):
    numbers = SPACE.numbers(one(GENOME, 0))
    swapped = X[:, [1, 0, 2, 3, 4, 5]]
    run = jit(lambda x: FAMILY.apply(BIG, {"params": one(big, 0)}, x, numbers)[0])
    assert abs(run(X)[:, 2:] - run(swapped)[:, 2:]).max() > 1e-3


def test_a_deep_stack_loops_and_computes_the_same():
    deep = space.Space(depth=space.structure(8), width=space.structure(16))
    family = transformer(deep, LENGTH, OUTPUTS)
    member, shape = {"depth": 8, "width": 16}, (("depth", 8), ("width", 16))
    numbers = deep.numbers({"depth": 0, "width": 0})
    variables = jit(lambda: family.init(KEYS[0], Stack(8, 16), numbers))()
    got, _ = jit(lambda v: family.apply(Stack(8, 16), v, X, numbers, deepest=8))(variables)
    wanted = jit(family.build(member).apply)(family.crop(variables, shape), X)
    np.testing.assert_allclose(got, wanted, rtol=5e-5, atol=5e-5)


def test_containers_cover_and_cost():
    assert FAMILY.cover(Stack(1, 48), Stack(3, 16)) == Stack(3, 48)
    # A layer has 12 width^2 weights; each pair of tokens costs a score and a weighed value.
    layer = 12 * 32**2 + 2 * LENGTH * 32
    for depth in (1, 3):
        flops = FAMILY.flops(Stack(3, 32), (("depth", depth), ("width", 16)))
        assert flops == 6 * LENGTH * (depth * layer + 32 * OUTPUTS), "width is padded, depth not"
    assert FAMILY.layers(BIG, SPACE.numbers({"activation": 0, "depth": 1, "width": 0})) == 2
    assert FAMILY.genes == {"activation", "depth", "width"} and FAMILY.sizes is None


def test_without_genes_a_usual_network():
    family = transformer(space.Space(), LENGTH, OUTPUTS)
    assert family.contain(()) == Stack(2, 32)
    assert family.build({}) == Transformer(OUTPUTS, LENGTH, 2, 32, "relu")


@pytest.mark.parametrize(
    ("gene", "message"),
    [
        ({"depth": space.structure(0, 2)}, "'depth' must be structure.* >= 1"),
        ({"width": space.uniform(8, 64)}, "'width' must be structure"),
        ({"width": space.structure(32, 40)}, r"'width' must be multiples of 16.*\(32, 40\)"),
        ({"activation": space.choice("relu", "mish")}, "'activation'.*got relu, mish"),
    ],
)
def test_bad_genes_are_named(gene, message):
    with pytest.raises(InputError, match=message):
        transformer(space.Space(**gene), LENGTH, OUTPUTS)


def test_parameters_are_counted():
    numbers = SPACE.numbers({name: np.int32(0) for name, _ in SPACE.genes})
    for container in (BIG, Stack(1, 16), Stack(2, 32)):
        made = jax.eval_shape(lambda c=container: FAMILY.init(jax.random.key(0), c, numbers))
        assert FAMILY.parameters(container) == sum(leaf.size for leaf in jax.tree.leaves(made))
