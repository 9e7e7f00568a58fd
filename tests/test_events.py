import contextlib
import math
import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmjax import events, seals, store, stored
from swarmjax.reopening import reopen
from swarmjax.space import Space, uniform
from swarmjax.types import InputError

SPACE = Space(rate=uniform(0.0, 1.0))
NUMBER = st.none() | st.floats() | st.floats(width=32)


@pytest.fixture
def run(tmp_path):
    """A run of one alarm and one note."""
    with contextlib.closing(store.create(tmp_path, {}, SPACE)) as writer:
        writer.event(1, "spike", "member 2: its gradient jumped at step 21 (8.5 > 6)", 2, 8.5, 6.0)
        writer.event(1, "note", "seven members")
    return tmp_path


def told(directory):
    with contextlib.closing(stored.open_run(directory)) as reader:
        return [(e.kind, e.member, e.value, e.threshold) for e in reader.events()]


def changed(directory, *statements):
    with sqlite3.connect(directory / store.DATABASE) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


def earlier(directory, *, sealed):
    """Makes the database one of an earlier version."""
    kept = "id, time, round, kind, member, text" + (", seal" if sealed else "")
    changed(
        directory, "DELETE FROM events WHERE kind = 'spike'",
        f"CREATE TABLE before AS SELECT {kept} FROM events", "DROP TABLE events",
        "CREATE TABLE events (id INTEGER PRIMARY KEY, time REAL NOT NULL, round INTEGER NOT NULL, "
        f"kind TEXT NOT NULL, member INTEGER, text TEXT NOT NULL{', seal BLOB' if sealed else ''})",
        "INSERT INTO events SELECT * FROM before", "DROP TABLE before",
    )  # fmt: skip


def test_value_and_threshold_are_columns_of_their_own(run):
    assert told(run) == [("spike", 2, 8.5, 6.0), ("note", None, None, None)]
    with contextlib.closing(sqlite3.connect(run / store.DATABASE)) as database:
        asked = "SELECT value, threshold FROM events WHERE value > threshold"
        assert database.execute(asked).fetchall() == [(8.5, 6.0)]


@given(NUMBER, NUMBER)
def test_any_numbers_come_back_as_they_were_sealed(value, threshold):
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute(events.TABLE)
        row = events.sealed(1.5, 2, "rise", 3, "x", value, threshold)
        database.execute(events.INSERT, row)
        (read,) = database.execute(events.select((*events.SEALED, "seal")), (0,)).fetchall()
    found = seals.opened(read[1:], len(events.SEALED), len(events.ADDED))
    expected = [None if x is None or math.isnan(x) else x for x in (value, threshold)]
    assert found == (1.5, 2, "rise", 3, "x", *expected)


@pytest.mark.parametrize(
    "damage",
    ["value = 8.25 WHERE id = 1", "threshold = 5 WHERE id = 1", "value = NULL WHERE id = 1",
     "value = NULL, threshold = NULL WHERE id = 1", "value = threshold, threshold = value",
     "value = 'nine' WHERE id = 1", "threshold = 1 WHERE id = 2"],
)  # fmt: skip
def test_a_changed_value_is_told(run, damage):
    changed(run, f"UPDATE events SET {damage}")
    with pytest.raises(InputError, match="damaged: a row is not as it was written"):
        told(run)


@pytest.mark.parametrize("sealed", [False, True])
def test_runs_of_earlier_versions_are_read_and_written_to(run, sealed):
    earlier(run, sealed=sealed)
    assert told(run) == [("note", None, None, None)]
    for round in (2, 3):
        with contextlib.closing(reopen(run)) as writer:
            writer.event(round, "rise", "x", 1, 9.5, 5.0)
    assert told(run) == [("note", None, None, None)] + [("rise", 1, 9.5, 5.0)] * 2
    changed(run, "UPDATE events SET value = 9 WHERE kind = 'rise'")
    with pytest.raises(InputError, match="not as it was written"):
        told(run)


def test_what_an_earlier_row_says_stays_sealed(run):
    earlier(run, sealed=True)
    reopen(run).close()
    changed(run, "UPDATE events SET value = 1.0")
    with pytest.raises(InputError, match="not as it was written"):
        told(run)


def test_a_database_without_the_table_stays_without(run):
    changed(run, "DROP TABLE events")
    assert told(run) == []
    with contextlib.closing(sqlite3.connect(run / store.DATABASE)) as database:
        events.upgrade(database)
        assert not database.execute("PRAGMA table_info(events)").fetchall()
