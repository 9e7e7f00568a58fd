import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmjax.errors import InputError
from swarmjax.spool import Spool


@pytest.fixture
def path(tmp_path):
    return tmp_path / "node.spool"


def contents(spool):
    return [(message.channel, message.data) for message in spool.head(10_000)]


def test_messages_leave_in_the_order_they_came(path):
    spool = Spool(path)
    for i in range(5):
        assert spool.put("up", b"%d" % i)
    first = spool.head(2)
    assert [message.data for message in first] == [b"0", b"1"]
    assert [message.data for message in spool.head(2)] == [b"0", b"1"]
    spool.done(first)
    assert contents(spool) == [("up", b"2"), ("up", b"3"), ("up", b"4")]
    assert len(spool) == 3
    spool.close()


def test_what_was_not_confirmed_is_there_after_a_restart(path):
    spool = Spool(path)
    spool.put("a", b"1")
    spool.put("b", bytes(1000))
    spool.done(spool.head(1))
    spool.close()
    again = Spool(path)
    assert contents(again) == [("b", bytes(1000))]
    assert len(again) == 1
    again.close()


def test_no_two_openings_have_the_same_incarnation(path, monkeypatch):
    def opened(milliseconds):
        monkeypatch.setattr("swarmjax.spool.time.time_ns", lambda: milliseconds * 10**6)
        spool = Spool(path)
        spool.close()
        return spool.incarnation

    times = [1000, 1000, 1000, 900, 5000]
    assert [opened(when) for when in times] == [1000, 1001, 1002, 1003, 5000]
    path.unlink()
    assert opened(5001) == 5001


def test_a_full_spool_loses_the_oldest_and_says_so_once(path):
    told = []
    spool = Spool(path, room=1000, tell=told.append)
    for i in range(30):
        spool.put("up", bytes([i]) * 100)
    left = [data[0] for _, data in contents(spool)]
    assert left == list(range(30 - len(left), 30))
    assert 8 <= len(left) <= 10
    assert spool.lost == 30 - len(left)
    assert len(told) == 1
    assert "the spool of 1000 bytes is full; telemetry is being lost" in told[0]
    spool.done(spool.head(100))
    # Once there was room again, it is news again.
    for _ in range(12):
        spool.put("up", bytes(100))
    assert len(told) == 2
    spool.close()


def test_precious_messages_are_never_lost(path):
    spool = Spool(path, room=1000)
    for i in range(20):
        spool.put("up", bytes([i]) * 100, precious=i % 2 == 0)
    left = [data[0] for _, data in contents(spool)]
    assert [i for i in left if i % 2 == 0] == list(range(0, 20, 2))
    assert len(left) < 20
    spool.put("up", bytes(5000), precious=True)
    assert len(contents(spool)[-1][1]) == 5000
    spool.close()


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 60), st.booleans(), st.integers(0, 3))))
def test_size_and_count_stay_true_whatever_happens(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("spool") / "s"
    spool = Spool(path, room=200)
    for size, precious, taken in steps:
        spool.put("up", bytes(size), precious=precious)
        spool.done(spool.head(taken) if taken else [])
    sizes = [len(data) for _, data in contents(spool)]
    assert (len(spool), spool._size) == (len(sizes), sum(sizes))
    spool.close()


def test_a_message_confirmed_after_it_was_lost_counts_once(path):
    spool = Spool(path, room=300)
    spool.put("up", bytes(100))
    under_way = spool.head(1)
    for _ in range(5):
        spool.put("up", bytes(100))
    spool.done(under_way)
    assert len(spool) == len(contents(spool))
    spool.close()


def test_batches_are_bounded_by_bytes_but_never_empty(path):
    spool = Spool(path)
    for size in (50, 60, 500):
        spool.put("up", bytes(size))
    assert [len(m.data) for m in spool.head(10, size=100)] == [50]
    assert [len(m.data) for m in spool.head(10, size=110)] == [50, 60]
    spool.done(spool.head(2))
    assert [len(m.data) for m in spool.head(10, size=110)] == [500]
    spool.close()


def test_waiting_ends_when_something_comes(path):
    spool = Spool(path)
    assert spool.head(1, seconds=0.05) == []
    later = threading.Timer(0.1, spool.put, ("up", b"late"))
    later.start()
    assert [m.data for m in spool.head(1, seconds=20)] == [b"late"]
    later.join()
    spool.close()


def test_a_spool_belongs_to_one_process(path):
    code = "import sys; from swarmjax.spool import Spool; s = Spool(sys.argv[1]); input()"
    spool = Spool(path)
    other = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, input=""
    )
    assert "it is another process's; name another" in other.stderr
    spool.close()
    Spool(path).close()


def test_what_is_no_spool_is_refused(tmp_path):
    (tmp_path / "text").write_text("x" * 5000)
    with pytest.raises(InputError, match="cannot be used as a spool: file is not a database"):
        Spool(tmp_path / "text")
    with pytest.raises(InputError, match="cannot be written"):
        Spool(tmp_path / "no folder" / "s")


def test_a_place_that_cannot_be_written_is_refused(closed_directory):
    with pytest.raises(InputError, match="cannot be written"):
        Spool(closed_directory / "s")


def test_a_full_disk_loses_the_message_and_not_the_trainer(path):
    told = []
    spool = Spool(path, tell=told.append)
    spool.put("up", b"before")
    spool._entrance.execute("PRAGMA max_page_count = 10")
    kept = [spool.put("up", bytes(3000)) for _ in range(20)]
    assert not all(kept)
    assert spool.lost == kept.count(False)
    assert len(told) == 1 and "full" in told[0]
    assert len(spool) == 1 + kept.count(True) == len(contents(spool))
    spool.close()


def test_many_threads_put_while_one_sends(path):
    spool, seen = Spool(path), []

    def put(mark):
        for i in range(50):
            spool.put(mark, b"%d" % i)

    threads = [threading.Thread(target=put, args=(mark,)) for mark in "abc"]
    for thread in threads:
        thread.start()
    while len(seen) < 150:
        some = spool.head(20, seconds=20)
        seen += some
        spool.done(some)
    for thread in threads:
        thread.join()
    for mark in "abc":
        assert [m.data for m in seen if m.channel == mark] == [b"%d" % i for i in range(50)]
    assert len(spool) == 0
    spool.close()


WRITER = """
import os, sys
from swarmjax.spool import Spool
spool = Spool(sys.argv[1])
i = 0
while True:
    spool.put("up", b"%d" % i)
    os.write(1, b"%d\\n" % i)
    i += 1
"""


def test_what_was_accepted_outlives_kill_9(path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE)
    lines = [process.stdout.readline() for _ in range(200)]
    os.kill(process.pid, signal.SIGKILL)
    lines += process.stdout.readlines()
    process.stdout.close()
    process.wait()
    accepted = [line.strip() for line in lines if line.endswith(b"\n")]
    spool = Spool(path)
    kept = [data for _, data in contents(spool)]
    # One more may have been kept than could be told.
    assert kept[: len(accepted)] == accepted and len(kept) <= len(accepted) + 1
    spool.close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()
