import time

import numpy as np
import pyarrow as pa
import pytest
from node_records import report

from paper import (
    bench_telemetry,
    clocks,
    fuzz,
    jitter,
    mixed_swarm,
    outage,
    stream,
    stream_worker,
)
from swarmjax import clock, records, telemetry
from swarmjax.errors import InputError
from swarmjax.inbox import Inbox
from swarmjax.steering import Clone, Member


def test_the_rows_have_bars_of_names_of_their_own():
    names = [name for row in bench_telemetry.ROWS.values() for name in row.targets(True)]
    assert len(names) == len(set(names)) >= 12


def test_messages_are_sorted_into_kept_repeated_and_refused(tmp_path):
    inbox = Inbox(tmp_path / "inbox.db")
    good = records.encode_up(report())
    found = fuzz.sort_out(inbox, [good, good, b"", b"\xff", b""])
    inbox.close()
    assert found == {"messages": 5, "kept": 1, "repeated": 1, "refused": 3, "raised": 0}


def test_sound_records_are_sound():
    kinds = {type(records.decode_up(blob)).__name__ for blob in fuzz.sound()}
    assert kinds == {"Announce", "Report", "Windows", "Shared", "Leave", "Beat"}


def test_sound_bulletins_are_sound():
    assert len(fuzz.told()) == 5
    for blob in fuzz.told():
        fuzz.bulletin(blob)


def test_a_skewed_clock_knows_what_is_true():
    skewed = clocks.Skewed(3.7, 200e-6)
    time.sleep(0.05)
    before, reading, after = time.monotonic_ns(), skewed(), time.monotonic_ns()
    (true,) = skewed.true(np.array([reading.monotonic]))
    assert before - 1000 <= true <= after + 1000
    # Fifty milliseconds at 200 ppm are ten microseconds.
    assert 10_000 <= reading.monotonic - before < after - before + 200_000_000
    assert abs(reading.wall - time.time_ns() - 3_700_000_000) < 1_000_000_000


def test_pairs_are_wrong_only_beyond_all_doubt():
    true, node = np.array([0, 10, 20]), np.array(["a", "b", "a"])
    wrong = lambda corrected, bound: clocks.wrong_pairs(  # noqa: E731
        true, np.array(corrected), np.full(3, bound), node
    )
    assert wrong([0, 10, 20], 0) == 0
    assert wrong([50, 10, 20], 19) == 1
    assert wrong([50, 10, 20], 20) == 0
    # Of one node nobody doubts the order.
    assert clocks.wrong_pairs(true, true[::-1], np.zeros(3, int), np.array(["a"] * 3)) == 0


def test_a_line_is_late_and_keeps_order():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        line = jitter.Jitter(server.getsockname()[1], most=0.01)
        with socket.create_connection(("127.0.0.1", line.port)) as near:
            far, _ = server.accept()
            with far:
                for number in range(20):
                    near.sendall(b"%02d" % number)
                come = b""
                while len(come) < 40:
                    come += far.recv(100)
                assert come == b"".join(b"%02d" % number for number in range(20))
                far.sendall(b"back")
                assert near.recv(10) == b"back"
        line.close()


def test_the_step_is_compared_by_medians():
    times = {"up": 2.0, "down": 2.2, "none": 2.0}
    answers = [
        {side: {"cpu_seconds": t + odd, "seconds": 2 * t} for side, t in times.items()}
        for odd in (0.0, 0.0, 5.0)
    ]
    values, raw = outage._summary(answers)
    assert values == {"step_with_broker_down": pytest.approx(1.1)}
    assert raw["seconds"]["down_over_none"] == pytest.approx(1.1)
    assert raw["cpu_seconds"]["microseconds_a_step"]["up"] == pytest.approx(1e6 * 2.0 / 2000)


def test_a_stream_that_falls_behind_is_seen():
    times = [i / 10 for i in range(200)]
    steady = [(i, 0.3) for i in range(0, 200, 3)]
    values, _ = stream._summary(steady, times, 200, [1.0, 1.0])
    assert values["stream_windows_a_second"] == pytest.approx(10_000)
    assert values["stream_rounds_missing"] == 0
    assert values["stream_age_late_over_early"] == 1.0
    late, _ = stream._summary([(i, i / 20) for i in range(0, 200, 3)], times, 200, [1.0, 1.0])
    assert late["stream_age_late_over_early"] > 1.5 and late["stream_seconds_behind"] > 2.0
    lost, _ = stream._summary(steady, times[:150], 200, [1.0, 1.0])
    assert lost["stream_rounds_missing"] == 50


def test_made_up_rounds_look_like_real_ones():
    rows = stream_worker.rows(np.random.default_rng(0), 7, 5)
    assert rows.num_rows == 5 and set(rows["round"].to_pylist()) == {7}
    documented = telemetry.__doc__ or ""
    assert all(name in documented or name.startswith(("valid_", "learning")) for name in
               rows.column_names)  # fmt: skip


def test_a_copy_is_asked_for_between_nodes_of_one_size():
    rows = [(i, 10 + i, size, score) for i, (size, score) in enumerate(
        [(9, 0.9), (5, 0.2), (5, 0.4), (7, 0.1), (5, 0.3)])]  # fmt: skip
    names = ("member", "birth", "parameters", "valid_accuracy")
    table = pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))
    assert mixed_swarm.copied(table) == Clone(Member(2, 12), Member(1, 11))
    unknown = table.set_column(3, "valid_accuracy", pa.array([np.nan] * 5))
    for others in (unknown, table.set_column(2, "parameters", pa.array([1, 2, 3, 4, 5]))):
        with pytest.raises(InputError, match="no two nodes"):
            mixed_swarm.copied(others)


def test_offsets_are_told_of_the_controllers_clock():
    start = clock.read()
    now = clock.controller_clock(lambda: clock.Reading(start.wall, time.monotonic_ns()))
    assert abs(clocks._controller(now) - (now() - time.monotonic_ns())) < 1_000_000_000
