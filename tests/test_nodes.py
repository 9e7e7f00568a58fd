import contextlib
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from swarmjax import directives, parcels, records, windows
from swarmjax.bus import Local, open_bus
from swarmjax.clock import Reading
from swarmjax.errors import InputError
from swarmjax.nodes import Node, Profile

ARRAYS = {"0.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "0.bias": np.zeros(2)}


class Controller:
    """The other end, by hand."""

    def __init__(self, bus):
        self._reader, self._writer = bus.consumer("swarmjax.s.up"), bus.publisher()
        self.heard, self.incarnation = [], 0

    def close(self):
        self._reader.close()
        self._writer.close()

    def tell(self, kind, incarnation=None, **fields):
        """By default to the node that was announced last, which is waited for."""
        if incarnation is None and not self.incarnation:
            said = self.until(records.Announce)
            self.heard.insert(0, said)
            self.incarnation = said.incarnation
        to = self.incarnation if incarnation is None else incarnation
        record = kind(node="n", incarnation=to, **fields)
        self._writer.publish("swarmjax.s.down.n", [directives.encode_down(record)])

    def grant(self, number, steps=3, start="own", **fields):
        given = {"round": 4, "genes": {"learning_rate": 0.5}} | fields
        self.tell(directives.Grant, number=number, steps=steps, start=start, **given)

    def until(self, kind, seconds=20):
        """The next record of a kind; all that came before it are in `heard`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for blob in self._reader.receive(0.1):
                self.heard.append(records.decode_up(blob))
            for record in self.heard:
                if isinstance(record, kind):
                    self.heard.remove(record)
                    return record
        raise AssertionError(f"no {kind.__name__} among {self.heard}")


@pytest.fixture
def bus():
    return Local()


@pytest.fixture
def controller(bus):
    return Controller(bus)


def node(bus, tmp_path, weights=None, **options):
    weights = ARRAYS if weights is None else weights
    layers = [records.Layer("0", "Linear", (3, 2)), records.Layer("1", "ReLU")]
    profile = Profile({"learning_rate": 0.1}, weights, layers=layers, framework="numpy")
    return Node(bus, "s", "n", tmp_path / "spool", profile, **options)


def test_a_node_says_who_it_is(bus, controller, tmp_path):
    with node(bus, tmp_path):
        said = controller.until(records.Announce)
    assert (said.node, said.sequence, said.step) == ("n", 0, 0)
    assert said.weights == {"0.weight": (2, 3), "0.bias": (2,)}
    assert (said.parameters, said.bytes) == (8, 6 * 4 + 2 * 8)
    assert said.connections == ((0, 1),)
    assert (said.genes, said.obeys) == ({"learning_rate": 0.1}, ("learning_rate",))
    assert controller.until(records.Leave).reason == "finished"


def test_a_job_is_done_and_reported(bus, controller, tmp_path):
    with node(bus, tmp_path, window=2, watch=["*.weight"]) as member:
        controller.grant(number=7)
        job = next(member.jobs())
        assert (job.number, job.round, job.steps, job.start) == (7, 4, 3, "own")
        assert (job.genes, job.weights) == ({"learning_rate": 0.5}, None)
        assert [member.step(loss, 2.0) for loss in (4.0, 2.0, 3.0)] == [True] * 3
        member.report({"valid_loss": 1.5}, ARRAYS, outputs=[[0.5, 0.5]])
        report = controller.until(records.Report)
    assert (report.grant, report.started, report.steps, report.step) == (7, "own", 3, 3)
    assert (report.loss, report.gradient_norm, report.finite) == (3.0, 2.0, True)
    assert report.metrics == {"valid_loss": 1.5}
    assert report.outputs == ((0.5, 0.5),)
    table = windows.read_windows(controller.until(records.Windows).table).to_pydict()
    assert table["train_loss"] == [3.0, 3.0]
    assert (table["steps"], table["step"], table["round"]) == ([2, 1], [2, 3], [4, 4])
    assert math.isnan(table["valid_loss"][0]) and table["valid_loss"][1] == 1.5
    assert table["0.weight:max"][1] == 5.0
    assert table["memory"][0] > 1e6
    assert "0.bias:max" not in table


def test_records_are_numbered_without_a_gap(bus, controller, tmp_path):
    with node(bus, tmp_path) as member:
        for number in (1, 2):
            controller.grant(number)
        for job in member.jobs(1.0):
            member.step(float(job.number))
            member.report({})
    controller.until(records.Leave)
    sequences = [r.sequence for r in controller.heard if not isinstance(r, records.Beat)]
    assert sequences == list(range(5))


def test_a_node_that_is_started_again_is_another_incarnation(bus, controller, tmp_path):
    seen = []
    for _ in range(2):
        with node(bus, tmp_path):
            seen.append(controller.until(records.Announce).incarnation)
    # One whose file was deleted numbers its records from 0 again.
    (tmp_path / "spool").unlink()
    with node(bus, tmp_path) as member:
        # Meant for the node that was here before.
        controller.grant(number=1, incarnation=seen[-1])
        assert list(member.jobs(0.5)) == []
        seen.append(controller.until(records.Announce).incarnation)
    assert seen == sorted(set(seen))


def test_grants_are_heeded_once_and_in_order(bus, controller, tmp_path):
    with node(bus, tmp_path) as member:
        for number in (5, 5, 3, 8):
            controller.grant(number)
        assert [job.number for job in member.jobs(1.0)] == [5, 8]


def test_a_node_stops_in_the_middle_of_a_job(bus, controller, tmp_path):
    with node(bus, tmp_path) as member:
        jobs = member.jobs(20)
        controller.grant(1, steps=10**6)
        next(jobs)
        controller.tell(directives.Stop, reason="enough")
        steps = 0
        while member.step(1.0):
            steps += 1
            time.sleep(0.001)
        assert steps < 10**5
        member.report({})
        assert list(jobs) == []
    assert controller.until(records.Report).steps == steps + 1


def test_weights_are_given_and_taken(bus, controller, tmp_path):
    other = {path: array + 1 for path, array in ARRAYS.items()}
    with node(bus, tmp_path) as member:
        controller.tell(directives.Share, request=3)
        shared = controller.until(records.Shared)
        mine = parcels.read_weights([shared.data], {"0.weight": (2, 3), "0.bias": (2,)})
        np.testing.assert_array_equal(mine["0.weight"], ARRAYS["0.weight"])
        (data,) = parcels.write_weights(other)
        controller.tell(directives.Given, request=9, part=0, parts=1, data=data)
        controller.grant(1, steps=0, start="weights", request=9, step=40)
        job = next(member.jobs())
        np.testing.assert_array_equal(job.weights["0.bias"], [1, 1])
        # The trainer's own arrays may change after the report.
        given = {path: array.copy() for path, array in other.items()}
        member.report({}, given)
        given["0.bias"][:] = 7
        report = controller.until(records.Report)
        assert (report.started, report.step, report.steps) == ("weights", 40, 0)
        controller.tell(directives.Share, request=4)
        shared = controller.until(records.Shared)
        again = parcels.read_weights([shared.data], {"0.weight": (2, 3), "0.bias": (2,)})
        np.testing.assert_array_equal(again["0.bias"], [1, 1])


@pytest.mark.parametrize("fault", ["missing", "architecture"])
def test_weights_of_no_use_are_not_taken_and_told(bus, controller, tmp_path, fault):
    with node(bus, tmp_path) as member:
        if fault == "architecture":
            (data,) = parcels.write_weights({"0.weight": np.zeros((9, 9))})
            controller.tell(directives.Given, request=9, part=0, parts=1, data=data)
        controller.grant(1, start="weights", request=9, step=40)
        job = next(member.jobs())
        assert (job.start, job.weights) == ("own", None)
        assert member.refused == 1
        member.report({})
    assert controller.until(records.Report).started == "own"


def test_a_fresh_start_counts_steps_anew(bus, controller, tmp_path):
    with node(bus, tmp_path) as member:
        jobs = member.jobs()
        for number, start in ((1, "own"), (2, "fresh")):
            controller.grant(number, start=start)
            assert next(jobs).start == start
            member.step(1.0)
            member.report({})
    assert [controller.until(records.Report).step for _ in range(2)] == [1, 1]


def test_what_is_not_finite_is_told(bus, controller, tmp_path):
    with node(bus, tmp_path) as member:
        member.step(math.nan)
        member.report({"valid_loss": math.inf})
        assert not controller.until(records.Report).finite
        member.report({}, {"0.weight": np.array([np.inf])})
        assert not controller.until(records.Report).finite


def test_malformed_directives_are_refused_and_counted(bus, controller, tmp_path):
    with node(bus, tmp_path) as member:
        bus.publisher().publish("swarmjax.s.down.n", [b"", b"\xff" * 50, b"x"])
        controller.tell(directives.Given, request=1, part=3, parts=2, data=b"")
        controller.grant(1)
        assert next(member.jobs()).number == 1
        assert member.refused == 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"swarm": "a b"}, "the name 'a b'"),
        ({"name": "../n"}, "the name"),
        ({"genes": {"learning rate": 1}}, "genes"),
        ({"weights": {"../w": np.zeros(1)}}, "weights"),
        ({"window": 0}, "window must be"),
        ({"weights": {f"w{i}": np.zeros(1) for i in range(200)}}, "200 parameters are watched"),
    ],
)
def test_bad_input_is_refused_in_a_line(bus, tmp_path, change, reason):
    given = {"swarm": "s", "name": "n", "genes": {}, "weights": {}, "window": 5} | change
    profile = Profile(given["genes"], given["weights"])
    with pytest.raises(InputError, match=reason):
        Node(bus, given["swarm"], given["name"], tmp_path / "spool", profile,
             window=given["window"], watch=["*"])  # fmt: skip
    # Nothing is left behind that would be in the way.
    with node(bus, tmp_path) as member:
        with pytest.raises(InputError, match="metrics are called"):
            member.report({"accuracy": 1.0})


def test_a_skewed_and_drifting_clock_is_corrected_within_the_bound(rabbit, tmp_path):
    # A wall clock that nobody sets meanwhile.
    begun = time.time_ns() - time.monotonic_ns()

    def wall():
        return begun + time.monotonic_ns()

    def skewed():
        monotonic = time.monotonic_ns()
        return Reading(
            begun + monotonic + 3_700_000_000 + monotonic // 5000, monotonic + monotonic // 5000
        )

    bus = open_bus(rabbit.url)
    with (
        contextlib.closing(Controller(bus)) as controller,
        node(bus, tmp_path, read_clock=skewed, heartbeat=0.02) as member,
    ):
        for _ in range(20):
            beat = controller.until(records.Beat)
            now = wall()
            controller.tell(directives.Pulse, sent=beat.sent, received=now, answered=now)
        time.sleep(0.3)
        before, stamp, after = wall(), member._stamp(), wall()
    assert 0 <= stamp.clock_bound < 5e9
    assert stamp.clock_offset < -3.6e9
    assert before - stamp.clock_bound <= stamp.corrected <= after + stamp.clock_bound


def test_nodes_import_no_jax():
    code = "import sys, swarmjax.nodes; print({'jax', 'pandas', 'torch'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
