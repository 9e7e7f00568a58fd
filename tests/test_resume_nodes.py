"""Runs with nodes that end in any way go on: what was done is kept, and no step is taken twice."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import mixed_run
import pandas as pd
import pytest
from mixed_run import setting
from toy_nodes import Toy

import swarmjax as sj
from swarmjax import checkpoints, mixed, stored
from swarmjax.bus import open_bus
from swarmjax.progress import Silent

CLOCKS = ["time", "seconds"]


class Asking(Silent):
    """Asks the process to end after a round."""

    def __init__(self, round):
        self.round, self.notes = round, []

    def show(self, status):
        if status.round == self.round and status.state == "running":
            signal.raise_signal(signal.SIGINT)

    def note(self, text):
        self.notes.append(text)


def rows(directory, until):
    """What is stored of the rounds until then."""
    with contextlib.closing(sj.open_run(directory)) as reader:
        return reader.frames().to_pandas().query("round <= @until").reset_index(drop=True)


def assert_kept(before, after):
    """Of nodes everything, of the others all but how long it took."""
    nodes = before.member >= 4
    pd.testing.assert_frame_equal(before.drop(columns=CLOCKS), after.drop(columns=CLOCKS))
    pd.testing.assert_series_equal(before.seconds[nodes], after.seconds[nodes])


def assert_nothing_twice(directory, toys):
    """Nodes took what is stored, were told to stop, and births are of one network each."""
    with contextlib.closing(sj.open_run(directory)) as reader:
        found, status = reader.frames().to_pandas(), reader.status()
    assert (status.state, found.steps.sum()) == ("finished", status.budget)
    assert found.groupby("round").member.apply(list).tolist() == [[*range(6)]] * status.round
    for toy in toys:
        assert not any(True for _ in toy.node.jobs(20)), "it was not told to stop"
        toy.close()
    taken = sum(job.steps for toy in toys for job in toy.jobs)
    nodes = found[found.member >= 4]
    with contextlib.closing(sj.open_run(directory)) as reader:
        windows = reader.windows().to_pandas()
    told = windows.groupby(["round", "member"]).steps.sum().to_dict()
    assert told == found[found.steps > 0].set_index(["round", "member"]).steps.to_dict()
    assert nodes.steps.sum() == taken > 0 and nodes.alive.all()
    assert [job.round for job in toys[0].jobs] == [*range(1, status.round + 1)]
    for _, lives in nodes.groupby("birth"):
        assert lives.member.nunique() == 1


@pytest.mark.parametrize("lost", [False, True], ids=["checkpoint", "none"])
def test_a_run_that_was_asked_to_end_goes_on_with_its_nodes(tmp_path, lost):
    url, directory = f"local:{tmp_path}", tmp_path / "run"
    toys = [Toy(open_bus(url), tmp_path, name) for name in "ab"]
    display = Asking(2)
    with pytest.raises(sj.StoppedError, match="stopped after round 2; give --resume"):
        sj.run(setting(directory, bus=url), display=display)
    assert "nodes wait for the run to be resumed; end them if it is not" in display.notes
    assert checkpoints.rounds(directory)[-1] == 2
    before = rows(directory, 2)
    if lost:
        # Both rounds are trained once more, but not by the nodes.
        shutil.rmtree(directory / "checkpoints")
    result = sj.run(setting(directory, bus=url), resume=True)
    assert result.frame.remaining == 0
    assert_kept(before, rows(directory, 2))
    assert_nothing_twice(directory, toys)


class Leaving(Asking):
    """Lets a node leave after the first round, too, and waits until that is known."""

    def __init__(self, round, toy):
        super().__init__(round)
        self.toy = toy

    def show(self, status):
        if status.round == 1 and not any("leaves" in text for text in self.notes):
            self.toy.close()
            end = time.monotonic() + 60
            while not any("leaves" in text for text in self.notes) and time.monotonic() < end:
                time.sleep(0.01)
        super().show(status)


def test_a_run_goes_on_without_nodes_that_do_not_come_back(tmp_path, monkeypatch):
    url, directory = f"local:{tmp_path}", tmp_path / "run"
    toys = [Toy(open_bus(url), tmp_path, name) for name in "ab"]
    with pytest.raises(sj.StoppedError):
        sj.run(setting(directory, bus=url), display=Leaving(2, toys[1]))
    monkeypatch.setattr(mixed, "JOINING", 2.0)
    display = Asking(99)
    result = sj.run(setting(directory, bus=url), display=display, resume=True)
    toys[0].close()
    assert "only 1 of 2 nodes are back; going on without the others" in display.notes
    assert result.frame.alive.tolist() == [True] * 5 + [False]


def test_only_a_run_with_as_many_nodes_is_resumed(tmp_path):
    url, directory = f"local:{tmp_path}", tmp_path / "run"
    toys = [Toy(open_bus(url), tmp_path, name) for name in "ab"]
    with pytest.raises(sj.StoppedError):
        sj.run(setting(directory, bus=url), display=Asking(1))
    for toy in toys:
        toy.close()
    with pytest.raises(sj.InputError, match="holds a run with nodes 2, not 1"):
        sj.run(setting(directory, bus=url, nodes=1), resume=True)


@pytest.mark.parametrize("seconds", [0, 60], ids=["checkpoints", "none"])
def test_a_killed_controller_is_resumed_over_a_real_queue(rabbit, tmp_path, seconds):
    directory = tmp_path / "run"
    command = [sys.executable, mixed_run.__file__, str(directory), str(seconds)]
    given = {"SWARMJAX_BUS": rabbit.url}
    given["JAX_COMPILATION_CACHE_DIR"] = jax.config.jax_compilation_cache_dir
    toys = [Toy(open_bus(rabbit.url), tmp_path, name) for name in "ab"]
    process = subprocess.Popen(command, env=os.environ | given)
    end = time.monotonic() + 900
    while len(list(directory.glob("frames/r*"))) < 4 and time.monotonic() < end:
        time.sleep(0.01)
    # In the middle of a grant, which is not given a second time.
    for toy in toys:
        toy.hold.clear()
    started = [len(toy.jobs) for toy in toys]
    threading.Event().wait(0.5)
    process.kill()
    process.wait()
    with contextlib.closing(stored.open_run(directory)) as reader:
        done = max(reader.parts())
    assert done >= 4 and all(n in (done, done + 1) for n in started)
    before = rows(directory, done)
    for toy in toys:
        toy.hold.set()
    subprocess.run([*command, "-r"], env=os.environ | given, check=True, timeout=900)
    assert_kept(before, rows(directory, done))
    assert_nothing_twice(directory, toys)
