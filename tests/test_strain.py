"""Detectors of strained resources on made series."""

import jax
import numpy as np
import pytest

from swarmjax import strain

SLOW, MEMORY = ["slow"], ["memory"]
nan = np.nan


def watch(seconds, memory=None):
    """Alarms of every round of one member."""
    memory = np.full(len(seconds), nan) if memory is None else memory
    state, told = strain.init(1), []
    for spent, used in zip(seconds, memory, strict=True):
        state, values = strain.observe(state, np.array([spent]), np.array([used]))
        told.append([kind for kind, value in values.items() if value[0]])
    return told


def test_an_alarm_tells_by_how_much():
    state = strain.init(1)
    for i in range(1, 30):
        seconds, memory = (1.0 if i < 12 else np.e), 100.0 + 5.0 * max(i - 20, 0)
        state, values = strain.observe(state, np.array([seconds]), np.array([memory]))
        # The log step time is 1 above the mean, and deviations count as 0.1 at least.
        assert values["slow"][0] == pytest.approx(10.0 if i == 16 else 0.0, abs=1e-4)
        assert values["memory"][0] == pytest.approx(0.4 if i == 28 else 0.0)


def test_five_slow_rounds_in_a_row_are_an_alarm_once():
    assert watch([1.0] * 10 + [2.0] * 10) == [[]] * 14 + [SLOW] + [[]] * 5


def test_four_slow_rounds_or_rounds_not_in_a_row_are_none():
    assert not any(watch(([1.0] * 6 + [2.0] * 4) * 5))


def test_a_round_that_was_not_measured_does_not_count():
    assert watch([1.0] * 10 + [2.0, nan, 2.0, 2.0, 2.0, 2.0])[-1] == SLOW


@pytest.mark.parametrize(("factor", "alarms"), [(1.45, 0), (1.55, 1)])
def test_slow_is_four_deviations_of_at_least_a_tenth(factor, alarms):
    # exp(4 * 0.1) is 1.49.
    assert sum(alarm == SLOW for alarm in watch([1.0] * 10 + [factor] * 6)) == alarms


def test_the_first_rounds_which_compile_are_no_norm():
    assert not any(watch([30.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]))
    assert not any(watch([1.0, 30.0, 30.0, 30.0, 30.0]))


def test_memory_that_grows_for_eight_rounds_by_a_fifth():
    growing = [100.0] * 13 + [100 + 3.0 * i for i in range(1, 9)]
    assert watch([nan] * len(growing), growing) == [[]] * 20 + [MEMORY]


def test_memory_that_a_process_takes_at_first_does_not_count():
    taken = [400.0 + 20 * i for i in range(12)]
    assert not any(watch([nan] * 30, taken + [taken[-1]] * 18))
    assert any(watch([nan] * 30, [400.0] * 10 + taken + [taken[-1]] * 8))


@pytest.mark.parametrize(
    "memory",
    [
        [100.0] * 30,
        [100.0] * 5 + [200.0] * 20,
        [100.0, 120.0] * 12,
        [100 + 0.05 * i for i in range(30)],
        [100 + 2.0 * i for i in range(9)],
        [nan] * 12,
    ],
)
def test_memory_that_does_not_keep_growing(memory):
    settled = [memory[0]] * strain.SETTLING + memory
    assert not any(watch([nan] * len(settled), settled))


def test_members_are_told_apart_and_jit_agrees():
    seconds = np.where(np.arange(20)[:, None] < 10, 1.0, np.array([1.0, 3.0]))
    memory = 100.0 * np.stack([1.1 ** np.arange(20), np.ones(20)], axis=1)
    plain, told = strain.init(2), []
    traced = plain
    for spent, used in zip(seconds.astype(np.float32), memory.astype(np.float32), strict=True):
        plain, values = strain.observe(plain, spent, used)
        traced, same = jax.jit(strain.observe)(traced, spent, used)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), values, same)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), plain, traced)
        told.append([(kind, *np.flatnonzero(value)) for kind, value in values.items()])
    assert told[14] == [("slow", 1), ("memory",)] and told[18] == [("slow",), ("memory", 0)]
    assert plain.slow.tolist() == [0, 0]
