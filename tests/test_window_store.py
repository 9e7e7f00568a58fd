"""Windows in a run directory: written by rounds, put together, thinned, read at both levels."""

import numpy as np
import pyarrow as pa
import pytest

from swarmjax import levels, segments, space, store, stored
from swarmjax.types import InputError

SPACE = space.Space(rate=space.log_uniform(1e-3, 1.0))
MEMBERS, EACH = 3, 4


def windows(round):
    """Four windows of two steps of every member."""
    count = MEMBERS * EACH
    member = np.repeat(np.arange(MEMBERS, dtype=np.int32), EACH)
    step = (8 * (round - 1) + 2 * (1 + np.tile(np.arange(EACH), MEMBERS))).astype(np.int32)
    floats = "train_loss_min train_loss train_loss_max train_loss_last gradient_norm".split()
    return pa.table({
        "round": np.full(count, round, np.int32), "member": member, "birth": member, "step": step,
        "steps": np.full(count, 2, np.int32),
        **{name: (step + k).astype(np.float32) for k, name in enumerate(floats)},
    })  # fmt: skip


def written(directory, rounds, **config):
    writer = store.create(directory, config, SPACE)
    for round in range(1, rounds + 1):
        writer.rows("windows", round, windows(round))
    writer.close()
    return stored.open_run(directory)


@pytest.fixture
def every_four(monkeypatch):
    monkeypatch.setattr(segments, "ROUNDS", 4)


def files(directory, kind):
    return sorted(path.name for path in (directory / kind).iterdir())


def test_rounds_are_put_together_and_read_back(tmp_path, every_four):
    reader = written(tmp_path / "run", 6)
    single = [f"r00000{round}.parquet" for round in (5, 6)]
    assert files(reader.directory, "windows") == ["r000001-000004.parquet", *single]
    assert files(reader.directory, "coarse") == ["r000001-000004.parquet"]
    fine = reader.windows()
    assert fine.num_rows == 6 * MEMBERS * EACH and set(fine["steps"].to_pylist()) == {2}
    mine = reader.windows(since=3, members=[1])
    assert mine["step"].to_pylist() == list(range(18, 50, 2))
    assert set(mine["member"].to_pylist()) == {1}
    reader.close()


def test_the_coarser_level_covers_every_round_once(tmp_path, every_four):
    """Of rounds that are not put together yet it is made as it is read."""
    reader = written(tmp_path / "run", 6)
    coarse = reader.windows(coarse=True, members=[2])
    assert levels.FACTOR == 8
    assert coarse["steps"].to_pylist() == [16, 16, 16]
    assert coarse["step"].to_pylist() == [16, 32, 48]
    assert coarse["train_loss_min"].to_pylist() == [2.0, 18.0, 34.0]
    assert coarse["train_loss_last"].to_pylist() == [19.0, 35.0, 51.0]
    assert sum(reader.windows(coarse=True)["steps"].to_pylist()) == 6 * 8 * MEMBERS
    reader.close()


def test_the_oldest_are_kept_coarse_where_the_rest_exceeds_what_may_be_kept(tmp_path, every_four):
    reader = written(tmp_path / "run", 9, retain=0.0)
    assert files(reader.directory, "windows") == ["r000009.parquet"]
    assert len(files(reader.directory, "coarse")) == 2
    left = reader.windows(members=[0])
    assert left["steps"].to_pylist() == [16] * 4 + [2] * 4
    assert left["step"].to_pylist() == [16, 32, 48, 64, 66, 68, 70, 72]
    assert reader.windows(since=9)["steps"].to_pylist() == [2] * MEMBERS * EACH
    reader.close()


def test_a_run_taken_up_again_forgets_what_came_after(tmp_path, every_four):
    """Both levels, in the middle of rounds that were put together."""
    writer = store.create(tmp_path / "run", {}, SPACE)
    for round in range(1, 6):
        writer.rows("windows", round, windows(round))
        writer.summary("usage", round, pa.table({"round": np.asarray([round], np.int32)}))
    writer.rewind(3)
    reader = stored.open_run(writer.directory)
    assert sorted(set(reader.windows()["round"].to_pylist())) == [1, 2, 3]
    assert reader.windows(coarse=True, members=[0])["steps"].to_pylist() == [16, 8]
    assert reader.summaries("usage")["round"].to_pylist() == [1, 2, 3]
    for round in (4, 5):
        writer.rows("windows", round, windows(round))
    fine, coarse = reader.windows(members=[1]), reader.windows(coarse=True, members=[1])
    assert fine["step"].to_pylist() == list(range(2, 42, 2))
    assert coarse["steps"].to_pylist() == [16, 16, 8]
    # As if nothing had happened, down to the files.
    whole = written(tmp_path / "whole", 5)
    for kind in ("windows", "coarse"):
        assert files(whole.directory, kind) == files(reader.directory, kind)
    assert whole.windows() == reader.windows()
    whole.close()
    writer.close()
    reader.close()


def test_summaries_come_back_and_may_be_written_anew(tmp_path):
    writer = store.create(tmp_path / "run", {}, SPACE)
    reader = stored.open_run(writer.directory)
    with pytest.raises(InputError, match="no usage of rounds from 0 on"):
        reader.summaries("usage")
    for round, value in ((1, 5.0), (2, 6.0), (1, 4.0)):
        table = pa.table({"round": np.asarray([round], np.int32), "cpu": [value]})
        writer.summary("usage", round, table)
    assert reader.summaries("usage").to_pydict() == {"round": [1, 2], "cpu": [4.0, 6.0]}
    assert reader.summaries("usage", since=2)["cpu"].to_pylist() == [6.0]
    with pytest.raises(InputError, match="no quantiles"):
        reader.summaries("quantiles")
    writer.close()
    reader.close()


def test_what_is_not_stored_is_told(tmp_path):
    writer = store.create(tmp_path / "run", {}, SPACE)
    writer.rows("steps", 1, windows(1).slice(0, 0))
    reader = stored.open_run(writer.directory)
    for ask in (reader.windows, lambda: reader.windows(coarse=True), lambda: reader.rows("steps")):
        with pytest.raises(InputError, match="has no (windows|steps) of rounds from 0 on"):
            ask()
    writer.close()
    reader.close()


def test_a_run_of_an_earlier_version_has_no_summaries_and_is_read(tmp_path):
    writer = store.create(tmp_path / "run", {}, SPACE)
    writer._execute("DROP TABLE IF EXISTS summaries", ())
    reader = stored.open_run(writer.directory)
    with pytest.raises(InputError, match="no usage"):
        reader.summaries("usage")
    assert reader.status().state == "running"
    writer.close()
    reader.close()


def test_windows_without_a_database_are_not_taken_for_those_of_a_new_run(tmp_path):
    segments.write(tmp_path / "windows", 1, 1, windows(1))
    with pytest.raises(InputError, match="already holds a run"):
        store.check_free(tmp_path)
