import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pytest

from swarmjax import space, store, stored
from swarmjax.policy import keep
from swarmjax.telemetry import frame_table, plan_from_table, plan_table
from swarmjax.types import InputError

SPACE = space.Space(rate=space.log_uniform(1e-3, 1.0), depth=space.structure(1, 2))
STATUS = store.Status("running", 1, 10, 100, None, 2, 2, 0.0)


@pytest.fixture
def writer(tmp_path):
    writer = store.create(tmp_path / "run", {"seed": 1}, SPACE)
    yield writer
    writer.close()


@pytest.fixture
def reader(writer):
    reader = stored.open_run(writer.directory)
    yield reader
    reader.close()


def rows(round, members=2):
    return pa.table({"round": np.full(members, round, np.int32), "member": np.arange(members)})


def test_everything_comes_back(writer, reader, frames):
    frame = frames([0.1, np.nan], space=SPACE)
    plan = jax.device_get(keep(frame))
    writer.plan(1, plan_table(plan))
    writer.frame(1, frame_table(plan, frame, time=1.5))
    writer.event(1, "died", "not finite", member=1)
    writer.status(STATUS)
    writer.best({"dense/kernel": np.eye(2, dtype=np.float32)}, {"genome": {"rate": 0.1}})
    assert reader.config == {"seed": 1}
    assert reader.space == SPACE
    assert reader.rounds() == [1]
    assert reader.frames()["rate"].to_numpy().tobytes() == np.asarray(plan.genome["rate"]).tobytes()
    ((round, table),) = reader.plans()
    assert round == 1
    assert jax.tree.all(jax.tree.map(np.array_equal, plan_from_table(table), plan))
    (event,) = reader.events()
    assert event[2:] == (1, "died", 1, "not finite", None, None)
    assert reader.status()._replace(heartbeat=0.0) == STATUS
    assert reader.status().heartbeat > 1e9
    params, record = reader.best()
    np.testing.assert_array_equal(params["dense/kernel"], np.eye(2))
    assert record == {"genome": {"rate": 0.1}}


def test_what_was_decided_about_speed_is_kept_and_may_be_decided_anew(writer, reader):
    with pytest.raises(InputError, match="not a complete run: it has no engine"):
        reader.engine()
    choices = {"costs": {"compile_seconds": 0.1 + 0.2, "chunk": 8}, "chunks": {"Box(1, 8)": 32}}
    for chosen in ({"costs": {}, "chunks": {}}, choices):
        writer.engine(chosen)
        assert reader.engine() == chosen


def test_rounds_come_in_order_and_from_where_asked(writer, reader):
    for round in (10, 2, 1, 1_000_000):
        writer.frame(round, rows(round))
    assert reader.rounds() == [1, 2, 10, 1_000_000]
    assert reader.frames(since=3)["round"].to_pylist() == [10, 10, 1_000_000, 1_000_000]
    with pytest.raises(InputError, match="no finished round from 2000000"):
        reader.frames(since=2_000_000)


def test_a_round_written_twice_holds_the_last(writer, reader):
    writer.frame(1, rows(1))
    writer.frame(1, rows(1, members=5))
    assert reader.frames().num_rows == 5


def test_events_are_followed_by_id(writer, reader):
    for text in ("a", "b", "c"):
        writer.event(0, "started", text)
    first = reader.events()[0].id
    assert [event.text for event in reader.events(since=first)] == ["b", "c"]


def test_nothing_yet(reader):
    assert reader.rounds() == reader.events() == list(reader.plans()) == []
    for ask in (reader.frames, reader.best):
        with pytest.raises(InputError, match="no finished round"):
            ask()
    assert reader.status().state == "running" and reader.status().round == 0


def test_leftovers_and_strangers_are_not_rounds(writer, reader):
    writer.frame(1, rows(1))
    for name in (".r000002.parquet.part", "rubbish.parquet", "r3.parquet.part", "x.txt"):
        (writer.directory / "frames" / name).write_bytes(b"half")
    assert reader.rounds() == [1]
    assert reader.frames().num_rows == 2


def test_a_failed_write_leaves_the_old_segment_and_no_part(writer, reader, monkeypatch):
    writer.frame(1, rows(1))

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        writer.frame(1, rows(1, members=9))
    assert os.listdir(writer.directory / "frames") == ["r000001.parquet"]
    assert reader.frames().num_rows == 2


def test_no_reader_ever_sees_a_part(writer, reader, monkeypatch):
    seen = []
    replace = os.replace

    def spy(source, target):
        seen.append(reader.rounds())
        replace(source, target)
        seen.append(reader.rounds())

    monkeypatch.setattr(os, "replace", spy)
    writer.frame(7, rows(7))
    assert seen == [[], [7]]


