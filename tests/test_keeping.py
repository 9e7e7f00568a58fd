import threading
import time

import numpy as np
import pytest

from swarmjax import checkpoints, keeping
from swarmjax.keeping import Keeper


class Writer:
    def __init__(self, directory):
        self.directory, self.behind, self.hashed = directory, 0, []

    def digests(self, round, made):
        self.hashed.append((round, made.shape))


def make():
    arrays = {"swarm.kind": np.zeros(3, np.int32), "member0.a": np.arange(3.0)}
    return arrays, {"event": 1}


@pytest.fixture
def writer(tmp_path):
    return Writer(tmp_path)


@pytest.fixture
def keep(writer):
    made, told = [], []

    def build(seconds, keep=2):
        keeper = Keeper(writer, seconds, keep, told.append)
        made.append(keeper)
        return keeper, told

    yield build
    for keeper in made:
        keeper.close()


def test_every_round_where_no_time_need_pass(writer, keep):
    keeper, told = keep(0)
    for round in (1, 2, 3):
        keeper.after(round, make)
    keeper.close()
    assert checkpoints.rounds(writer.directory) == [2, 3]
    assert writer.hashed == [(round, (3, 16)) for round in (1, 2, 3)] and told == []


def test_none_before_the_time_has_passed(writer, keep):
    keeper, _ = keep(3600)
    keeper.after(1, make)
    assert checkpoints.rounds(writer.directory) == []
    assert keeper.now(1, make) and checkpoints.rounds(writer.directory) == [1]


def test_nobody_waits_and_the_next_is_rarer_the_longer_one_takes(writer, keep, monkeypatch):
    begun, go = threading.Event(), threading.Event()

    def slow(directory, checkpoint, keep):
        begun.set()
        go.wait(10)

    monkeypatch.setattr(keeping.checkpoints, "save", slow)
    keeper, _ = keep(1e-3)
    time.sleep(0.01)
    keeper.after(1, make)
    begun.wait(10)
    # One at a time.
    keeper.after(2, pytest.fail)
    time.sleep(0.1)
    go.set()
    keeper._collect(wait=True)
    # It took a tenth of a second: for eight seconds there is none.
    keeper.after(3, pytest.fail)


def test_none_while_the_log_of_plans_is_behind(writer, keep):
    keeper, _ = keep(0)
    writer.behind = 1
    keeper.after(1, pytest.fail)
    assert not keeper.now(1, pytest.fail)
    writer.behind = 0
    assert keeper.now(2, make)


def test_a_failed_one_is_told_and_a_later_one_works(writer, keep, monkeypatch):
    keeper, told = keep(0)
    keeper.after(1, make)
    with monkeypatch.context() as patch:

        def full(directory, checkpoint, keep):
            raise OSError(28, "No space left on device")

        patch.setattr(keeping.checkpoints, "save", full)
        keeper.after(2, make)
        # Told by the next round, which tries again.
        assert not keeper.now(3, make)
    assert len(told) == 2
    assert all("No space left" in line and "tried again" in line for line in told)
    assert keeper.now(4, make)
    assert checkpoints.rounds(writer.directory) == [1, 4] and keeper.latest == 4
