import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmjax import seals
from swarmjax.types import InputError

VALUE = st.none() | st.integers(-(2**63), 2**63 - 1) | st.binary() | st.floats(allow_nan=False)
VALUE |= st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(VALUE, min_size=1, max_size=4))
def test_a_row_comes_out_of_a_database_as_it_was_sealed(values):
    row = seals.sealed(*values)
    marks = ", ".join("?" * len(row))
    (read,) = sqlite3.connect(":memory:").execute(f"SELECT {marks}", row).fetchall()
    assert seals.opened(read, len(values)) == tuple(values)


@pytest.mark.parametrize("other", [("b", "a", 1), ("ab", "", 1), ("a", "b", 2), ("a", "b", None)])
def test_other_values_are_refused(other):
    assert seals.opened(seals.sealed("a", "b", 1), 3) == ("a", "b", 1)
    with pytest.raises(InputError, match="not as it was written"):
        seals.opened((*other, seals.seal("a", "b", 1)), 3)


def test_a_seal_covers_what_a_later_version_added_where_there_is_something():
    assert seals.sealed("a", 1, None, None, added=2)[-1] == seals.seal("a", 1)
    row = seals.sealed("a", 1, None, 0.5, added=2)
    assert row[-1] == seals.seal("a", 1, None, 0.5)
    assert seals.opened(row, 4, 2) == ("a", 1, None, 0.5)
    for other in ((None, None), (0.5, None), (None, 0.25)):
        with pytest.raises(InputError, match="not as it was written"):
            seals.opened(("a", 1, *other, row[-1]), 4, 2)
    with pytest.raises(InputError, match="not as it was written"):
        seals.opened(("a", 1, 0.5, None, seals.seal("a", 1)), 4, 2)


def test_rows_of_earlier_versions_have_no_seal():
    assert seals.opened(("a", 1), 2) == seals.opened(("a", 1, None), 2) == ("a", 1)


def test_tables_of_earlier_versions_get_the_column_once():
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT)")
    database.execute("INSERT INTO meta VALUES ('a', 'b')")
    for _ in range(2):
        seals.upgrade(database)
    database.execute("REPLACE INTO meta VALUES (?, ?, ?)", seals.sealed("c", "d"))
    rows = database.execute("SELECT * FROM meta ORDER BY key").fetchall()
    assert [seals.opened(row, 2) for row in rows] == [("a", "b"), ("c", "d")]
    assert [row[2] is None for row in rows] == [True, False]
