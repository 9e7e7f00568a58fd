import contextlib
import json
import sqlite3
import threading
import time

import msgspec
import pytest
import round_tables
from round_tables import frames as rows
from round_tables import same

from swarmjax import (
    bulletins,
    excerpts,
    ipc,
    mirror,
    records,
    relay,
    segments,
    store,
    stored,
)
from swarmjax.bulletins import About, Rows, Said
from swarmjax.bus import Local, open_bus
from swarmjax.errors import InputError
from swarmjax.excerpts import parted
from swarmjax.mirror import Mirror, follow
from swarmjax.relay import Relay
from swarmjax.space import Space, log_uniform

SPACE = Space(learning_rate=log_uniform(1e-4, 1e-1))


@pytest.fixture
def run(tmp_path):
    """The writer of a run of three members."""
    writer = store.create(tmp_path / "run", {"members": 3, "budget": 100}, SPACE)
    writer.steering({}, True)
    yield writer
    writer.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(relay, "LOOK", 0.01)
    monkeypatch.setattr(mirror, "_EVERY", 0.05)


def advance(writer, *rounds):
    for round in rounds:
        round_tables.write(writer, round)
        writer.event(round, "note", f"round {round}")
        writer.event(round, "spike", f"round {round}", 2, 8.5, 6.0)


def status(state, round):
    return store.Status(state, round, 15 * round, 100, 0.5, 3, 3, time.time())


def followed(directory, bus, until):
    """Follows until the mirror has so many rounds."""

    def ended():
        return len(list(directory.glob("frames/*.parquet"))) >= until or time.monotonic() > end

    end = time.monotonic() + 120
    follow(directory, bus, "s", ended=ended)


@pytest.fixture(params=["local", "rabbit"])
def bus(request):
    """One within this process, and a real server's."""
    if request.param == "local":
        return Local()
    return open_bus(request.getfixturevalue("rabbit").url)


def test_a_run_is_followed_to_its_end(run, tmp_path, bus):
    said = []
    advance(run, 1, 2)
    told = threading.Thread(target=follow, args=(tmp_path / "mirror", bus, "s"), daemon=True)
    told.start()
    follower = Relay(tmp_path / "run", bus, "s", tell=said.append)
    advance(run, 3)
    run.event(3, "finished", "all done")
    run.status(status("finished", 3))
    told.join(120)
    follower.close()
    assert not told.is_alive() and "followed over the bus from round 0 on" in said[0]
    ours, theirs = (stored.open_run(tmp_path / name) for name in ("mirror", "run"))
    assert ours.rounds() == [1, 2, 3]
    assert_same_tables(ours, theirs)
    assert ours.events() == theirs.events()
    assert ours.status()._replace(heartbeat=0) == theirs.status()._replace(heartbeat=0)
    assert ours.space == SPACE
    assert ours.config == theirs.config | {"mirror": "s"}
    assert ours.scene().resizes is True


def assert_same_tables(ours, theirs):
    """Everything that is stored of rounds, bit for bit."""
    assert ours.frames().equals(theirs.frames())
    for kind in store.SEGMENTS:
        assert same(ours.rows(kind), theirs.rows(kind)), kind
    for coarse in (False, True):
        assert same(ours.windows(coarse=coarse), theirs.windows(coarse=coarse))
    for kind in store.SUMMARIES:
        assert same(ours.summaries(kind), theirs.summaries(kind)), kind


def test_a_mirror_puts_segments_together_as_the_run_does(run, tmp_path):
    bus, directory = Local(), tmp_path / "mirror"
    follower = Relay(tmp_path / "run", bus, "s")
    # A part while it follows, a part while it is away, and a part that was put together before.
    advance(run, *range(1, 10))
    followed(directory, bus, 9)
    advance(run, *range(10, 40))
    followed(directory, bus, 39)
    advance(run, *range(40, 70))
    followed(directory, bus, 69)
    follower.close()
    ours, theirs = (stored.open_run(tmp_path / name) for name in ("mirror", "run"))
    assert_same_tables(ours, theirs)
    for kind in ("windows", "coarse"):
        names = [
            sorted(p.name for p in (d / kind).glob("*")) for d in (directory, theirs.directory)
        ]
        assert names[0] == names[1] and "r000033-000064.parquet" in names[0]


def test_a_round_is_told_when_all_of_it_is_stored(run, tmp_path):
    advance(run, 1)
    tables = round_tables.of_round(2)
    run.frame(2, tables["frame"])
    run.rows("windows", 2, tables["windows"])
    run.status(status("failed", 2))
    bus = Local()
    follower = Relay(tmp_path / "run", bus, "s")
    follow(tmp_path / "mirror", bus, "s")
    follower.close()
    assert stored.open_run(tmp_path / "mirror").rounds() == [1]


