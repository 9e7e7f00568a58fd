"""Stored rounds are read by column, in the order of their members, and are refused if they lie."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from paper import viz_runs
from swarmjax import stored
from swarmjax.types import InputError
from viz import source
from viz.reading import Stored, split_rounds


@pytest.fixture
def run(tmp_path):
    made = viz_runs.Run(tmp_path / "digits", members=8)
    made.advance(3)
    yield made
    made.writer.close()


@pytest.fixture
def reader(run):
    opened = stored.open_run(run.writer.directory)
    yield opened
    opened.close()


def test_each_column_is_that_of_the_whole_round(reader):
    (frame,) = split_rounds(reader.round(2))
    kept = Stored(reader, 2)
    assert set(kept) == {*frame, "mate"} and len(kept) == len(frame) + 1
    for name, values in kept.whole().items():
        np.testing.assert_array_equal(kept[name], values)
    for name, values in frame.items():
        np.testing.assert_array_equal(kept[name], values)
    with pytest.raises(KeyError):
        kept["unknown"]


def test_rows_out_of_order_are_put_in_order(run, reader):
    table = reader.round(1).take(pa.array(np.arange(8)[::-1]))
    run.writer.frame(9, _numbered(table, 9))
    frame = Stored(reader, 9)
    assert frame["member"].tolist() == list(range(8))
    assert frame["step"].tolist() == reader.round(1)["step"].to_pylist()
    assert frame.problem(None) == ""


def test_a_round_that_lies_says_how(run, reader):
    table, first = reader.round(1), Stored(reader, 1)
    run.writer.frame(9, table)
    assert "another round" in Stored(reader, 9).problem(first)
    run.writer.frame(10, _numbered(table.slice(1), 10))
    assert "not numbered" in Stored(reader, 10).problem(first)
    run.writer.frame(11, _numbered(table.slice(0, 5), 11))
    assert Stored(reader, 11).problem(first) != ""
    run.writer.frame(12, _numbered(table.drop_columns(["depth"]), 12))
    assert "columns differ" in Stored(reader, 12).problem(first)


def test_only_what_is_shown_is_read_of_rounds_gone_by(run, monkeypatch):
    feed = source.Feed(run.writer.directory)
    feed.poll()
    asked, whole = [], stored.Reader.round
    monkeypatch.setattr(
        stored.Reader,
        "round",
        lambda r, number, names=None: asked.append((number, names)) or whole(r, number, names),
    )
    history = feed.snapshot.history
    assert history is not None
    assert history.column("step").shape == (3, 8)
    assert asked == [(1, ["step"]), (2, ["step"])]
    history.column("step")
    history.last("train_loss")
    assert len(asked) == 2


def test_a_round_that_is_stored_no_longer_is_told_of(run, reader):
    frame = Stored(reader, 1)
    (run.writer.directory / "frames" / "r000001.parquet").unlink()
    with pytest.raises(InputError, match="does not hold round 1"):
        frame["step"]


def _numbered(table: pa.Table, number: int) -> pa.Table:
    place = table.schema.get_field_index("round")
    values = pa.array(np.full(table.num_rows, number, np.int32))
    return table.set_column(place, "round", values)
