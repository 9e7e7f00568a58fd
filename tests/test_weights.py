import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import mlp, optimizers, weights
from swarmjax.members import Member, Network, Recipe
from swarmjax.mlp import Box

SPACE = sj.Space(learning_rate=sj.uniform(0.1, 0.2), depth=sj.structure(1, 2))


@pytest.fixture(scope="module")
def recipe():
    return Recipe(SPACE, mlp.mlp(SPACE, 3, 2), optimizers.for_space(SPACE))


def network(recipe, depth):
    """A network of so many layers in the container of two, its padding told apart by 99."""
    params = {
        "Dense_0": {"kernel": np.full((3, 64), 2.0), "bias": np.zeros(64)},
        "Dense_1": {"kernel": np.full((64, 64), 99.0), "bias": np.full(64, 99.0)},
        "head": {"kernel": np.full((64, 8), 99.0), "bias": np.asarray([3.0, -4.0] + [99.0] * 6)},
    }
    params["head"]["kernel"][:, :2] = 1.0
    genome = {"learning_rate": np.float32(0.1), "depth": np.int32(depth - 1)}
    return Network(Box(2, 64), Member({"params": params}, None, np.int32(7)), genome)


def test_statistics_are_of_the_members_own_weights_by_its_own_paths(recipe):
    """The head of a network of one layer is called `Dense_1` in its module."""
    rows = list(weights.parameter_rows(recipe, [(4, network(recipe, 1))], ["*"]))
    assert [row["parameter"] for row in rows] == [
        "Dense_0/bias", "Dense_0/kernel", "Dense_1/bias", "Dense_1/kernel"
    ]  # fmt: skip
    assert {row["member"] for row in rows} == {4}
    head = rows[2]
    assert (head["size"], head["min"], head["max"], head["norm"]) == (2, -4.0, 3.0, 5.0)
    assert (head["mean"], head["std"]) == (-0.5, 3.5) and head["values"].tolist() == [3.0, -4.0]
    assert rows[3]["max"] == 1.0 and rows[3]["size"] == 128


def test_patterns_choose_paths(recipe):
    made = weights.parameter_rows(recipe, [(0, network(recipe, 1))], ["Dense_0/*", "*/bias"])
    assert [row["parameter"] for row in made] == ["Dense_0/bias", "Dense_0/kernel", "Dense_1/bias"]
    assert list(weights.parameter_rows(recipe, [(0, network(recipe, 1))], ["nothing"])) == []


def test_of_large_ones_the_same_few_values_are_kept():
    assert weights.places(3).tolist() == [0, 1, 2]
    many = weights.places(10_000)
    assert len(many) == weights.MOST_VALUES and (many[0], many[-1]) == (0, 9999)
    assert (np.diff(many) > 0).all()


def test_empty_parameters_are_left_out():
    params = {"a": np.zeros(0), "b": {"c": jax.numpy.ones(2)}}
    assert list(weights.chosen(params, ["*"])) == ["b/c"]