def test_what_was_thinned_at_the_run_comes_as_coarse_as_it_is_kept(run, tmp_path):
    advance(run, *range(1, 68))
    segments.thin(tmp_path / "run" / "windows", 0)
    bus = Local()
    follower = Relay(tmp_path / "run", bus, "s")
    followed(tmp_path / "mirror", bus, 67)
    follower.close()
    ours, theirs = (stored.open_run(tmp_path / name) for name in ("mirror", "run"))
    order = [("member", "ascending"), ("round", "ascending"), ("step", "ascending")]
    kept = theirs.windows()
    assert set(kept["steps"].to_pylist()) == {8, 64}
    assert same(ours.windows().sort_by(order), kept.sort_by(order))


def test_a_round_that_was_half_here_when_it_ended_is_taken_whole(tmp_path):
    made = opened(tmp_path)
    tables = round_tables.of_round(1)
    blobs = {kind: ipc.to_bytes(table) for kind, table in tables.items()}
    made.take([part(made, 1, 0, 1, blobs["windows"], kind="windows"),
               part(made, 1, 0, 1, blobs["usage"], kind="usage")])  # fmt: skip
    made.close()
    again = Mirror(tmp_path / "m", "s")
    with contextlib.closing(stored.open_run(tmp_path / "m")) as reader:
        with pytest.raises(InputError, match="has no usage"):
            reader.summaries("usage")
        assert again.asked.round == 0
        again.take([part(again, 1, 0, 1, blobs[kind], kind=kind) for kind in bulletins.KINDS])
        assert (again.refused, again.round) == (0, 1)
        assert same(reader.windows(), tables["windows"])
    with pytest.raises(InputError, match="at work"):
        Mirror(tmp_path / "m", "s")
    again.close()


def test_why_something_is_refused_is_told_once(tmp_path):
    told = []
    made = opened(tmp_path, told.append)
    bad = round_tables.made("windows", 1).drop_columns(["wall_ns"])
    made.take([part(made, 1, 0, 1, ipc.to_bytes(bad), kind="windows")] * 3)
    assert made.refused == 3 and sum(made.reasons.values()) == 3
    assert told == [f"something is not stored: {reason}" for reason in made.reasons]
    assert "windows differ in wall_ns" in told[0]
    # Whoever makes up reasons is not told of all of them.
    made.take([part(made, 1, i, 1, b"") for i in range(1, 300)])
    assert made.refused == 302 and len(told) == len(made.reasons) == 101


def test_a_mirror_that_was_ended_goes_on_where_it_was(run, tmp_path):
    bus, directory = Local(), tmp_path / "mirror"
    follower = Relay(tmp_path / "run", bus, "s")
    advance(run, 1, 2)
    followed(directory, bus, 2)
    first = (directory / "frames" / "r000001.parquet").stat().st_mtime_ns
    # What is under way to the one before is not for this one.
    advance(run, 3, 4, 5)
    followed(directory, bus, 5)
    follower.close()
    ours = stored.open_run(directory)
    assert ours.rounds() == [1, 2, 3, 4, 5]
    assert (directory / "frames" / "r000001.parquet").stat().st_mtime_ns == first
    ids = [event.id for event in ours.events()]
    assert ids == sorted(set(ids))


def test_a_mirror_of_an_earlier_version_goes_on(run, tmp_path):
    bus, directory = Local(), tmp_path / "mirror"
    follower = Relay(tmp_path / "run", bus, "s")
    advance(run, 1)
    followed(directory, bus, 1)
    with sqlite3.connect(directory / store.DATABASE) as database:
        for column in ("value", "threshold", "seal"):
            database.execute(f"ALTER TABLE events DROP COLUMN {column}")
    database.close()
    advance(run, 2, 3)
    run.status(status("finished", 3))
    follow(directory, bus, "s")
    follower.close()
    with contextlib.closing(stored.open_run(directory)) as ours:
        told = [(e.round, e.value, e.threshold) for e in ours.events() if e.kind == "spike"]
    # Of the first round as much as was here before.
    assert told[0][0] == 1 and told[1:] == [(2, 8.5, 6.0), (3, 8.5, 6.0)]


def test_nothing_is_sent_as_long_as_nobody_follows(run, tmp_path):
    bus = Local()
    follower = Relay(tmp_path / "run", bus, "s")
    advance(run, 1)
    time.sleep(0.1)
    follower.close()
    assert bus.consumer(bulletins.channel_told("s")).receive(0) == []


