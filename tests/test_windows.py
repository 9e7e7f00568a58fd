import math

import numpy as np
import pyarrow as pa
import pytest

from swarmjax import ipc, windows
from swarmjax.clock import Stamp
from swarmjax.errors import InputError

STAMP = Stamp(10**18, 7, -5, 3)


def row(losses=(4.0, 1.0, 2.5), norms=(1.0, 2.0), **more):
    made = windows.window(
        losses, norms, round=2, step=13, seconds=0.6, usage={"cpu": 1.5}, stamp=STAMP
    )
    return made | more


def test_a_window_reduces_its_steps():
    made = row()
    assert (made["train_loss_min"], made["train_loss"], made["train_loss_max"]) == (1.0, 2.5, 4.0)
    assert (made["train_loss_last"], made["steps"], made["step"]) == (2.5, 3, 13)
    assert made["gradient_norm"] == 1.5
    assert made["seconds"] == pytest.approx(0.2)
    assert made["cpu"] == 1.5
    assert math.isnan(made["gpu"])
    assert (made["wall_ns"], made["clock_offset"], made["clock_bound"]) == (10**18, -5, 3)


def test_a_window_of_losses_that_are_not_finite_is_one():
    made = row([math.inf, -math.inf, 1.0], [])
    assert math.isnan(made["train_loss"])
    assert (made["train_loss_min"], made["train_loss_max"]) == (-math.inf, math.inf)
    assert math.isnan(made["gradient_norm"])


def test_tables_read_back_and_say_where_nothing_was_measured():
    rows = [row(), row([1e300], **{"valid_f1": 0.5, "0.weight:std": 2.0})]
    found = windows.read_windows(windows.write_windows(rows)).to_pydict()
    assert set(found) == {*windows.COLUMNS, "valid_f1", "0.weight:std"}
    assert found["wall_ns"] == [10**18] * 2
    assert math.isnan(found["valid_f1"][0]) and found["valid_f1"][1] == 0.5
    assert found["0.weight:std"][1] == 2.0
    assert found["train_loss_last"] == [2.5, math.inf]


def test_statistics_are_of_the_paths_that_fit():
    arrays = {
        "Dense_0/kernel": np.array([[3.0, -4.0]]), "Dense_0/bias": np.zeros(2),
        "empty/kernel": np.zeros(0), "Dense_1/kernel": np.ones(4, np.float16),
    }  # fmt: skip
    found = windows.statistics(arrays, ["*/kernel"])
    assert len(found) == 10
    assert found["Dense_0/kernel:norm"] == 5.0
    assert found["Dense_0/kernel:mean"] == -0.5
    assert found["Dense_0/kernel:std"] == 3.5
    assert (found["Dense_0/kernel:min"], found["Dense_0/kernel:max"]) == (-4.0, 3.0)
    assert found["Dense_1/kernel:norm"] == 2.0
    assert windows.statistics(arrays, []) == {}
    infinite = windows.statistics({"w": np.array([np.inf, -np.inf])}, ["w"])
    assert math.isnan(infinite["w:mean"])


def table(**changes):
    columns = {name: pa.array([1], kind) for name, kind in windows.COLUMNS.items()}
    kept = {name: column for name, column in (columns | changes).items() if column is not None}
    return ipc.to_bytes(pa.table(kept))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"step": None}, "lacks step"),
        ({"step": pa.array([1], pa.int64())}, "step of a table of windows is not int32"),
        ({"wall_ns": pa.array([None], pa.int64())}, "empty places"),
        ({"extra": pa.array([1.0], pa.float32())}, "'extra', unknown"),
        ({"valid_f1": pa.array([1.0], pa.float64())}, "'valid_f1', unknown"),
        ({"../w:mean": pa.array([1.0], pa.float32())}, "'../w:mean', unknown"),
        ({"w:median": pa.array([1.0], pa.float32())}, "'w:median', unknown"),
        ({":mean": pa.array([1.0], pa.float32())}, "':mean', unknown"),
    ],
)
def test_other_tables_are_refused(changes, reason):
    with pytest.raises(InputError, match=reason):
        windows.read_windows(table(**changes))


def test_a_table_of_too_many_windows_is_refused():
    assert windows.read_windows(table()).num_rows == 1
    many = ipc.to_bytes(pa.concat_tables([ipc.from_bytes(table(), most_rows=1)] * 4097))
    with pytest.raises(InputError, match="more than 4096 rows"):
        windows.read_windows(many)
