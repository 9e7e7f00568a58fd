"""Following a run directory that grows, breaks, ends or falls silent."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from paper import viz_runs
from swarmjax import store, stored
from swarmjax.types import InputError
from viz import source


@pytest.fixture
def run(tmp_path):
    made = viz_runs.Run(tmp_path / "digits", members=8)
    yield made
    made.writer.close()


def test_unknown_directory_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        source.Feed(tmp_path)


def test_waits_then_reads_only_new_rounds(run, monkeypatch):
    feed = source.Feed(run.writer.directory)
    feed.poll()
    assert (feed.snapshot.state, feed.snapshot.history) == ("waiting", None)
    asked = []
    whole = stored.Reader.round
    monkeypatch.setattr(
        stored.Reader,
        "round",
        lambda r, number, names=None: asked.append((number, names)) or whole(r, number, names),
    )
    run.advance(2)
    feed.poll()
    run.advance(1)
    feed.poll()
    feed.poll()
    assert [number for number, columns in asked if columns is None] == [2, 3]
    assert asked[-2:] == [(3, ["round", "member", "parent"]), (3, None)]
    history = feed.snapshot.history
    assert history.rounds.tolist() == [1, 2, 3]
    assert history.column("valid_accuracy").shape == (3, 8)
    assert feed.snapshot.state == "running"


def test_version_grows_only_with_news(run):
    feed = source.Feed(run.writer.directory)
    run.advance(1)
    feed.poll()
    version = feed.snapshot.version
    feed.poll()
    assert feed.snapshot.version == version
    run.say("finished", 0.9)
    feed.poll()
    assert feed.snapshot.version > version
    assert feed.snapshot.state == "finished"


def test_derived_belongs_to_its_history(run):
    feed = source.Feed(run.writer.directory, lambda history, before: (len(history.rounds), before))
    run.advance(1)
    feed.poll()
    run.advance(1)
    feed.poll()
    assert feed.snapshot.derived == (2, (1, None))


def test_failed_run_tells_why(run):
    run.writer.event(1, "failed", "the disk is full")
    run.say("failed")
    feed = source.Feed(run.writer.directory)
    feed.poll()
    assert (feed.snapshot.state, feed.snapshot.note) == ("failed", "the disk is full")


def test_unreadable_segment_is_a_state_not_an_end(run):
    run.advance(1)
    feed = source.Feed(run.writer.directory)
    feed.poll()
    broken = run.writer.directory / "frames" / "r000002.parquet"
    broken.write_bytes(b"no parquet")
    feed.poll()
    assert feed.snapshot.state == "unreadable"
    assert "cannot read" in feed.snapshot.note
    assert feed.snapshot.history.rounds.tolist() == [1]
    broken.unlink()
    feed.poll()
    assert feed.snapshot.state == "running"


def test_round_of_another_size_is_refused_and_named(run):
    run.advance(1)
    feed = source.Feed(run.writer.directory)
    feed.poll()
    table = stored.open_run(run.writer.directory).frames()
    number = table.schema.get_field_index("round")
    later = table.set_column(number, "round", pa.array(np.full(8, 2, np.int32)))
    run.writer.frame(2, later.slice(0, 5))
    run.writer.frame(3, table.set_column(number, "round", pa.array(np.full(8, 3, np.int32))))
    feed.poll()
    assert feed.snapshot.history.rounds.tolist() == [1, 3]
    assert feed.snapshot.note.startswith("1 rounds refused; round 2")
    feed.poll()
    assert feed.snapshot.history.rounds.tolist() == [1, 3]


@pytest.mark.parametrize(
    ("state", "age", "rounds", "expected"),
    [
        ("running", 1, True, "running"),
        ("running", 1, False, "waiting"),
        ("running", 60, True, "silent"),
        ("finished", 60, True, "finished"),
        ("stopped", 60, True, "stopped"),
    ],
)
def test_state_by_heartbeat(state, age, rounds, expected):
    status = store.Status(state, 1, 1, 1, None, 1, 1, 1000.0)
    assert source.judge(status, rounds, 1000.0 + age)[0] == expected


def test_genome_reads_options_back_as_indices(run):
    run.advance(1)
    feed = source.Feed(run.writer.directory)
    feed.poll()
    for name, values in feed.snapshot.history.genome().items():
        np.testing.assert_allclose(values, run.swarm.genome[name], rtol=1e-6)


def test_thread_follows_and_stops(run):
    feed = source.Feed(run.writer.directory)
    feed.start(interval=0.01)
    run.advance(1)
    for _ in range(500):
        if feed.snapshot.history is not None:
            break
        feed._stop.wait(0.01)
    feed.close()
    assert feed.snapshot.history is not None
