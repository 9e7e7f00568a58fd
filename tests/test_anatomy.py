import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import swarmjax as sj
from swarmjax import anatomy
from swarmjax.anatomy import Layer
from swarmjax.experiment import Experiment, check

X = jnp.ones((1, 4))


class Block(nn.Module):
    """Adds what a layer makes of its input to it."""

    @nn.compact
    def __call__(self, x):
        return x + nn.Dense(8)(nn.relu(nn.LayerNorm()(x)))


class Residual(nn.Module):
    """Two blocks between layers."""

    inner: type = Block

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8)(x)
        for _ in range(2):
            x = self.inner()(x)
        return nn.Dense(3)(x)


class Arguments(nn.Module):
    """BatchNorm, dropout, a gene, and a layer used twice."""

    @nn.compact
    def __call__(self, x, train: bool, genome):
        shared = nn.Dense(4)
        x = shared(shared(x) * genome["gain"])
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dropout(0.5, deterministic=not train)(x)


class Bare(nn.Module):
    """A module without modules."""

    @nn.compact
    def __call__(self, x):
        return x @ self.param("kernel", nn.initializers.ones, (4, 2))


class Net(nnx.Module):
    """A module of NNX's, with one inside another."""

    def __init__(self, rngs):
        self.first = nnx.Linear(4, 8, rngs=rngs)
        self.rest = nnx.List([nnx.Linear(8, 3, rngs=rngs)])

    def __call__(self, x):
        return self.rest[0](nnx.relu(self.first(x)))


RESIDUAL = [
    ("Dense_0", "Dense", (4, 8), ()),
    ("Block_0/LayerNorm_0", "LayerNorm", (8, 8), (0,)),
    ("Block_0/Dense_0", "Dense", (8, 8), (1,)),
    ("Block_1/LayerNorm_0", "LayerNorm", (8, 8), (0, 2)),
    ("Block_1/Dense_0", "Dense", (8, 8), (3,)),
    ("Dense_1", "Dense", (8, 3), (0, 2, 4)),
]


def test_what_goes_around_a_layer_is_told_from_what_goes_through_it():
    assert anatomy.layers(Residual(), {}, X) == [Layer(*row) for row in RESIDUAL]


def test_programs_within_programs_are_looked_into():
    found = anatomy.layers(Residual(nn.remat(Block)), {}, X)
    assert [layer.inputs for layer in found] == [row[3] for row in RESIDUAL]


def test_modules_have_the_arguments_they_want_and_shared_layers_are_one():
    found = anatomy.layers(Arguments(), {"gain": jnp.float32(2.0)}, X)
    assert [layer.kind for layer in found] == ["Dense", "BatchNorm", "Dropout"]
    assert [layer.inputs for layer in found][:2] == [(), (0,)]


def test_a_module_without_modules_is_a_layer():
    assert anatomy.layers(Bare(), {}, X) == [Layer("Bare", "Bare", (4, 2), ())]


def test_modules_of_nnx_are_listed_with_the_sizes_of_their_weights():
    found = anatomy.layers(Net(nnx.Rngs(0)), {}, X)
    assert sorted(found) == [
        Layer("first", "Linear", (4, 8), ()), Layer("rest/0", "Linear", (8, 3), ()),
    ]  # fmt: skip


def test_attention_is_fed_by_three_layers_beside_each_other():
    setup = check(Experiment(task="text", members=2, budget=100))
    space, genome = setup.recipe.space, setup.recipe.space.draw(0, 2)
    model = setup.recipe.family.build(space.values(genome, 0) | {"depth": 1, "width": 32})
    found = anatomy.layers(model, {}, setup.task.train.x[:1])
    by_name = {layer.name.rpartition("/")[2]: layer for layer in found}
    fed = [found[place].name.rpartition("/")[2] for place in by_name["out"].inputs]
    assert fed == ["query", "key", "value"]
    assert {layer.kind for layer in found} == {"Embed", "RMSNorm", "DenseGeneral", "Dense"}


SPACE = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(2, 3, 4, 5, 6, 7))


def describer(model="mlp", **options):
    task = sj.tasks.arrays(np.ones((20, 4)), np.arange(20) % 2)
    recipe = check(Experiment(task=task, space=SPACE, model=model, members=6, budget=60)).recipe
    given = {"members": 6} | options
    return anatomy.Describer(recipe, task.train.x[:1], **given)


def genome(*width):
    return {
        "learning_rate": np.full(len(width), 0.01, np.float32),
        "width": np.asarray(width, np.int32),
    }


def test_architectures_are_described_once_and_few_in_a_round():
    describe = describer()
    first = describe(genome(0, 1, 2, 3, 4, 5))
    assert [text for text, _ in first] == [f"width={n}" for n in (2, 3, 4, 5)]
    assert [layer.sizes for layer in first[1][1]][0] == (4, 3)
    assert [text for text, _ in describe(genome(0, 1, 2, 3, 4, 5))] == ["width=6", "width=7"]
    assert describe(genome(5, 4, 3, 2, 1, 0)) == []


def test_what_is_known_or_trained_elsewhere_is_not_described():
    describe = describer(known=["width=2"], members=2)
    assert [text for text, _ in describe(genome(0, 3, 5))] == ["width=5"]


def test_a_model_that_cannot_be_looked_at_is_no_reason_to_stop(monkeypatch):
    describe = describer()
    monkeypatch.setattr(jax, "make_jaxpr", lambda function: 1 / 0)
    assert describe(genome(0)) == [("width=2", [])]
    assert describe(genome(0)) == []


def test_without_structure_all_networks_have_one_architecture():
    assert anatomy.in_words(()) == ""
