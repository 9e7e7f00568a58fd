from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax import tasks
from swarmjax.robustness import noisy
from swarmjax.tasks import measure
from swarmjax.types import InputError

X = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
TASK = tasks.arrays(X, Y, valid=0.4, batch=10)


def right_by_sign(x):
    """Logits of a network that decides by the sign of the first feature, as the targets do."""
    return jnp.stack([-x[:, 0], x[:, 0]], axis=1)


def test_the_copy_is_the_examples_with_noise_of_the_scale():
    task = noisy(TASK, 0.5)
    first, second = np.split(task.valid.x, 2)
    np.testing.assert_array_equal(first, TASK.valid.x)
    np.testing.assert_array_equal(task.valid.y, np.tile(TASK.valid.y, 2))
    # 60 draws: the standard deviation is known within a tenth or so.
    assert 0.35 < (second - first).std() < 0.65 and task.valid.x.dtype == np.float32
    assert task.train is TASK.train and task.noise == 0.5 and task.name == "arrays-noise-0.5"
    assert task.test is not None and len(task.test.x) == 20


def test_clean_scores_stay_and_noise_has_its_own():
    task, clean = noisy(TASK, 5.0), right_by_sign(TASK.valid.x)
    scores = measure(task, right_by_sign(task.valid.x), task.valid.y)
    before = measure(TASK, clean, TASK.valid.y)
    assert set(scores) == {"loss", "accuracy", "noisy_accuracy"}
    assert scores["accuracy"] == before["accuracy"] == 1.0
    np.testing.assert_allclose(scores["loss"], before["loss"], rtol=1e-6)
    second = task.valid.x[20:, 0] > 0
    assert scores["noisy_accuracy"] == np.float32((second == TASK.valid.y).mean()) < 1.0


def test_the_seed_decides_the_noise():
    a, again, other = noisy(TASK, 0.5), noisy(TASK, 0.5), noisy(TASK, 0.5, seed=1)
    np.testing.assert_array_equal(a.valid.x, again.valid.x)
    assert (a.valid.x[20:] != other.valid.x[20:]).all()


def test_metrics_of_two_examples_can_be_traced():
    task = noisy(TASK, 0.5)
    outputs, y = jnp.zeros((2, 2)), jnp.zeros(2, jnp.int32)
    assert jax.eval_shape(task.metrics["noisy_accuracy"], outputs, y).shape == ()


@pytest.mark.parametrize(
    ("task", "scale", "message"),
    [
        (TASK, 0.0, "scale > 0, got 0"),
        (TASK, np.inf, "finite scale > 0, got inf"),
        (noisy(TASK, 0.5), 0.5, "has noise of scale 0.5 already"),
        (replace(TASK, metrics={}), 0.5, "has no metric"),
        (tasks.task("t", *[(np.ones((4, 3), int), np.ones((4, 3), int))] * 2), 1.0, "no real num"),
    ],
)
def test_bad_requests(task, scale, message):
    with pytest.raises(InputError, match=message):
        noisy(task, scale)