def test_large_tables_go_in_parts_and_come_together(tmp_path, monkeypatch):
    monkeypatch.setattr(excerpts, "_ROOM", 3000)
    table = rows(1, members=500)
    blobs = parted(table)
    assert len(blobs) > 2 and max(map(len, blobs)) <= 3000
    made = opened(tmp_path)
    made.take([part(made, 1, i, len(blobs), blob) for i, blob in enumerate(blobs)])
    assert (made.round, made.refused) == (1, 0)
    assert stored.open_run(tmp_path / "m").frames().equals(table)


def opened(tmp_path, tell=print):
    """A mirror that knows what its run is."""
    made = Mirror(tmp_path / "m", "s", tell)
    made.take(about(made))
    assert made.refused == 0
    return made


def about(made, **changes):
    said = {"config": {"members": 3}, "space": SPACE.to_json(), "steering": {}} | changes
    return [
        bulletins.encode(About(
            follower=made.asked.follower, key=key, value=json.dumps(value).encode()
        ))
        for key, value in said.items()
    ]  # fmt: skip


def part(made, round, number, parts, blob, follower=None, kind="frame"):
    follower = made.asked.follower if follower is None else follower
    of = {"round": round, "part": number, "parts": parts, "kind": kind}
    record = Rows(follower=follower, table=blob, **of)
    return bulletins.encode(record)


def test_parts_that_come_twice_or_out_of_order_do_no_harm(tmp_path):
    made, blobs = opened(tmp_path), [ipc.to_bytes(rows(1)), ipc.to_bytes(rows(1))]
    first, second = (part(made, 1, i, 2, blob) for i, blob in enumerate(blobs))
    made.take([second, first, first, second])
    assert (made.round, made.refused) == (1, 1)
    made.take([first, second])
    assert (made.round, made.refused) == (1, 1)


def test_a_round_that_was_missed_is_asked_for_again_once(tmp_path):
    made = opened(tmp_path)
    before = made.asked
    made.take([part(made, 3, 0, 1, ipc.to_bytes(rows(3)))])
    assert made.asked.follower != before.follower and made.asked.round == 0
    # It is nowhere: the run goes on without it.
    made.take([part(made, 3, 0, 1, ipc.to_bytes(rows(3)))])
    assert made.round == 3


@pytest.mark.parametrize(
    "changes",
    [{"config": []}, {"space": {"a.b": {}}}, {"space": {"x": 5}}, {"space": 7}, {"config": None},
     {"config": {"members": "many"}}, {"config": {"retain": "all"}}, {"config": {"retain": -1}},
     {"config": {"retain": float("nan")}}],
)  # fmt: skip
def test_a_run_that_makes_no_sense_is_refused(tmp_path, changes):
    made = Mirror(tmp_path / "m", "s")
    made.take(about(made, **changes))
    assert made.refused == 1
    assert not (tmp_path / "m" / "frames" / "r000001.parquet").exists()


def test_what_is_malformed_or_for_somebody_else_is_not_stored(tmp_path):
    made = opened(tmp_path)
    good, wrong = ipc.to_bytes(rows(1)), ipc.to_bytes(rows(2))
    bare = ipc.to_bytes(rows(1).drop_columns(["birth"]))
    status = bulletins.encode(About(follower=made.asked.follower, key="status", value=b"{}"))
    blobs = [b"", b"\xff" * 40, part(made, 1, 0, 1, wrong), part(made, 1, 0, 1, bare),
             part(made, 1, 0, 1, b"no table"), status]  # fmt: skip
    made.take(blobs)
    assert (made.refused, made.round) == (6, 0)
    made.take([part(made, 1, 0, 1, good, follower=5)])
    assert (made.refused, made.round) == (6, 0)


def test_a_directory_of_another_run_is_not_written_to(run, tmp_path):
    with pytest.raises(InputError, match="no mirror of this swarm"):
        Mirror(tmp_path / "run", "s")


def test_every_bulletin_comes_back_as_it_was():
    said = Said(follower=1, id=3, time=1.5, round=2, kind="note", member=None, text="x")
    assert bulletins.decode_bulletin(bulletins.encode(said)) == said
    alarm = said.__class__(**_fields(said) | {"kind": "rise", "value": 9.5, "threshold": 5.0})
    assert bulletins.decode_bulletin(bulletins.encode(alarm)) == alarm
    # As controllers of earlier versions tell it.
    earlier = _fields(said) | {"type": "said"}
    del earlier["value"], earlier["threshold"]
    assert bulletins.decode_bulletin(msgspec.msgpack.encode(earlier)) == said
    with pytest.raises(InputError, match="to be sent"):
        bulletins.encode(said.__class__(**{**_fields(said), "id": 0}))
    assert bulletins.channel_told("a") != bulletins.channel_asked("a") != records.channel_up("a")


def _fields(record):
    return {name: getattr(record, name) for name in record.__struct_fields__}