def test_an_existing_run_is_refused(writer):
    for make in (store.check_free, lambda d: store.create(d, {}, SPACE)):
        with pytest.raises(InputError, match="already holds a run"):
            make(writer.directory)


def test_an_existing_directory_without_a_run_is_welcome(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    store.create(tmp_path, {}, SPACE).close()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "file" / "a" / "b"):
        with pytest.raises(InputError, match="file is not a directory"):
            store.create(path, {}, SPACE)


def test_a_place_without_permission_is_refused(closed_directory):
    with pytest.raises(InputError, match="no permission to write"):
        store.create(closed_directory / "run", {}, SPACE)


@pytest.mark.parametrize("name", ["a\0b", "x" * 300])
def test_impossible_names_are_an_input_error(tmp_path, name):
    with pytest.raises(InputError, match="cannot use"):
        store.create(tmp_path / name, {}, SPACE)


@pytest.mark.parametrize(
    "name", ["lr=0.1", "a b", "é", "50%20", "what?mode=rwc", "#1", "[ab]*", "'; DROP TABLE meta;--"]
)
def test_hostile_names_are_only_names(tmp_path, name):
    writer = store.create(tmp_path / name, {}, SPACE)
    writer.frame(1, rows(1))
    writer.event(0, name, name)
    writer.close()
    reader = stored.open_run(tmp_path / name)
    assert reader.frames().column_names == ["round", "member"]
    assert reader.events()[0][3:] == (name, None, name, None, None)
    assert stored.list_runs(tmp_path) == [tmp_path / name]
    reader.close()


KILLED = """
import os, signal, sys
import pyarrow as pa
from swarmjax import space, store
writer = store.create(sys.argv[1], {"seed": 1}, space.Space(rate=space.uniform(0.0, 1.0)))
writer.frame(1, pa.table({"round": [1]}))
writer.event(1, "started", "before")
os.replace = lambda source, target: os.kill(os.getpid(), signal.SIGKILL)
writer.frame(2, pa.table({"round": [2]}))
"""


@pytest.fixture
def killed(tmp_path):
    """A run whose writer was killed while it wrote its second round."""
    root = Path(store.__file__).parents[1]
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(root)}, check=False)
    assert done.returncode == -signal.SIGKILL
    return tmp_path / "run"


def test_a_killed_run_is_readable(killed):
    assert ".r000002.parquet.part" in os.listdir(killed / "frames")
    reader = stored.open_run(killed)
    assert reader.frames()["round"].to_pylist() == [1]
    assert [event.text for event in reader.events()] == ["before"]
    reader.close()


@pytest.fixture
def readonly(monkeypatch):
    """Lets every place look read-only, also to a user who may write anywhere."""
    monkeypatch.setattr(stored, "writable", lambda directory: False)


def test_reader_of_a_read_only_directory(tmp_path, request):
    writer = store.create(tmp_path, {}, SPACE)
    writer.event(0, "started", "x")
    writer.close()
    before = sorted(os.listdir(tmp_path))
    request.getfixturevalue("readonly")
    reader = stored.open_run(tmp_path)
    assert [event.text for event in reader.events()] == ["x"]
    assert sorted(os.listdir(tmp_path)) == before
    reader.close()


def test_reader_of_a_killed_run_in_a_read_only_directory(killed, readonly):
    reader = stored.open_run(killed)
    assert [event.text for event in reader.events()] == ["before"]
    reader.close()


def test_what_is_not_a_run(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        stored.open_run(tmp_path)
    (tmp_path / store.DATABASE).write_bytes(b"not a database at all, but long enough" * 100)
    with pytest.raises(InputError, match="damaged: file is not a database"):
        stored.open_run(tmp_path)


def test_another_version_is_refused(writer):
    with sqlite3.connect(writer.directory / store.DATABASE) as database:
        database.execute(
            "UPDATE meta SET value = ?, seal = NULL WHERE key = 'version'", (json.dumps(99),)
        )
    database.close()
    with pytest.raises(InputError, match="has format 99; this version reads format 1"):
        stored.open_run(writer.directory)


@pytest.mark.parametrize("table", ["meta", "plans", "events"])
def test_no_changed_row_of_the_database_is_taken_for_what_was_written(writer, table):
    writer.event(1, "note", "seven members")
    writer.plan(1, pa.table({"member": [7]}))
    changed = {
        "meta": "UPDATE meta SET value = replace(value, '0', '1') WHERE key = 'status'",
        "plans": "UPDATE plans SET arrow = CAST(arrow || x'00' AS BLOB)",
        "events": "UPDATE events SET text = 'eight members'",
    }
    with sqlite3.connect(writer.directory / store.DATABASE) as database:
        database.execute(changed[table])
    database.close()
    reads = {
        "meta": lambda reader: reader.status(),
        "plans": lambda reader: list(reader.plans()),
        "events": lambda reader: reader.events(),
    }
    with contextlib.closing(stored.open_run(writer.directory)) as reader:
        for kind, read in reads.items():
            if kind == table:
                with pytest.raises(InputError, match="damaged: a row is not as it was written"):
                    read(reader)
            else:
                read(reader)


def test_what_was_killed_before_it_said_anything_is_no_run(tmp_path, monkeypatch):
    def killed(database, said):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "_begin", killed)
        store.create(tmp_path, {}, SPACE)
    assert (tmp_path / store.DATABASE).exists()
    with pytest.raises(InputError, match="not a complete run"):
        stored.open_run(tmp_path)
    store.create(tmp_path, {"members": 3}, SPACE).close()
    with contextlib.closing(stored.open_run(tmp_path)) as reader:
        assert reader.status().members == 3


