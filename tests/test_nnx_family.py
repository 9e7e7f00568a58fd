import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import swarmjax as sj
from swarmjax import optimizers, space
from swarmjax.members import Recipe, new_member
from swarmjax.models import is_nnx
from swarmjax.nnx_family import load, nnx_family, variables_of
from swarmjax.tasks import Data
from swarmjax.training import step
from swarmjax.types import InputError

SPACE = space.Space(learning_rate=space.log_uniform(1e-3, 1e-1), width=space.structure(4, 8))
RNG = np.random.default_rng(0)
X = RNG.normal(1.0, 2.0, size=(120, 3)).astype(np.float32)
TASK = sj.tasks.arrays(X, (X[:, 0] > X[:, 1]).astype(int), batch=16)
WIDE = (("width", 8),)
NUMBERS = {"learning_rate": jnp.float32(0.05), "width": jnp.int32(8)}


class Net(nnx.Module):
    """Batch norm, dropout, a list of layers and a variable of its own."""

    def __init__(self, width, *, rngs, rate=0.5):
        self.norm = nnx.BatchNorm(3, momentum=0.5, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(3, width, rngs=rngs), nnx.Linear(width, 2, rngs=rngs)])
        self.dropout = nnx.Dropout(rate, rngs=rngs)
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        self.calls[...] += 1
        return self.layers[1](self.dropout(nnx.relu(self.layers[0](self.norm(x)))))


def without_dropout(width, rngs):
    return Net(width, rngs=rngs, rate=0.0)


FAMILY = nnx_family(SPACE, Net)
KEYS = jax.vmap(jax.random.key)(np.arange(2))
init = jax.jit(lambda key: FAMILY.init(key, WIDE, NUMBERS))
train = jax.jit(lambda v, key: FAMILY.apply(WIDE, v, X[:16], NUMBERS, key))
evaluate = jax.jit(lambda v: FAMILY.apply(WIDE, v, X[:16], NUMBERS)[0])


@pytest.fixture(scope="module")
def variables():
    return jax.device_get(init(KEYS[0]))


def test_variables_are_plain_dicts_without_random_streams(variables):
    assert jax.tree.map(np.shape, variables) == {
        "params": {
            "norm": {"scale": (3,), "bias": (3,)},
            "layers": {
                "0": {"kernel": (3, 8), "bias": (8,)},
                "1": {"kernel": (8, 2), "bias": (2,)},
            },
        },
        "BatchStat": {"norm": {"mean": (3,), "var": (3,)}},
        "Variable": {"calls": ()},
    }


def test_evaluation_uses_the_weights_it_is_given(variables):
    params, stats = variables["params"], variables["BatchStat"]["norm"]
    x = (X[:16] - stats["mean"]) / np.sqrt(stats["var"] + 1e-5)
    first, second = params["layers"]["0"], params["layers"]["1"]
    hidden = np.maximum(x @ first["kernel"] + first["bias"], 0)
    np.testing.assert_allclose(
        evaluate(variables), hidden @ second["kernel"] + second["bias"], rtol=1e-4, atol=1e-5
    )


def test_training_changes_the_other_collections(variables):
    _, extra = train(variables, KEYS[1])
    assert set(extra) == {"BatchStat", "Variable"}
    np.testing.assert_allclose(
        extra["BatchStat"]["norm"]["mean"], 0.5 * X[:16].mean(0), rtol=1e-4, atol=1e-6
    )
    assert extra["Variable"]["calls"] == 1


def test_members_have_weights_and_dropout_of_their_own(variables):
    """Under vmap, where NNX itself would give all members the same streams."""
    apart = jax.jit(jax.vmap(lambda key: FAMILY.init(key, WIDE, NUMBERS)))(KEYS)
    kernels = apart["params"]["layers"]["0"]["kernel"]
    assert abs(kernels[0] - kernels[1]).min() > 0
    together = jax.jit(jax.vmap(lambda key: FAMILY.apply(WIDE, variables, X, NUMBERS, key)[0]))
    masked = together(jnp.concatenate([KEYS, KEYS[:1]]))
    assert abs(masked[0] - masked[1]).max() > 1e-2
    np.testing.assert_array_equal(masked[0], masked[2])


