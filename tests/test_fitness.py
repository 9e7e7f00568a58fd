import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from swarmjax import fitness
from swarmjax.types import InputError

nan, inf = np.nan, np.inf


def test_terms_by_hand(frames):
    frame = frames([0.5, 0.8], cost=[1e6, 4e6])
    frame = frame._replace(metrics=frame.metrics | {"valid_r2": jnp.array([-2.0, 0.5])})
    np.testing.assert_allclose(fitness.accuracy(frame), [0.5, 0.8])
    np.testing.assert_allclose(fitness.loss(frame), [1 / 1.5, 1 / 1.2], rtol=1e-6)
    np.testing.assert_allclose(fitness.r2(frame), [0.0, 0.5])
    np.testing.assert_allclose(fitness.efficiency(frame), [1.0, 0.4], rtol=1e-6)


def test_efficiency_per_second_byte_and_weight_by_hand(frames):
    frame = frames([0.5, 0.8], seconds=[1e-6, nan], bytes=[1e3, 2e3], parameters=[100, 80])
    by_second = fitness.efficiency_second(frame)
    np.testing.assert_allclose(by_second, [1.0, nan])
    np.testing.assert_allclose(fitness.efficiency_byte(frame), [1.0, 0.8], rtol=1e-6)
    np.testing.assert_allclose(fitness.efficiency_parameter(frame), [0.5, 1.0], rtol=1e-6)


def test_gap_by_hand(frames):
    frame = frames([0.5, 0.9, 0.5, 0.5])._replace(loss=jnp.array([0.25, 1.1, nan, 0.5]))
    np.testing.assert_allclose(fitness.gap(frame), [-0.2, 0.5, nan, 0.0], rtol=1e-6)
    raw = fitness.quantity(frame, "gap")
    np.testing.assert_allclose(raw, [0.25, -1.0, nan, 0.0], rtol=1e-6)


def test_quantities_are_what_the_frame_says(frames):
    frame = frames([0.5, 0.8], cost=[1e6, 4e6], parameters=[7, 8])
    for name in ("cost", "parameters", "bytes", "seconds", "gradient_norm", "total_steps"):
        np.testing.assert_array_equal(fitness.quantity(frame, name), getattr(frame, name))
    np.testing.assert_array_equal(fitness.quantity(frame, "train_loss"), frame.loss)
    np.testing.assert_array_equal(fitness.quantity(frame, "loss"), frame.metrics["valid_loss"])
    goal = fitness.weighted(parameters=-2.0, valid_accuracy=10.0)
    np.testing.assert_allclose(goal(frame), [-9.0, -8.0], rtol=1e-6)


def test_weighted_is_the_weighted_sum(frames):
    frame = frames([0.5, 0.8], cost=[1e6, 4e6])
    goal = fitness.weighted(accuracy=0.7, efficiency=0.3)
    np.testing.assert_allclose(goal(frame), [0.35 + 0.3, 0.56 + 0.12], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(goal)(frame), goal(frame), rtol=1e-6)
    np.testing.assert_allclose(fitness.weighted(valid_loss=-2.0)(frame), [-1.0, -0.4], rtol=1e-6)
    assert goal.__name__ == "weighted(accuracy=0.7, efficiency=0.3)"


def test_accuracy_term_serves_tasks_without_accuracy(frames):
    losses = jnp.array([1.0, 3.0])
    regression = frames([0.0, 0.0], metrics={"valid_loss": losses})
    np.testing.assert_allclose(fitness.accuracy(regression), [0.5, 0.25])
    explained = regression._replace(
        metrics={"valid_loss": losses, "valid_r2": jnp.array([0.9, -1.0])}
    )
    np.testing.assert_allclose(fitness.accuracy(explained), [0.9, 0.0])


def test_default_prefers_accuracy_then_loss(frames):
    metrics = {
        "valid_accuracy": jnp.array([0.9, 0.9, 0.901]),
        "valid_loss": jnp.array([0.2, 0.1, 9.0]),
    }
    assert fitness.ranks(fitness.default(frames([0] * 3, metrics=metrics))).tolist() == [2, 1, 0]
    only_accuracy = frames([0] * 3, metrics={"valid_accuracy": metrics["valid_accuracy"]})
    np.testing.assert_array_equal(fitness.default(only_accuracy), metrics["valid_accuracy"])
    only_loss = frames([0] * 3, metrics={"valid_loss": metrics["valid_loss"]})
    np.testing.assert_allclose(fitness.default(only_loss), [-0.2, -0.1, -9.0])


def test_efficiency_ignores_the_dead_and_survives_zeros(frames):
    frame = frames([0.5, 0.4, nan], cost=[1e3, 1e6, 1e3], alive=[False, True, True])
    share = np.asarray(fitness.efficiency(frame))
    assert share[1] == 1.0
    assert np.isnan(share[2])
    assert fitness.efficiency(frames([0.0, 0.0], cost=[0.0, 1.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "at least one weight"),
        ({"acuracy": 1.0}, "did you mean accuracy"),
        ({"xyz": 1.0}, "known: accuracy, loss, r2, gap, efficiency, .* seconds or valid_"),
        ({"accuracy": nan}, "must be finite and at most 1e.09, got nan"),
    ],
)
def test_bad_weights_are_refused_at_once(weights, message):
    with pytest.raises(InputError, match=message):
        fitness.weighted(**weights)


def test_missing_metric_names_what_there_is(frames):
    with pytest.raises(InputError, match="needs valid_f1, but .* valid_accuracy, valid_loss"):
        fitness.weighted(valid_f1=1.0)(frames([0.5]))
    with pytest.raises(InputError, match="needs valid_loss, but the task reports no metric"):
        fitness.default(frames([0.5], metrics={}))


def test_worst_if_dead_by_hand(frames):
    frame = frames([0.5] * 5, alive=[True, False, True, True, True])
    scored = fitness.worst_if_dead(jnp.array([1.0, 2.0, nan, inf, -3.0]), frame)
    assert scored.tolist() == [1.0, -inf, -inf, -inf, -3.0]


def test_ranks_ties_go_to_the_lower_slot():
    assert fitness.ranks(jnp.array([1.0, 3.0, 3.0, -inf, -inf])).tolist() == [2, 0, 1, 3, 4]
    assert fitness.ranks(jnp.array([0.3])).tolist() == [0]


@given(arrays(np.float32, 6, elements=st.floats(width=32) | st.just(nan)), st.data())
def test_the_dead_never_outrank_the_living(frames, scores, data):
    alive = np.array(data.draw(st.lists(st.booleans(), min_size=6, max_size=6)))
    scored = np.asarray(fitness.worst_if_dead(scores, frames([0.5] * 6, alive=alive)))
    places = np.asarray(fitness.ranks(scored))
    known = alive & np.isfinite(scores)
    assert not np.isnan(scored).any()
    assert sorted(places) == list(range(6))
    if known.any() and not known.all():
        assert places[known].max() < places[~known].min()


@pytest.mark.parametrize("values", [[0.5, nan, inf, -inf, 0.9], [nan] * 5])
def test_goals_on_the_host_need_no_compiled_program_and_agree_with_one(frames, values):
    traced = frames(values, alive=[True, True, True, True, False])
    plain = jax.tree.map(np.asarray, traced)
    for goal in (fitness.default, fitness.weighted(loss=1.0, efficiency=0.3)):
        a, b = (fitness.worst_if_dead(goal(frame), frame) for frame in (plain, traced))
        assert type(a) is np.ndarray and a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-6)
