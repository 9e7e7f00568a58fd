import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax import space
from swarmjax.models import architecture_of, architectures, flax_family
from swarmjax.types import InputError

SPACE = space.Space(
    gain=space.choice(1.0, 3.0),
    width=space.structure(4, 8),
    learning_rate=space.log_uniform(1e-3, 1e-1),
    kind=space.structure("plain", "normed"),
)
X = np.random.default_rng(0).normal(3.0, 2.0, size=(16, 2)).astype(np.float32)
NUMBERS = {"gain": jnp.float32(3.0), "width": jnp.int32(8), "learning_rate": jnp.float32(0.01)}
NORMED = (("width", 8), ("kind", "normed"))


class Net(nn.Module):
    """Batch norm and dropout, and a gene that is traced."""

    width: int
    kind: str = "plain"

    @nn.compact
    def __call__(self, x, train: bool, genome):
        if self.kind == "normed":
            x = nn.BatchNorm(use_running_average=not train, momentum=0.5)(x)
        x = nn.Dropout(0.5, deterministic=not train)(jnp.tanh(nn.Dense(self.width)(x)))
        return genome["gain"] * nn.Dense(3)(x)


class Plain(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x)


FAMILY = flax_family(SPACE, Net, X[:1])
KEYS = [jax.random.key(i) for i in range(3)]
evaluate = jax.jit(lambda v, numbers: FAMILY.apply(NORMED, v, X, numbers))
train = jax.jit(lambda v, key: FAMILY.apply(NORMED, v, X, NUMBERS, key))


@pytest.fixture(scope="module")
def variables():
    return jax.device_get(jax.jit(lambda key: FAMILY.init(key, NORMED, NUMBERS))(KEYS[0]))


def test_init_gives_every_collection_in_its_shape(variables):
    shapes = jax.tree.map(np.shape, variables)
    assert shapes["params"]["Dense_0"] == {"kernel": (2, 8), "bias": (8,)}
    assert shapes["params"]["Dense_1"] == {"kernel": (8, 3), "bias": (3,)}
    assert shapes["batch_stats"] == {"BatchNorm_0": {"mean": (2,), "var": (2,)}}
    plain = jax.eval_shape(lambda: FAMILY.init(KEYS[0], (("width", 4), ("kind", "plain")), NUMBERS))
    assert set(plain) == {"params"}
    assert plain["params"]["Dense_0"]["kernel"].shape == (2, 4)


