import jax
import numpy as np

from swarmjax import anomaly
from swarmjax.anomaly import bits
from swarmjax.watch import Series, Windows, joined, places, watch

T, SPIKE, RISE = 60, 40, 30
NOBODY = np.zeros(0, np.int32)


def series():
    """Four members `[1, 4, T]`: calm, with a spike, with a rise, and no longer finite."""
    rng = np.random.default_rng(0)
    loss = np.exp(rng.normal(-1.0, 0.05, (1, 4, T))).astype(np.float32)
    norm = np.exp(rng.normal(0.0, 0.1, (1, 4, T))).astype(np.float32)
    norm[0, 1, SPIKE] *= 100.0
    loss[0, 2, RISE:] *= 1000.0
    loss[0, 3, 10] = np.nan
    return Series(loss, norm)


def watched(steps, given=None, detector=None, flags=None):
    given, steps = series() if given is None else given, np.asarray([steps], np.int32)
    detector = anomaly.init(*steps.shape) if detector is None else detector
    flags = anomaly.silent(*steps.shape) if flags is None else flags
    return jax.device_get(watch(detector, flags, given, steps, NOBODY, 10))[:2]


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b)


def test_alarms_and_when_they_were_raised():
    _, flags = watched([T] * 4)
    kinds = [[], ["spike"], ["rise"], ["nonfinite"]]
    assert flags.alarm[0, [0, 1, 3]].tolist() == [bits(kinds[i]) for i in (0, 1, 3)]
    assert flags.alarm[0, 2] & bits(["rise"])
    names = {kind: i for i, kind in enumerate(anomaly.STREAMED)}
    assert flags.step[0, 1, names["spike"]] == SPIKE and flags.step[0, 3, names["nonfinite"]] == 10
    assert RISE <= flags.step[0, 2, names["rise"]] <= RISE + 3


def test_every_member_is_watched_for_its_own_steps_only():
    detector, flags = watched([T, SPIKE, RISE, 5])
    assert (flags.alarm == 0).all() and detector.count[0].tolist() == [T, SPIKE, RISE, 5]


def test_it_is_observing_step_by_step():
    given, steps = series(), np.asarray([T, 45, 35, 20])
    detector, flags = anomaly.init(4), anomaly.silent(4)
    for i in range(T):
        loss, norm = (values[0, :, i] for values in given)
        detector, raised = anomaly.observe(detector, loss, norm, i < steps)
        flags = anomaly.join(flags, raised)
    ours = watched(steps)
    close(jax.tree.map(lambda leaf: leaf[0], ours), jax.device_get((detector, flags)))


def test_a_series_may_be_cut_anywhere():
    first = watched([25] * 4)
    rest = jax.tree.map(lambda values: values[..., 25:], series())
    close(watched([T - 25] * 4, rest, *first), watched([T] * 4))


def reduced(losses, norms, steps, size, chosen=()):
    given = Series(np.asarray([losses], np.float32), np.asarray([norms], np.float32))
    steps, chosen = np.asarray([steps], np.int32), np.asarray(chosen, np.int32)
    nothing = anomaly.init(*steps.shape), anomaly.silent(*steps.shape)
    return jax.device_get(watch(*nothing, given, steps, chosen, size))[2:]


def test_windows_by_hand():
    """Two windows of two steps and a short one; a member that took a step, and an idle one."""
    losses = [[4.0, 1.0, 2.0, 3.0, 9.0, 7.0], [5.0] + [99.0] * 5, [99.0] * 6]
    norms = [[1.0, 3.0, 0.0, 4.0, 6.0, 99.0], [8.0] + [99.0] * 5, [99.0] * 6]
    windows, traced = reduced(losses, norms, [5, 1, 0], 2, [1, -1])
    assert windows.loss_min[0].tolist() == [[1, 2, 9], [5, 0, 0], [0, 0, 0]]
    assert windows.loss[0].tolist() == [[2.5, 2.5, 9], [5, 0, 0], [0, 0, 0]]
    assert windows.loss_max[0].tolist() == [[4, 3, 9], [5, 0, 0], [0, 0, 0]]
    assert windows.loss_last[0].tolist() == [[1, 3, 9], [5, 0, 0], [0, 0, 0]]
    assert windows.gradient_norm[0].tolist() == [[2, 2, 6], [8, 0, 0], [0, 0, 0]]
    assert traced.loss[0].tolist() == losses[1] and traced.gradient_norm[0].tolist() == norms[1]


def test_a_loss_that_is_no_number_spoils_its_own_window_only():
    windows, _ = reduced([[1.0, np.nan, 3.0, np.inf]], [[1.0] * 4], [4], 2)
    for values in windows[:3]:
        assert np.isnan(values[0, 0, 0])
    assert windows.loss_min[0, 0, 1] == 3 and np.isinf(windows.loss_max[0, 0, 1])
    assert np.isnan(windows.loss_last[0, 0, 0]) and windows.gradient_norm[0, 0].tolist() == [1, 1]


def test_windows_agree_with_numpy_and_do_not_depend_on_who_else_is_there():
    loss, norm = (values[0] for values in series())
    windows, _ = reduced(loss, norm, [T, 45, 0, 60], 10)
    alone, _ = reduced(loss[1:2], norm[1:2], [45], 10)
    for whole, one in zip(windows, alone, strict=True):
        assert np.array_equal(whole[0, 1, :5], one[0, 0, :5])
    parts = np.split(loss[1, :45].astype(np.float64), [10, 20, 30, 40])
    np.testing.assert_allclose(windows.loss[0, 1, :5], [p.mean() for p in parts], rtol=1e-6)
    assert windows.loss_last[0, 1, :5].tolist() == [p[-1] for p in parts]


def test_without_a_window_there_are_none():
    windows, traced = reduced([[1.0, 2.0]], [[3.0, 4.0]], [2], 0, [0])
    assert {values.shape for values in windows} == {(1, 1, 0)}
    assert traced.loss.tolist() == [[1.0, 2.0]]
    told = joined([(windows, traced, 0, 0)], 2, 0, np.asarray([True]))
    assert told.windows.loss.shape == (1, 1, 0)


def test_parts_of_a_lane_are_put_end_to_end():
    lane = np.asarray([[7, -1], [3, 5]])
    chosen = places((5, 8, 7), lane)
    assert chosen.tolist() == [3, -1, 0]
    whole = np.arange(16.0).reshape(2, 8)
    parts = [
        (Windows(*[values] * 5), Series(values, -values), 10 * k, k)
        for k, values in enumerate(np.split(whole, 2, axis=1))
    ]
    told = joined(parts, 6, 1, chosen >= 0)
    assert told.windows.loss_min.tolist() == whole[:, :6].tolist()
    assert told.traced.gradient_norm.tolist() == (-whole[:, :6]).tolist()
    assert told.held.tolist() == [True, False, True]
    assert told.wall_ns.tolist() == [0, 10] and told.monotonic_ns.tolist() == [0, 1]