def test_a_member_learns_as_in_a_plain_nnx_loop():
    family = nnx_family(SPACE, without_dropout)
    recipe = Recipe(SPACE, family, optimizers.for_space(SPACE))
    genome = {"learning_rate": jnp.float32(0.05), "width": jnp.int32(1)}
    batches = [Data(X[i : i + 16], np.int32(X[i : i + 16, 0] > 0)) for i in range(0, 80, 16)]
    member = jax.jit(lambda: new_member(recipe, WIDE, KEYS[0], jnp.int32(0), genome))()
    start = member.variables
    ours = jax.jit(
        lambda batch, m: step(recipe, TASK, WIDE, None, batch, KEYS[0], True, genome, m)[0]
    )
    for batch in batches:
        member = ours(batch, member)

    net = load(Net(8, rngs=nnx.Rngs(0), rate=0.0), start)
    net.train()
    optimizer = nnx.Optimizer(net, optax.adam(0.05), wrt=nnx.Param)

    def objective(net, x, y):
        return optax.softmax_cross_entropy_with_integer_labels(net(x), y).mean()

    plain = nnx.jit(lambda net, opt, x, y: opt.update(net, nnx.grad(objective)(net, x, y)))
    for x, y in batches:
        plain(net, optimizer, x, y)
    assert int(net.calls[...]) == len(batches)
    expected = variables_of(net)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5),
        member.variables,
        expected,
    )


def test_a_swarm_of_nnx_modules_runs_and_gives_a_module_with_its_weights(tmp_path):
    searched = space.Space(learning_rate=SPACE["learning_rate"], width=space.structure(8))
    result = sj.run(
        task=TASK, space=searched, model=Net, members=4, budget=80, round_steps=10,
        directory=tmp_path / "run",
    )  # fmt: skip
    best = result.best
    logits = best.model(TASK.valid.x)
    accuracy = (np.asarray(logits).argmax(1) == TASK.valid.y).mean()
    assert accuracy == pytest.approx(best.scores["valid_accuracy"], abs=1e-6)
    assert accuracy > 0.5
    assert best.variables["Variable"]["calls"] > 0
    stored = np.load(tmp_path / "run" / "best.npz")
    assert {"norm/scale", "layers/0/kernel", "BatchStat/norm/mean"} <= set(stored)


class Gain(nnx.Module):
    """Told by arguments whether it trains, and what its genes are."""

    def __init__(self, rngs):
        self.layer = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x, train, genome):
        return self.layer(x) * genome["gain"] * (2.0 if train else 1.0)


def test_a_module_may_ask_for_train_and_genome():
    searched = space.Space(gain=space.uniform(0, 4))
    family = nnx_family(searched, Gain)
    assert family.genes == {"gain"}
    variables = family.init(KEYS[0], (), {})
    once, _ = family.apply((), variables, X, {"gain": 1.0})
    learning, _ = family.apply((), variables, X, {"gain": 3.0}, KEYS[0])
    np.testing.assert_allclose(learning, 6.0 * once, rtol=1e-5)
    assert family.flops((), ()) == 6.0 * (3 * 2 + 2)


def test_what_is_an_nnx_model():
    assert is_nnx(Net) and is_nnx(without_dropout) and is_nnx(Gain(nnx.Rngs(0)))
    assert not is_nnx(lambda width: None) and not is_nnx(int)


class Raw(nnx.Module):
    def __init__(self, width, rngs):
        self.basis = jax.random.normal(rngs(), (3, width))


class Fixed(nnx.Module):
    def __init__(self, width):
        self.width = width


def failing(width, rngs):
    raise ValueError("no such layer")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Gain, "structural gene 'width' is not a parameter of Gain, which takes none"),
        (Raw, "basis is a plain array; wrap it in nnx.Variable"),
        (Fixed, "Fixed must take rngs"),
        (failing, "the model cannot be made: ValueError: no such layer"),
        (lambda width, rngs: width, "must return an NNX module, got int"),
        (Net(4, rngs=nnx.Rngs(0)), "got an instance of Net; pass the class"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(model, message):
    with pytest.raises(InputError, match=message) as refused:
        sj.experiment.check(sj.Experiment(task=TASK, space=SPACE, model=model))
    assert "\n" not in str(refused.value)
