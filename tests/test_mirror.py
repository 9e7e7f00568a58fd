import json
import threading
import time

import numpy as np
import pytest

from swarmjax import bulletins, ipc, mirror, records, relay, store, stored
from swarmjax.bulletins import About, Rows, Said
from swarmjax.bus import Local
from swarmjax.errors import InputError
from swarmjax.mirror import Mirror, follow
from swarmjax.relay import Relay, parted
from swarmjax.space import Space, log_uniform

SPACE = Space(learning_rate=log_uniform(1e-4, 1e-1))


def rows(round, members=3):
    whole = {name: np.arange(members, dtype=np.int32) for name in ("member", "birth", "step")}
    whole |= {"round": np.full(members, round, np.int32), "steps": np.full(members, 5, np.int32)}
    rate = np.full(members, 0.01, np.float32)
    return ipc.table(whole | {"alive": np.ones(members, bool), "learning_rate": rate})


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
        writer.frame(round, rows(round))
        writer.event(round, "note", f"round {round}")


def status(state, round):
    return store.Status(state, round, 15 * round, 100, 0.5, 3, 3, time.time())


def followed(directory, bus, until):
    """Follows until the mirror has so many rounds."""

    def ended():
        return len(list(directory.glob("frames/*.parquet"))) >= until or time.monotonic() > end

    end = time.monotonic() + 120
    follow(directory, bus, "s", ended=ended)


def test_a_run_is_followed_to_its_end(run, tmp_path):
    bus, said = Local(), []
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
    assert ours.frames().equals(theirs.frames())
    assert ours.events() == theirs.events()
    assert ours.status()._replace(heartbeat=0) == theirs.status()._replace(heartbeat=0)
    assert ours.space == SPACE
    assert ours.config == theirs.config | {"mirror": "s"}
    assert ours.scene().resizes is True


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


def test_nothing_is_sent_as_long_as_nobody_follows(run, tmp_path):
    bus = Local()
    follower = Relay(tmp_path / "run", bus, "s")
    advance(run, 1)
    time.sleep(0.1)
    follower.close()
    assert bus.consumer(bulletins.channel_told("s")).receive(0) == []


def test_large_tables_go_in_parts_and_come_together(tmp_path, monkeypatch):
    monkeypatch.setattr(relay, "_ROOM", 3000)
    table = rows(1, members=500)
    blobs = parted(table)
    assert len(blobs) > 2 and max(map(len, blobs)) <= 3000
    made = opened(tmp_path)
    made.take([part(made, 1, i, len(blobs), blob) for i, blob in enumerate(blobs)])
    assert (made.round, made.refused) == (1, 0)
    assert stored.open_run(tmp_path / "m").frames().equals(table)


def opened(tmp_path):
    """A mirror that knows what its run is."""
    made = Mirror(tmp_path / "m", "s")
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


def part(made, round, number, parts, blob, follower=None):
    follower = made.asked.follower if follower is None else follower
    record = Rows(follower=follower, round=round, part=number, parts=parts, table=blob)
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
     {"config": {"members": "many"}}],
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
    with pytest.raises(InputError, match="to be sent"):
        bulletins.encode(said.__class__(**{**_fields(said), "id": 0}))
    assert bulletins.channel_told("a") != bulletins.channel_asked("a") != records.channel_up("a")


def _fields(record):
    return {name: getattr(record, name) for name in record.__struct_fields__}
