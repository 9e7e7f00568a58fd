"""What is worked out before a page asks is what the page would have worked out."""

import contextlib

import numpy as np
import pytest

from paper import viz_runs
from swarmjax import stored
from viz import ahead, courses, heatmap, metrics, source
from viz.history import History
from viz.layout import Layouts
from viz.reading import Stored


@pytest.fixture
def run(tmp_path):
    made = viz_runs.Run(tmp_path / "digits", members=12)
    made.advance(5)
    yield made
    made.writer.close()


def shown(history):
    """All that the first page shows of the rounds."""
    metric = metrics.describe("valid_accuracy", history.space)
    return [
        metrics.scaled_column(history, metric), metrics.ends(history, metric),
        courses.quantile_rows(history, metric), courses.moves(history), heatmap.deaths(history),
        heatmap.alarms(history),
    ]  # fmt: skip


def test_what_is_prepared_is_what_would_have_been_shown(run):
    prepared, plain = (
        source.Feed(run.writer.directory, derive) for derive in (ahead.derive, Layouts)
    )
    for _ in range(2):
        for feed in (prepared, plain):
            feed.poll()
        for one, other in zip(*(shown(f.snapshot.history) for f in (prepared, plain)), strict=True):
            np.testing.assert_array_equal(one, other)
        run.advance(3)


def test_no_column_is_read_twice_and_the_page_reads_none_of_these(run, monkeypatch):
    asked = []
    with contextlib.closing(stored.open_run(run.writer.directory)) as reader:
        read = reader.round
        frames = tuple(Stored(reader, number) for number in reader.rounds())

        def counted(number, names=None):
            asked.append((number, tuple(names)))
            return read(number, names)

        monkeypatch.setattr(reader, "round", counted)
        history = History(reader.space, frames)
        ahead.prepare(history)
        together = ("valid_accuracy", "alive", "alarm")
        assert [names for _, names in asked if "alive" in names] == [together] * 5
        before = len(asked)
        shown(history)
        assert asked[before:] == []


def test_the_best_ever_may_be_of_an_earlier_round(run):
    history = source.read(run.writer.directory)
    scores = history.column("valid_accuracy")
    alive = history.column("alive")
    best = np.nanmax(np.where(alive, scores, np.nan))
    r, slot, value = metrics.best_ever(history)
    assert value == pytest.approx(best) and alive[r - 1, slot]
    assert scores[r - 1, slot] == pytest.approx(best)


def test_nobody_is_the_best_of_those_who_were_never_measured(run):
    history = source.read(run.writer.directory)
    frames = tuple(
        {**frame, "valid_accuracy": np.full(12, np.nan, np.float32)} for frame in history.frames
    )
    assert metrics.best_ever(History(history.space, frames)) is None


def test_equals_are_ranked_by_loss_and_then_by_slot(run):
    frame = source.read(run.writer.directory).frames[-1]
    frame = {**frame, "alive": np.ones(12, bool), "valid_accuracy": np.full(12, 0.5, np.float32)}
    loss = np.full(12, 0.3, np.float32)
    loss[[7, 9]] = 0.1, np.nan
    history = History(run.swarm.space, ({**frame, "valid_loss": loss},))
    assert metrics.ranking(history).tolist() == [7, 0, 1, 2, 3, 4, 5, 6, 8, 10, 11, 9]


def test_how_much_there_is_to_read_is_known_before_it_is_read(run, tmp_path):
    feed = source.Feed(run.writer.directory)
    assert feed.snapshot.history is None and feed.cells == 12 * 5
    empty = viz_runs.Run(tmp_path / "empty", members=3)
    assert source.Feed(empty.writer.directory).cells == 0
    empty.writer.close()
