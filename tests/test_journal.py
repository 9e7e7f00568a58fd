import math

import numpy as np
import pytest

from swarmjax import journal
from swarmjax.curves import Rows, step_columns, window_columns
from swarmjax.journal import Journal
from swarmjax.policy import keep
from swarmjax.telemetry import frame_table


class Memory:
    """Keeps tables in a dict."""

    def __init__(self):
        self.kept = {}

    def rows(self, kind, round, table):
        self.kept[kind, round] = table

    summary = rows


@pytest.fixture
def kept(frames):
    frame = frames([0.25, 0.75, 0.5], round=4, total_steps=[30, 40, 50], steps=[5, 3, 0])
    windows = {
        "member": [0, 0, 1], "done": [4, 5, 3], "steps": [4, 1, 3], "train_loss": [1.0, 2.0, 3.0]
    }  # fmt: skip
    windows = {name: np.asarray(values) for name, values in windows.items()}
    steps = step_columns([], np.zeros(3), ())
    row = {"member": 1, "parameter": "Dense_0/bias", "size": 2, "values": np.asarray([3.0, -4.0])}
    row |= {"mean": -0.5, "std": 3.5, "min": -4.0, "max": 3.0, "norm": 5.0}
    memory = Memory()
    journal = Journal(memory)
    table = frame_table(keep(frame), frame, time=0.0)
    journal.write(4, table, frame, Rows(windows, steps, [row]))
    return memory.kept


def test_windows_know_the_round_the_network_and_its_step(kept):
    windows = kept["windows", 4].to_pydict()
    assert windows["round"] == [4, 4, 4] and windows["birth"] == [0, 0, 1]
    assert windows["step"] == [29, 30, 40] and windows["steps"] == [4, 1, 3]
    assert "done" not in windows
    assert kept["steps", 4].num_rows == 0


def test_parameters_keep_their_values(kept):
    (row,) = kept["parameters", 4].to_pylist()
    assert (row["round"], row["member"], row["birth"], row["step"]) == (4, 1, 1, 40)
    assert row["parameter"] == "Dense_0/bias" and row["values"] == [3.0, -4.0]
    assert (row["size"], row["norm"]) == (2, 5.0)


def test_quantiles_are_of_scores_and_numbers(kept):
    table = kept["quantiles", 4]
    rows = {row["metric"]: row for row in table.to_pylist()}
    assert rows["valid_accuracy"]["q50"] == 0.5 and rows["valid_accuracy"]["members"] == 3
    assert {"train_loss", "gradient_norm", "learning_rate", "momentum"} < set(rows)
    assert "activation" not in rows and "depth" not in rows


def test_usage_is_stamped_and_counted(kept):
    (row,) = kept["usage", 4].to_pylist()
    assert (row["round"], row["node"], row["sequence"]) == (4, "local", 4)
    assert row["memory"] > 1e6 and row["cpu"] >= 0 and row["seconds"] >= 0
    assert row["wall_ns"] > 10**18 and (row["clock_offset"], row["clock_bound"]) == (0, 0)


def test_windows_of_a_round_without_training_have_no_rows(frames):
    memory, frame = Memory(), frames([0.5], round=1)
    shown = Rows(window_columns([], np.zeros(1), 8), step_columns([], np.zeros(1), ()), [])
    Journal(memory).write(1, frame_table(keep(frame), frame, time=0.0), frame, shown)
    assert {kind for kind, _ in memory.kept} == {
        "windows", "steps", "parameters", "quantiles", "usage"
    }  # fmt: skip
    assert memory.kept["parameters", 1].num_rows == memory.kept["windows", 1].num_rows == 0


def test_what_islands_use_is_added():
    nan = float("nan")
    here = {"cpu": 0.5, "memory": 10.0, "gpu": nan, "gpu_memory": nan}
    there = {"cpu": 1.5, "memory": 30.0, "gpu": 0.5, "gpu_memory": 7.0}
    found = journal.together([here, there, {**there, "gpu": 1.0}])
    assert found == {"cpu": 3.5, "memory": 70.0, "gpu": 0.75, "gpu_memory": 14.0}
    alone = journal.together([here])
    assert alone["cpu"] == 0.5 and math.isnan(alone["gpu"]) and math.isnan(alone["gpu_memory"])
