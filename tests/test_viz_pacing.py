"""Pages leave the machine to a training that needs it."""

from __future__ import annotations

import pytest

from paper import viz_runs
from swarmjax import telemetry
from swarmjax.clock import Stamp
from viz import pacing, source


@pytest.mark.parametrize(
    ("seconds", "beside", "rests"),
    [(0.2, False, 0.2), (60.0, False, 60.0), (0.2, True, 4.0), (60.0, True, 5.0)],
)
def test_a_page_rests_longer_beside_a_training_but_never_for_long(seconds, beside, rests):
    assert pacing.rest(seconds, beside) == pytest.approx(rests)


@pytest.fixture
def run(tmp_path):
    made = viz_runs.Run(tmp_path / "digits", members=8)
    yield made
    made.writer.close()


def advance(run, cores):
    """One more round, in which the trainer kept so many of this machine's four cores busy."""
    number = run.swarm.round + 1
    used = {"cpu": cores, "memory": 1e9, "gpu": float("nan"), "gpu_memory": float("nan")}
    stamp = Stamp(0, 0, 0, 0)
    run.writer.summary("usage", number, telemetry.usage_table(number, 1.0, used, stamp))
    run.advance(1)


@pytest.mark.parametrize(
    ("cores", "busy", "beside"),
    [(3.5, 95.0, True), (1.0, 60.0, True), (3.5, 50.0, False), (0.9, 95.0, False)],
)
def test_a_training_needs_the_machine_if_both_are_busy(run, monkeypatch, cores, busy, beside):
    monkeypatch.setattr(pacing.psutil, "cpu_percent", lambda: busy)
    monkeypatch.setattr(pacing.os, "cpu_count", lambda: 4)
    feed = source.Feed(run.writer.directory)
    advance(run, cores)
    feed.poll()
    assert feed.snapshot.beside is beside
    run.say("finished", 0.9)
    feed.poll()
    assert not feed.snapshot.beside


def test_a_run_that_tells_nothing_of_its_use_is_followed_at_full_speed(run, monkeypatch):
    monkeypatch.setattr(pacing.psutil, "cpu_percent", lambda: 100.0)
    feed = source.Feed(run.writer.directory)
    run.advance(1)
    feed.poll()
    assert feed.snapshot.history is not None and not feed.snapshot.beside


def test_the_feed_rests_beside_a_training(run, monkeypatch):
    waits = []
    feed = source.Feed(run.writer.directory)
    feed.snapshot = feed.snapshot._replace(beside=True)
    monkeypatch.setattr(feed, "poll", lambda: None)
    monkeypatch.setattr(pacing, "rest", lambda seconds, beside: 7.0 if beside else 0.0)
    monkeypatch.setattr(feed._stop, "wait", lambda pause: waits.append(pause) or len(waits) > 2)
    feed._follow(0.1)
    assert waits == [0.1, 7.0, 7.0]
