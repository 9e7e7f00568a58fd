"""Detectors against values worked out by hand, and laws of what they remember."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from swarmjax import anomaly
from swarmjax.types import InputError

nan, inf = np.nan, np.inf


def watch(losses, norms=None, active=None):
    """Detector and joined Flags after the steps `[T, N]`."""
    losses = jnp.asarray(losses, jnp.float32)
    norms = jnp.ones_like(losses) if norms is None else jnp.asarray(norms, jnp.float32)
    active = jnp.ones(losses.shape, bool) if active is None else jnp.asarray(active)
    return jax.device_get(follow(losses, norms, active))


@jax.jit
def follow(losses, norms, active):
    members = losses.shape[1]

    def body(carry, now):
        detector, flags = anomaly.observe(carry[0], *now)
        return (detector, anomaly.join(carry[1], flags)), None

    begun = anomaly.init(members), anomaly.silent(members)
    return jax.lax.scan(body, begun, (losses, norms, active))[0]


def test_page_hinkley_by_hand():
    # Log losses 0, 0, 3, 3: means 0, 0, 1, 1.5; excesses less the slack 0, 0, 1.5, 1.0.
    loss = np.exp([0.0, 0.0, 3.0, 3.0])[:, None]
    for steps, drift, level in ((2, 0.0, 0.0), (3, 1.5, 1.0), (4, 2.5, 1.5)):
        detector, flags = watch(loss[:steps])
        assert detector.drift[0] == pytest.approx(drift)
        assert detector.level[0] == pytest.approx(level)
        assert not flags.alarm.any()


def test_page_hinkley_is_the_sum_less_its_least():
    x = np.random.default_rng(0).normal(0, 1, 40)
    means = np.cumsum(x) / np.arange(1, 41)
    sums = np.concatenate([[0], np.cumsum(x - means - anomaly.SLACK)])
    drifts = sums - np.minimum.accumulate(sums)
    assert 1 < drifts.max() < anomaly.THRESHOLDS["rise"]
    for steps in (10, 20, 40):
        drift = watch(np.exp(x[:steps, None]))[0].drift
        assert drift[0] == pytest.approx(drifts[steps], abs=1e-4)


def test_a_rise_is_told_once_with_its_step_and_value():
    detector, flags = watch(np.exp([[0.0]] * 100 + [[4.0]] * 2))
    assert flags.alarm.tolist() == [anomaly.bits(["rise"])]
    assert flags.step.tolist() == [[-1, 101, -1]]
    # Two excesses of 4 over a mean of 4 / 101 and 8 / 102, less the slack.
    assert flags.value[0, 1] == pytest.approx(4 - 4 / 101 + 4 - 8 / 102 - 1.0, rel=1e-4)
    assert detector.drift[0] == 0


def test_moving_average_by_hand():
    # Plain mean and variance while the weight is above its least value.
    norms = np.exp([0.0, 2.0, 4.0])[:, None]
    detector, _ = watch(np.ones((3, 1)), norms)
    assert detector.mean[0] == pytest.approx(2.0)
    assert detector.variance[0] == pytest.approx(np.var([0.0, 2.0, 4.0]))


@pytest.mark.parametrize(("height", "fired"), [(0.59, False), (0.61, True), (-3.0, False)])
def test_a_spike_is_six_deviations_above_the_average(height, fired):
    # A constant norm has the least deviation that is told apart, 0.1.
    norms = np.exp([[0.0]] * 30 + [[height]])
    flags = watch(np.ones((31, 1)), norms)[1]
    assert (flags.alarm[0] == anomaly.bits(["spike"])) == fired
    assert flags.step[0, 2] == (30 if fired else -1)
    assert flags.value[0, 2] == pytest.approx(height / 0.1 if fired else 0, rel=1e-3)


def test_too_few_steps_raise_no_spike():
    assert not watch(np.ones((20, 1)), np.exp([[0.0]] * 19 + [[5.0]]))[1].alarm.any()
    assert watch(np.ones((21, 1)), np.exp([[0.0]] * 20 + [[5.0]]))[1].alarm.any()


@pytest.mark.parametrize(("loss", "norm"), [(nan, 1.0), (inf, 1.0), (1.0, nan), (nan, nan)])
def test_what_is_not_finite_is_only_that(loss, norm):
    detector, flags = watch([[1.0]] * 3 + [[loss]], [[1.0]] * 3 + [[norm]])
    assert flags.alarm.tolist() == [anomaly.bits(["nonfinite"])]
    assert flags.step.tolist() == [[3, -1, -1]]
    assert detector.count[0] == 3
    assert all(np.isfinite(leaf).all() for leaf in detector)


values = arrays(np.float32, (12, 3), elements=st.floats(0, 2**14, width=32) | st.just(nan))


@given(values, values, arrays(bool, (12, 3)))
def test_those_not_active_are_left_as_they_are(losses, norms, active):
    detector, flags = watch(losses, norms, active)
    hidden = [np.where(active, given, nan) for given in (losses, norms)]
    jax.tree.map(np.testing.assert_array_equal, (detector, flags), watch(*hidden, active))
    seen = active & np.isfinite(losses) & np.isfinite(norms)
    np.testing.assert_array_equal(detector.count, seen.sum(axis=0))
    still = ~active.any(axis=0)
    assert not flags.alarm[still].any() and not detector.level[still].any()


def test_most_units_dead_is_an_advice(frames):
    frame = frames([0.5] * 3, metrics={"valid_dead_units": np.asarray([0.5, 0.51, 1.0])})
    bit = anomaly.bits(["dead"])
    assert (np.asarray(anomaly.alarms(frame, frame)) & bit).tolist() == [0, bit, bit]
    # Whoever did not train is not told of again.
    idle = frame._replace(steps=np.asarray([9, 0, 9], np.int32))
    after = idle._replace(alarm=anomaly.alarms(frame, idle))
    assert (np.asarray(after.alarm) & bit).tolist() == [0, 0, bit]
    (event,) = anomaly.events(frame, after)
    assert event.member == 2 and "hidden units are dead at step" in event.text


@given(values, values)
def test_jit_agrees(losses, norms):
    detector, active = anomaly.init(3), jnp.asarray([True, True, False])
    for loss, norm in zip(losses[:3], norms[:3], strict=True):
        plain = anomaly.observe(detector, loss, norm, active)
        traced = jax.jit(anomaly.observe)(detector, loss, norm, active)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), plain, traced
        )
        detector = plain[0]


def test_detectors_follow_weights():
    detector, _ = watch(np.exp([[0.0, 1.0, 2.0]] * 4))
    moved = anomaly.inherit(detector, np.array([2, 1, 2]), np.array([False, True, False]))
    np.testing.assert_allclose(moved.level, [2.0, 0.0, 2.0], rtol=1e-6)
    assert moved.count.tolist() == [4, 0, 4]


def test_a_detector_is_five_numbers():
    assert sum(leaf.nbytes for leaf in anomaly.init(1000)) == 20 * 1000


def test_the_first_alarm_of_each_kind_is_kept():
    first = anomaly.Flags(np.array([2]), np.array([[-1, 5, -1]]), np.array([[0.0, 11.0, 0.0]]))
    later = anomaly.Flags(np.array([6]), np.array([[-1, 9, 9]]), np.array([[0.0, 12.0, 7.0]]))
    both = anomaly.join(first, later)
    assert both.alarm.tolist() == [6]
    assert both.step.tolist() == [[-1, 5, 9]] and both.value.tolist() == [[0.0, 11.0, 7.0]]


def shown(frames, **changes):
    """A Frame on the host of five members that trained alike, but for `changes`."""
    frame = frames([0.5] * 5, **changes)
    return jax.tree.map(np.asarray, frame)


def test_a_vanished_gradient_is_a_millionth_of_the_median(frames):
    frame = shown(frames, gradient_norm=[1.0, 1.0, 1.0, 1e-5, 1e-7])
    value = anomaly.assess(frame, frame)["vanished"]
    np.testing.assert_allclose(value, [0, 0, 0, 5, 7], atol=1e-4)
    assert anomaly.alarms(frame, frame).tolist() == [0, 0, 0, 0, anomaly.bits(["vanished"])]


def test_an_outlier_by_hand(frames):
    # Log losses 0, 1, 2, 3, 9: median 2, deviations 2, 1, 0, 1, 7, their median 1.
    frame = shown(frames, loss=np.exp([0, 1, 2, 3, 9]))
    expected = 0.6745 * np.array([-2, -1, 0, 1, 7])
    np.testing.assert_allclose(anomaly.assess(frame, frame)["outlier"], expected, rtol=1e-4)
    assert anomaly.alarms(frame, frame)[4] == anomaly.bits(["outlier"])


def test_the_gap_needs_validation_to_rise_while_training_falls(frames):
    before = shown(frames, loss=[1.0] * 5)
    before = before._replace(metrics={"valid_loss": np.ones(5, np.float32)})
    after = before._replace(
        loss=np.array([0.9, 1.1, 0.9, 0.9, 0.9], np.float32),
        metrics={"valid_loss": np.array([4.5, 4.5, 1.05, 4.5, 1.2], np.float32)},
        birth=np.array([0, 1, 2, 99, 4]),
    )
    value = anomaly.assess(before, after)["gap"]
    np.testing.assert_allclose(value, [np.log(5), 0, 0, 0, np.log(4 / 3)], rtol=1e-4)
    assert anomaly.alarms(before, after).tolist() == [anomaly.bits(["gap"]), 0, 0, 0, 0]


def test_the_dead_and_those_at_rest_show_nothing_else(frames):
    strange = {"loss": [nan, 1e9, 1, 1, 1], "gradient_norm": [nan, 1e-20, 1, 1, 1]}
    frame = shown(frames, **strange, alive=[False, *[True] * 4], steps=[5, 0, 5, 5, 5])
    assert anomaly.alarms(frame, frame).tolist() == [anomaly.bits(["nonfinite"]), 0, 0, 0, 0]
    nobody = shown(frames, alive=[False] * 5)
    assert anomaly.alarms(nobody, nobody).tolist() == [anomaly.bits(["nonfinite"])] * 5


@given(
    arrays(np.float32, 5, elements=st.floats(0, 1e6, width=32) | st.just(nan)),
    arrays(np.float32, 5, elements=st.floats(0, 1e6, width=32) | st.just(nan) | st.just(inf)),
    arrays(bool, 5),
)
def test_alarms_of_a_round_are_the_same_traced(frames, loss, norm, alive):
    frame = shown(frames, loss=loss, gradient_norm=norm, alive=alive)
    traced = jax.jit(anomaly.alarms)(frame, frame)
    np.testing.assert_array_equal(anomaly.alarms(frame, frame), traced)
    assert anomaly.alarms(frame, frame).dtype == traced.dtype == np.int32


def test_flags_of_the_steps_join_those_of_the_round(frames):
    frame = shown(frames, alive=[True, False, True, True, True])
    flags = anomaly.silent(5)._replace(alarm=np.array([2, 4, 0, 0, 0], np.int32))
    assert anomaly.alarms(frame, frame, flags).tolist() == [2, 5, 0, 0, 0]


def test_events_are_told_once_for_a_network(frames):
    rise, spike = anomaly.bits(["rise"]), anomaly.bits(["spike"])
    before = shown(frames, alarm=[rise, rise, 0, 0, 0])
    frame = shown(frames, alarm=[rise, rise, spike, 0, 0], round=2, total_steps=[30] * 5)
    frame = frame._replace(birth=np.array([0, 77, 2, 3, 4]))
    step, value = np.full((5, 3), -1), np.zeros((5, 3), np.float32)
    step[2, 2], value[2, 2] = 21, 8.5
    found = anomaly.events(before, frame, anomaly.Flags(frame.alarm, step, value))
    threshold = anomaly.THRESHOLDS["spike"]
    assert [(event.kind, event.member, event.step) for event in found] == [
        ("rise", 1, 30),
        ("spike", 2, 21),
    ]
    assert found[1] == anomaly.Event("spike", 2, 2, 21, 8.5, threshold)
    assert found[1].text == "member 2: its gradient jumped at step 21 (8.5 > 6)"


def test_an_event_of_the_round_tells_its_value(frames):
    frame = shown(frames, gradient_norm=[1, 1, 1, 1, 1e-8])
    frame = frame._replace(alarm=anomaly.alarms(frame, frame))
    (event,) = anomaly.events(shown(frames), frame)
    assert (event.kind, event.member, event.step) == ("vanished", 4, 10)
    assert event.value == pytest.approx(8.0)
    assert event.text == "member 4: its gradient vanished at step 10 (8 > 6)"


def test_what_was_measured_is_an_alarm_with_its_value(frames):
    frame, measured = shown(frames, round=2), {"slow": np.array([0.0, 4.5, 0.0, 9.0, 3.0])}
    frame = frame._replace(alarm=anomaly.alarms(frame, frame, None, measured))
    slow = anomaly.bits(["slow"])
    assert frame.alarm.tolist() == [0, slow, 0, slow, 0]
    found = anomaly.events(shown(frames), frame, None, measured)
    assert [event[:3] + event[4:] for event in found] == [
        ("slow", 1, 2, 4.5, 4.0),
        ("slow", 3, 2, 9.0, 4.0),
    ]
    text = "member 1: its steps take longer and longer at step 10 (4.5 > 4)"
    others = ("slow", "and 1 members more: slow", None, None, None)
    assert anomaly.told(found) == [("slow", text, 1, 4.5, 4.0), others]


def test_the_names_of_alarms():
    assert anomaly.bits(anomaly.KINDS) == 2 ** len(anomaly.KINDS) - 1
    assert anomaly.bits(["spike", "nonfinite", "spike"]) == 5
    with pytest.raises(InputError, match="no alarm is called 'nan'; known: nonfinite, rise"):
        anomaly.bits(["nan"])


def test_of_very_many_alarms_the_first_are_told_and_how_many_more():
    found = [anomaly.Event("outlier", i, 3, 10, 5.0, 3.5) for i in range(20)]
    found += [anomaly.Event("spike", 7, 3, 11, 9.0, 6.0)]
    lines = anomaly.told(found, most=3)
    assert [line.member for line in lines if line.kind == "outlier"] == [0, 1, 2, None]
    assert lines[-1] == ("outlier", "and 17 members more: outlier", None, None, None)
    assert ("spike", found[-1].text, 7, 9.0, 6.0) in lines and len(lines) == 5
    assert anomaly.told([]) == []
