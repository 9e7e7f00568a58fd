import pytest
import round_tables
from round_tables import same

from swarmjax import excerpts, ipc, store, stored
from swarmjax.bulletins import KINDS
from swarmjax.excerpts import parted, rounds_after
from swarmjax.space import Space, log_uniform

SPACE = Space(learning_rate=log_uniform(1e-4, 1e-1))


@pytest.fixture
def run(tmp_path):
    writer = store.create(tmp_path / "run", {"members": 3, "budget": 100}, SPACE)
    yield writer
    writer.close()


def test_rounds_come_whole_in_order_and_by_kind(run):
    for round in range(1, 41):
        round_tables.write(run, round)
    found = list(rounds_after(stored.open_run(run.directory), 10))
    # The first are in segments of 32 rounds.
    assert [round for round, _ in found] == [*range(11, 11 + excerpts.ROUNDS)]
    for round, tables in found:
        assert [kind for kind, _ in tables] == [*KINDS]
        wanted = round_tables.of_round(round)
        for kind, table in tables:
            assert same(table, wanted[kind]), kind


def test_tables_without_rows_are_left_out_and_rounds_that_are_not_whole(run):
    tables = round_tables.of_round(1)
    run.frame(1, tables["frame"])
    reader = stored.open_run(run.directory)
    assert reader.complete() == 0 and list(rounds_after(reader, 0)) == []
    run.summary("usage", 1, tables["usage"])
    ((round, found),) = rounds_after(reader, 0)
    assert (round, reader.complete()) == (1, 1)
    assert [kind for kind, _ in found] == ["usage", "frame"]


def test_of_many_members_few_rounds_are_held_at_once(run, monkeypatch):
    monkeypatch.setattr(excerpts, "_MEMBERS", 1)
    for round in (1, 2, 3, 4, 5, 6, 7, 8):
        round_tables.write(run, round)
    assert len(list(rounds_after(stored.open_run(run.directory), 0))) == excerpts.ROUNDS // 3


def test_parts_are_short_enough_and_make_the_whole(monkeypatch):
    monkeypatch.setattr(excerpts, "_ROOM", 4000)
    table = round_tables.made("windows", 3, 500)
    blobs = parted(table)
    assert max(map(len, blobs)) <= 4000
    rows = [ipc.from_bytes(blob, most_rows=500) for blob in blobs]
    assert sum(part.num_rows for part in rows) == 500
    assert [row for part in rows for row in part.to_pylist()] == table.to_pylist()
