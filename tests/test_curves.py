import numpy as np
import pytest

from swarmjax import curves
from swarmjax.frames import LaneReport
from swarmjax.lanes import DECK, Report
from swarmjax.watch import Series, Shown, Windows

NONE = np.zeros(0)


def lane(places, windows, traced=NONE, held=(), calls=1):
    """A lane whose windows of all columns are the same numbers `[G, L, W]`."""
    values, series = np.asarray(windows, np.float32), np.asarray(traced, np.float32)
    times = 100 * (1 + np.arange(calls, dtype=np.int64))
    shown = Shown(
        Windows(*(values + k for k in range(5))), Series(series, -series),
        np.asarray(held, bool), times, times + 1,
    )  # fmt: skip
    report = Report(NONE, NONE, {}, NONE, NONE, shown=shown)
    return LaneReport(np.asarray(places), report, 1.0, None, 1.0)


def test_windows_of_several_lanes_are_in_order_and_end_with_the_grant():
    granted = np.asarray([3, 0, 8, 5])
    reports = [
        lane([[2, -1]], [[[20.0, 21.0], [9.0, 9.0]]]),
        lane([[3, 0], [1, -1]], [[[30.0, 31.0], [0.0, 9.0]], [[9.0, 9.0], [9.0, 9.0]]]),
    ]
    made = curves.window_columns(reports, granted, 4)
    assert made["member"].tolist() == [0, 2, 2, 3, 3]
    assert made["done"].tolist() == [3, 4, 8, 4, 5]
    assert made["steps"].tolist() == [3, 4, 4, 4, 1]
    assert made["train_loss_min"].tolist() == [0, 20, 21, 30, 31]
    assert made["train_loss"].tolist() == [1, 21, 22, 31, 32]
    assert made["gradient_norm"].tolist() == [4, 24, 25, 34, 35]
    assert set(made["wall_ns"].tolist()) == {100} and set(made["monotonic_ns"].tolist()) == {101}


def test_a_window_has_the_time_of_the_call_that_trained_it():
    windows = np.zeros((1, 1, 3))
    made = curves.window_columns([lane([[0]], windows, calls=2)], np.asarray([DECK + 1]), DECK // 2)
    assert made["wall_ns"].tolist() == [100, 100, 200]


def test_every_step_of_those_who_are_traced():
    """The second traced member is in another lane; the first took two steps of four."""
    reports = [
        lane([[5, 4]], [[[0.0], [0.0]]], [[1.0, 2.0, 9.0, 9.0], [8.0] * 4], [True, False]),
        lane([[7, -1]], [[[0.0], [0.0]]], [[8.0] * 3, [3.0, 4.0, 5.0]], [False, True]),
    ]
    granted = np.asarray([0, 0, 0, 0, 4, 2, 0, 3])
    made = curves.step_columns(reports, granted, (5, 7))
    assert made["member"].tolist() == [5, 5, 7, 7, 7] and made["done"].tolist() == [1, 2, 1, 2, 3]
    assert made["train_loss"].tolist() == [1, 2, 3, 4, 5]
    assert made["gradient_norm"].tolist() == [-1, -2, -3, -4, -5]


@pytest.mark.parametrize("make", [curves.window_columns, curves.step_columns])
def test_where_nobody_trained_there_are_columns_without_rows(make):
    made = make([], np.zeros(3, np.int32), ())
    assert {len(values) for values in made.values()} == {0}
    assert made["member"].dtype == np.int32 and made["train_loss"].dtype == np.float32
