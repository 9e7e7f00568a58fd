import numpy as np
from conftest import make_frame

from swarmjax import ipc, windows
from swarmjax.clock import Stamp
from swarmjax.node_windows import window_columns

FRAME = make_frame([0.1, 0.2], round=3, steps=[30, 0], total_steps=[130, 40])


def table(*rows):
    made = [
        windows.window([0.5] * steps, [2.0], round=round, step=step, seconds=1.0, usage={},
                       stamp=Stamp(1000 + step, step, 7, 9))
        for round, step, steps in rows
    ]  # fmt: skip
    return windows.read_windows(windows.write_windows(made))


def test_windows_of_a_round_are_columns_by_member_and_time():
    tables = {0: [table((3, 130, 10)), table((2, 90, 20), (3, 120, 20))], 1: [table((2, 40, 5))]}
    columns = window_columns(tables, FRAME)
    assert columns["member"].tolist() == [0, 0]
    # A hundred steps lie before the round.
    assert columns["done"].tolist() == [20, 30] and columns["steps"].tolist() == [20, 10]
    assert columns["train_loss"].tolist() == [0.5, 0.5]
    assert columns["gradient_norm"].tolist() == [2.0, 2.0]
    # By the controller's clock.
    assert columns["wall_ns"].tolist() == [1127, 1137]
    assert columns["monotonic_ns"].tolist() == [120, 130]
    assert columns["done"].dtype == np.int32 and columns["train_loss"].dtype == np.float32


def test_steps_that_nobody_reported_are_left_out():
    wrong = [table((3, 140, 10), (3, 105, 20), (3, -5, 1), (3, 2**31 - 1, 5))]
    none = table((3, 110, 5))
    steps = ipc.column(np.zeros(1, np.int32))
    none = none.set_column(none.column_names.index("steps"), "steps", steps)
    columns = window_columns({0: [*wrong, none], 1: wrong}, FRAME)
    assert all(len(values) == 0 for values in columns.values())
    assert window_columns({}, FRAME).keys() == columns.keys()
