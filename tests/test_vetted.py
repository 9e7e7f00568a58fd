import numpy as np
import pyarrow as pa
import pytest
import round_tables
from hypothesis import given
from hypothesis import strategies as st

from swarmjax import bulletins, ipc, telemetry, vetted
from swarmjax.bulletins import KINDS, Rows
from swarmjax.errors import InputError
from swarmjax.store import SEGMENTS, SUMMARIES
from swarmjax.vetted import Gathering, checked

GOOD = round_tables.of_round(1)


def record(table, kind, round=1, part=0, parts=1):
    blob = table if isinstance(table, bytes) else ipc.to_bytes(table)
    return Rows(follower=1, kind=kind, round=round, part=part, parts=parts, table=blob)


def changed(kind, column, values):
    table = GOOD[kind]
    return table.set_column(table.column_names.index(column), column, values)


def test_every_table_beside_the_frame_has_types_and_travels():
    assert set(telemetry.TYPES) == {*SEGMENTS, *SUMMARIES}
    assert set(KINDS) == {*telemetry.TYPES, "frame"} and KINDS[-1] == "frame"
    for kind in KINDS:
        assert round_tables.same(checked(record(GOOD[kind], kind)), GOOD[kind])


@pytest.mark.parametrize(
    ("kind", "table", "reason"),
    [
        ("windows", GOOD["windows"].drop_columns(["steps"]), "windows differ in steps"),
        ("usage", GOOD["usage"].append_column("x", [[1.0]]), "usage differ in x"),
        ("windows", GOOD["steps"], "windows differ in"),
        ("frame", GOOD["windows"], "lacks alive"),
        (
            "windows",
            changed("windows", "steps", pa.array([8.0] * 6)),
            "steps of windows is not",
        ),
        ("windows", changed("windows", "steps", pa.array([0] * 6, pa.int32())), "steps of windows"),
        ("windows", changed("windows", "member", pa.array([-1] * 6, pa.int32())), "member of"),
        ("usage", changed("usage", "cpu", pa.array([None], pa.float64())), "has empty places"),
        ("usage", changed("usage", "node", pa.array(["a\nb"])), "node of usage is"),
        ("quantiles", changed("quantiles", "metric", pa.array(["x" * 300])), "metric of"),
        ("windows", round_tables.made("windows", 2), "windows is not of round 1"),
        ("windows", GOOD["windows"].slice(0, 0), "windows is not of round 1"),
        ("usage", b"no table", "cannot be read"),
        ("usage", pa.concat_tables([GOOD["usage"]] * 5000), "more than 4096 rows"),
    ],
)
def test_tables_that_are_not_as_they_must_be_are_refused(kind, table, reason):
    with pytest.raises(InputError, match=reason) as refused:
        checked(record(table, kind))
    assert str(refused.value).isprintable()


def test_lists_are_read_where_they_belong_only():
    lists = GOOD["frame"].append_column("x", pa.array([[1.0]] * 3, pa.list_(pa.float32())))
    with pytest.raises(InputError, match="'x' has type list"):
        checked(record(lists, "frame"))


def test_parts_come_in_order_alike_and_not_endlessly(monkeypatch):
    table = GOOD["windows"]
    some = [record(table.slice(3 * i, 3), "windows", part=i, parts=2) for i in range(2)]
    made = Gathering((1, "windows"))
    assert made.add(some[0]) is None
    with pytest.raises(InputError, match="part 0 of windows came out of order"):
        made.add(some[0])
    assert made.add(some[1]).equals(table)
    with pytest.raises(InputError, match="out of order"):
        Gathering((1, "steps")).add(some[0])
    frames = [GOOD["frame"], GOOD["frame"].append_column("y", [[1, 2, 3]])]
    made = Gathering((1, "frame"))
    made.add(record(frames[0], "frame", parts=2))
    with pytest.raises(InputError, match="different columns"):
        made.add(record(frames[1], "frame", part=1, parts=2))
    monkeypatch.setattr(vetted, "MOST_BYTES", len(some[0].table) + 10)
    made = Gathering((1, "windows"))
    made.add(some[0])
    with pytest.raises(InputError, match="more than .* bytes"):
        made.add(some[1])


@given(st.sampled_from(KINDS), st.data())
def test_damaged_tables_are_refused_or_are_tables_of_that_kind(kind, data):
    blob = bytearray(ipc.to_bytes(GOOD[kind]))
    for _ in range(data.draw(st.integers(1, 4))):
        blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(st.integers(0, 255))
    try:
        table = checked(record(bytes(blob), kind))
    except InputError as error:
        assert str(error).isprintable()
        return
    assert set(np.unique(table["round"].to_numpy())) == {1}
    if kind != "frame":
        assert dict(zip(table.schema.names, table.schema.types, strict=True)).items() == (
            dict(telemetry.TYPES[kind]).items()
        )
    assert bulletins.MOST_BYTES >= table.nbytes