def test_a_run_begins_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(InputError, match="cannot write to"):
        patch.setattr(store.ledger, "TABLE", "CREATE TABLE nonsense")
        store.create(tmp_path, {}, SPACE)
    # Neither tables nor the lock are left behind.
    store.create(tmp_path, {}, SPACE).close()


def test_readers_cannot_write(reader):
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._database.execute("DELETE FROM meta")


def test_best_refuses_what_is_not_json(writer):
    with pytest.raises(ValueError, match="JSON"):
        writer.best({"a": np.zeros(1)}, {"valid_loss": float("nan")})


def test_list_runs_newest_first(tmp_path):
    for age, name in enumerate(("new", "group/old", "group/deep/older")):
        store.create(tmp_path / name, {}, SPACE).close()
        os.utime(tmp_path / name / store.DATABASE, (1e9 - age, 1e9 - age))
    assert stored.list_runs(tmp_path) == [tmp_path / "new", tmp_path / "group/old"]


def test_rounds_left_without_their_database_are_not_taken_for_the_new_runs(tmp_path):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "r000001.parquet").write_bytes(b"old")
    with pytest.raises(InputError, match="already holds a run"):
        store.create(tmp_path, {}, SPACE)


def test_descriptors_are_those_of_the_latest_round(writer):
    reader = stored.open_run(writer.directory)
    assert reader.descriptors() is None
    for number in (1, 2):
        values = np.full((3, 4, 2), number, np.float16)
        writer.descriptors(number, np.arange(3, dtype=np.int32), values)
    number, birth, values = reader.descriptors()
    assert (number, birth.tolist(), values.shape) == (2, [0, 1, 2], (3, 4, 2))
    assert values.dtype == np.float16 and (values == 2).all()
    assert not list(writer.directory.glob(".*.part"))
    reader.close()


@pytest.mark.parametrize(("at", "value"), [(0, 1), (2, 99)], ids=["password", "compression"])
def test_a_bit_that_asks_for_a_password_or_an_unknown_compression_is_damage(writer, at, value):
    writer.descriptors(1, np.arange(3, dtype=np.int32), np.zeros((3, 4, 2), np.float16))
    path = writer.directory / "descriptors.npz"
    content = bytearray(path.read_bytes())
    # Flags and compression of every file, in its own header and in the directory of all.
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        begin = content.find(mark)
        while begin >= 0:
            content[begin + place + at] = value
            begin = content.find(mark, begin + 4)
    path.write_bytes(content)
    with contextlib.closing(stored.open_run(writer.directory)) as reader:
        with pytest.raises(InputError, match="cannot be read: .*; delete it"):
            reader.descriptors()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", "objects", "flat"])
def test_damaged_descriptors_are_an_input_error(writer, content):
    path = writer.directory / "descriptors.npz"
    if content == "objects":
        np.savez(path, round=1, birth=np.zeros(2, int), values=np.array([{}, {}], object))
    elif content == "flat":
        np.savez(path, round=1, birth=np.zeros(2, int), values=np.zeros(2))
    else:
        path.write_bytes(content)
    reader = stored.open_run(writer.directory)
    with pytest.raises(InputError, match="delete it"):
        reader.descriptors()
    reader.close()


def test_plans_can_be_read_from_a_round_on(writer):
    for number in range(1, 5):
        writer.plan(number, pa.table({"parent": pa.array([number])}))
    reader = stored.open_run(writer.directory)
    assert [round for round, _ in reader.plans(3)] == [3, 4]
    reader.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "fill"])
def test_a_damaged_round_is_refused_in_a_line(writer, reader, damage):
    values = np.random.default_rng(0).integers(0, 2**31, 500).astype(np.int32)
    writer.frame(1, pa.table({"round": values, "member": values}))
    path = writer.directory / "frames" / "r000001.parquet"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 3] ^= 4
    elif damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[:] = b"no numbers at all"
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match="r000001.parquet is damaged") as refused:
        reader.frames()
    assert "\n" not in str(refused.value)
