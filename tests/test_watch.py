import jax
import numpy as np

from swarmjax import anomaly
from swarmjax.anomaly import bits
from swarmjax.watch import Series, watch

T, SPIKE, RISE = 60, 40, 30


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
    return jax.device_get(watch(detector, flags, given, steps))


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
