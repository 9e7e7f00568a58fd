import contextlib

import pytest

import swarmjax as sj
from paper import telemetry_cost


class Side:
    """A worker whose rounds take as long as is said."""

    def __init__(self):
        self.asked = []

    def ask(self, arguments):
        self.asked.append(arguments["on"])
        return {"cpu_seconds": 3.0 if arguments["on"] else 2.0}


def test_rounds_are_measured_in_turn_and_not_while_they_compile():
    worker = Side()
    raw = telemetry_cost.in_turn(worker, 3)
    assert raw == {"on": [3.0] * 3, "off": [2.0] * 3}
    assert worker.asked == [False, True, True, False] * 2 + [False, True]


def test_a_simulated_run_is_written_as_a_real_one_is_and_its_bytes_counted(tmp_path):
    windows = telemetry_cost.write_run(tmp_path / "run", 20, 3)
    parts = telemetry_cost.sizes(tmp_path / "run")
    assert {"frames", "windows", "swarm.db", "descriptors.npz"} <= set(parts)
    with contextlib.closing(sj.open_run(tmp_path / "run")) as reader:
        kept, frames = reader.windows(), reader.frames()
        assert kept.num_rows == windows and reader.rounds() == [1, 2, 3]
        assert sum(kept["steps"].to_pylist()) == sum(frames["steps"].to_pylist())
        assert max(kept["steps"].to_pylist()) == 16
        assert reader.summaries("quantiles").num_rows > 3
        assert reader.summaries("usage").num_rows == 3


@pytest.mark.parametrize("row", [telemetry_cost.overhead, telemetry_cost.disk])
def test_rows_have_a_bar_each(row):
    (target,) = row().targets(True).values()
    assert target.sense == "<="