def test_evaluation_changes_nothing_and_needs_no_key(variables):
    outputs, extra = evaluate(variables, NUMBERS)
    assert outputs.shape == (16, 3)
    assert extra == {}
    params, stats = variables["params"], variables["batch_stats"]["BatchNorm_0"]
    x = params["BatchNorm_0"]["scale"] * (X - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    x = np.tanh(x @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    by_hand = 3.0 * (x @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"])
    np.testing.assert_allclose(outputs, by_hand, rtol=1e-4, atol=1e-5)


def test_the_module_reads_the_members_traced_genes(variables):
    thrice, _ = evaluate(variables, NUMBERS)
    once, _ = evaluate(variables, NUMBERS | {"gain": jnp.float32(1.0)})
    np.testing.assert_allclose(thrice, 3.0 * once, rtol=1e-6)
    assert evaluate._cache_size() == 1


def test_training_moves_the_batch_statistics(variables):
    _, extra = train(variables, KEYS[1])
    assert set(extra) == {"batch_stats"}
    stats = extra["batch_stats"]["BatchNorm_0"]
    # Half of the old statistics (0, 1), half of the batch's.
    np.testing.assert_allclose(stats["mean"], 0.5 * X.mean(0), rtol=1e-5)
    np.testing.assert_allclose(stats["var"], 0.5 + 0.5 * X.var(0), rtol=1e-5)
    before, _ = evaluate(variables, NUMBERS)
    after, _ = evaluate(variables | extra, NUMBERS)
    assert abs(before - after).max() > 1e-2, "the next evaluation uses them"


def test_the_key_decides_what_is_dropped(variables):
    first, again, other = (np.asarray(train(variables, KEYS[i])[0]) for i in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-2


def test_one_container_for_each_architecture():
    assert FAMILY.contain(NORMED) == NORMED
    assert FAMILY.cover(NORMED, (("width", 8), ("kind", "normed"))) == NORMED
    assert FAMILY.cover(NORMED, (("width", 4), ("kind", "normed"))) is None
    assert FAMILY.sizes is None and FAMILY.layers is None
    # Its `__call__` takes `genome`, so every gene may change what it computes.
    assert FAMILY.genes == {"width", "kind", "gain", "learning_rate"}
    marker = object()
    assert FAMILY.crop(marker, NORMED) is marker


def test_cost_counts_the_parameters():
    plain = (("width", 4), ("kind", "plain"))
    assert FAMILY.parameters(plain) == 2 * 4 + 4 + 4 * 3 + 3
    assert FAMILY.flops(plain, plain) == 6.0 * (2 * 4 + 4 + 4 * 3 + 3)
    assert FAMILY.flops(NORMED, NORMED) == 6.0 * (2 * 8 + 8 + 8 * 3 + 3 + 4)


def test_build_gives_the_module_of_a_genome():
    genome = {name: np.int32([0, 1]) for name, _ in SPACE.genes}
    for i, (width, kind) in enumerate([(4, "plain"), (8, "normed")]):
        values = SPACE.values(genome, i)
        assert FAMILY.build(values) == Net(width=width, kind=kind)
        assert architecture_of(SPACE, values) == (("width", width), ("kind", kind))


def test_a_module_that_wants_nothing_but_its_input():
    family = flax_family(space.Space(), Plain, X[:1])
    params = {"Dense_0": {"kernel": np.ones((2, 3), np.float32), "bias": np.arange(3.0)}}
    expected = X.sum(1, keepdims=True) + np.arange(3)[None]
    for key in (None, KEYS[1]):
        outputs, extra = family.apply((), {"params": params}, X, {}, key)
        np.testing.assert_allclose(outputs, expected, rtol=1e-5)
        assert not extra


def test_a_function_of_the_genes_is_a_module_too():
    def tall(width, kind):
        return Net(width=10 * width, kind=kind)

    family = flax_family(SPACE, tall, X[:1])
    assert family.build({"width": 4, "kind": "plain"}) == Net(width=40, kind="plain")
    flax_family(SPACE, lambda **genes: Net(**genes), X[:1])


@pytest.mark.parametrize("gene", ["depth", "name", "parent_"])
def test_a_structural_gene_that_the_module_does_not_take(gene):
    searched = space.Space(width=space.structure(4), **{gene: space.structure(1, 2)})
    with pytest.raises(InputError, match=f"gene '{gene}'.*Net, which takes kind, width"):
        flax_family(searched, Net, X[:1])
    with pytest.raises(InputError, match="which takes none"):
        flax_family(searched, Plain, X[:1])


class Noisy(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        noise = jax.random.normal(self.make_rng("noise"), x.shape) if train else 0.0
        return nn.Dense(2)(x + noise)


def test_a_module_may_draw_from_a_stream_of_its_own():
    family = flax_family(space.Space(rate=space.uniform(0, 1)), Noisy, np.ones((1, 3)))
    variables = family.init(jax.random.key(0), (), {})
    draws = [family.apply((), variables, np.ones((4, 3)), {}, jax.random.key(k))[0] for k in (1, 2)]
    assert not np.allclose(*draws)


def test_an_instance_is_no_module_class():
    with pytest.raises(InputError, match="got an instance of Noisy"):
        flax_family(space.Space(rate=space.uniform(0, 1)), Noisy(), np.ones((1, 3)))


def test_architectures_are_listed_once_and_indexed():
    mixed = space.Space(
        rate=space.uniform(0, 1),
        depth=space.structure(1, 2),
        kind=space.structure("a", "b", "c"),
    )
    depth, kind = np.array([1, 0, 1, 1]), np.array([2, 0, 2, 1])
    genome = {"rate": np.linspace(0, 1, 4), "depth": depth, "kind": kind}
    found, index = architectures(mixed, genome)
    told = [found[i] for i in index]
    assert told == [architecture_of(mixed, mixed.values(genome, i)) for i in range(4)]
    assert len(found) == len(set(found)) == 3
    plain = space.Space(rate=space.uniform(0, 1))
    assert architectures(plain, {"rate": np.ones(3)})[0] == [()]
