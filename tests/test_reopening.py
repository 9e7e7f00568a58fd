import contextlib
import sqlite3
import threading

import pytest

from swarmjax import ledger, steering, store, stored
from swarmjax.ledger import Ledger
from swarmjax.reopening import reopen, rewind
from swarmjax.space import Space, uniform
from swarmjax.steering import Kill, Member, Note, Pause, Stop, Undo
from swarmjax.types import InputError

SPACE = Space(rate=uniform(0.0, 1.0))


@pytest.fixture
def run(tmp_path):
    store.create(tmp_path, {"members": 2, "budget": 10}, SPACE).close()
    return tmp_path


def test_a_run_goes_on_being_written(run):
    (run / "frames" / ".r000002.parquet.part").write_bytes(b"half")
    with contextlib.closing(reopen(run)) as writer:
        writer.event(3, "note", "more")
        with pytest.raises(InputError, match="another trainer"):
            reopen(run)
    assert not list(run.rglob("*.part"))
    with contextlib.closing(stored.open_run(run)) as reader:
        assert [event.text for event in reader.events()] == ["more"]
    reopen(run).close()


def test_what_is_no_run_stays_what_it_is(tmp_path):
    with pytest.raises(InputError, match="cannot be opened for writing"):
        reopen(tmp_path)
    assert not (tmp_path / store.DATABASE).exists()


def test_a_database_whose_pages_do_not_fit_together_is_refused(run):
    path = run / store.DATABASE
    with contextlib.closing(sqlite3.connect(path)) as database:
        asked = "SELECT rootpage FROM sqlite_master WHERE name = 'events'"
        (page,) = database.execute(asked).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    content = bytearray(path.read_bytes())
    content[(page - 1) * size : page * size] = bytes(size)
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be opened for writing: it is damaged"):
        reopen(run)


def test_where_nothing_may_be_written_the_run_says_so(closed_directory):
    with pytest.raises(InputError, match="cannot write"):
        reopen(closed_directory)


def test_events_that_will_be_told_again_are_forgotten(run):
    with contextlib.closing(reopen(run)) as writer:
        writer.event(1, "died", "before")
        since = writer.last_event()
        for kind in ("died", "steered", "rise", "note", "failed", "compiled"):
            writer.event(2, kind, "after")
        rewind(writer, 1, since)
    with contextlib.closing(stored.open_run(run)) as reader:
        told = [(event.kind, event.text) for event in reader.events()]
    after = [(kind, "after") for kind in ("note", "failed", "compiled")]
    assert told == [("died", "before"), *after]


def test_directives_of_later_rounds_wait_for_their_round_again(run):
    with contextlib.closing(reopen(run)) as writer:
        asked = [Note("x"), Kill(Member(0, 0)), Kill(Member(1, 1)), Undo(3), Pause(), Stop()]
        numbers = ledger.queue(run / store.DATABASE, "ada", asked)
        assert numbers == [1, 2, 3, 4, 5, 6]
        for number, round in ((1, 1), (2, 1), (4, 5), (5, 5), (6, 6)):
            writer.ledger.settle(number, "applied", round, "done")
        # As the helm does it: of the round before the one in which it was asked for.
        writer.ledger.settle(3, "withdrawn", 4, "withdrawn by ada")
        (late,) = ledger.queue(run / store.DATABASE, "bob", [Note("late")])
        writer.ledger.close(6)
        writer.ledger.requeue(3)
        assert [entry.id for entry in writer.ledger.waiting(4)] == []
        assert [entry.id for entry in writer.ledger.waiting(5)] == [3, 4]
        # Who ends meanwhile refuses what waits now, not what is for later rounds.
        writer.ledger.close(3)
        assert [entry.id for entry in writer.ledger.waiting(5)] == [3, 4]
        assert writer.ledger.entry(late).told == "the run has ended"
        assert writer.ledger.entry(2).state == "applied"


def test_a_ledger_of_another_version_is_no_trouble(run):
    with contextlib.closing(reopen(run)) as writer:
        writer._database.execute("DROP TABLE directives")
        Ledger(writer._database, threading.Lock()).requeue(0)
        rewind(writer, 0, 0)


def test_kinds_are_read_from_any_text():
    assert steering.kind_of(steering.encode(Pause())) == "pause"
    assert steering.kind_of(b"{") == steering.kind_of("[]") == ""
