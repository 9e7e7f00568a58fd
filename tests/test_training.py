from functools import partial

import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import mlp, optimizers, training
from swarmjax.data import Data
from swarmjax.members import Recipe, new_member

SPACE = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), optimizer=sj.choice("sgd", "adam"))
BOX = mlp.Box(1, 4)
GENES = {"learning_rate": np.float32(0.1), "optimizer": np.int32(0)}
KEY = jax.random.key(0)


def make_task(y, **how):
    x = np.random.default_rng(0).normal(size=(len(y), 3))
    return sj.tasks.task("made", (x, y), (x, y), batch=8, **how)


CLASSES = make_task(np.arange(50) % 3)


def recipe_for(task):
    return Recipe(SPACE, mlp.mlp(SPACE, 3, task.outputs), optimizers.for_space(SPACE))


def member_for(task):
    return new_member(recipe_for(task), BOX, KEY, np.int32(0), GENES)


@pytest.mark.parametrize("count", [1023, 1024, 1025, 2500])
def test_many_examples_are_evaluated_in_parts_with_the_same_outputs(count):
    x = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    seen = []

    def function(part):
        seen.append(len(part))
        return part.sum(axis=1, keepdims=True)

    outputs = training.in_parts(function, x, 1024)
    np.testing.assert_allclose(outputs, x.sum(axis=1, keepdims=True))
    assert max(seen) <= 1024


def stepped(task, member, active=True, batch=None):
    recipe = recipe_for(task)
    batch = Data(task.train.x[:8], task.train.y[:8]) if batch is None else batch
    one = jax.jit(partial(training.step, recipe, task, BOX, None))
    return one(batch, KEY, active, GENES, member)


def test_a_step_of_sgd_goes_down_the_gradient():
    member, task = member_for(CLASSES), CLASSES
    after, loss, norm = stepped(task, member)
    family, batch = recipe_for(task).family, Data(task.train.x[:8], task.train.y[:8])

    def objective(params):
        numbers = SPACE.numbers(GENES)
        return task.loss(family.apply(BOX, {"params": params}, batch.x, numbers)[0], batch.y).mean()

    params = member.variables["params"]
    expected, gradient = jax.value_and_grad(objective)(params)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    total = sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(gradient)) ** 0.5
    assert norm == pytest.approx(total, rel=1e-5)
    moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-6), after.variables["params"], moved)
    assert after.step == 1


def test_who_is_not_active_is_left_as_it_is():
    member = member_for(CLASSES)
    after, loss, norm = stepped(CLASSES, member, active=False)
    jax.tree.map(np.testing.assert_array_equal, after, member)
    assert loss == norm == 0


def test_weights_that_are_no_numbers_are_told_from_those_that_are():
    member, score = member_for(CLASSES), partial(training.evaluate, recipe_for(CLASSES), CLASSES)
    assert score(BOX, CLASSES.valid, GENES, member)[1]
    broken = jax.tree.map(lambda leaf: leaf * np.nan, member.variables)
    assert not score(BOX, CLASSES.valid, GENES, member._replace(variables=broken))[1]


def test_regressions_are_described_by_their_outputs_and_classes_by_probabilities():
    numbers = make_task(np.random.default_rng(1).normal(size=(20, 2)))
    for task in (numbers, CLASSES):
        recipe, member = recipe_for(task), member_for(task)
        _, _, described = training.evaluate(recipe, task, BOX, task.valid, GENES, member)
        count = min(training.PROBES, len(task.valid.x))
        assert described.shape == (count, task.outputs) == training.probed(task)
        made = recipe.family.apply(
            BOX, member.variables, task.valid.x[:count], SPACE.numbers(GENES)
        )[0]
        expected = made if task is numbers else jax.nn.softmax(made)
        np.testing.assert_allclose(described, expected, atol=3e-3)


def test_next_tokens_are_described_by_those_of_the_last_place():
    tokens = np.arange(60).reshape(10, 6) % 5
    task = sj.tasks.task("tokens", (tokens, tokens), (tokens, tokens), batch=4)
    made = np.random.default_rng(0).normal(size=(10, 6, 5)).astype(np.float32)
    described = training._describe(task, jax.numpy.asarray(made))
    np.testing.assert_allclose(described, jax.nn.softmax(made[:, -1]), atol=2e-3)
