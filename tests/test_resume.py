"""Runs that end in any way go on to the same end, bit for bit."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pandas as pd
import pytest
import resumed_run
from resumed_run import setting

import swarmjax as sj
from swarmjax import checkpoints, following, ledger, store, stored
from swarmjax import steering as s
from swarmjax.mlp import Box
from swarmjax.progress import Silent
from swarmjax.steering import Member

CLOCKS = ["time", "seconds"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing happened to."""
    return sj.run(setting(tmp_path_factory.mktemp("whole") / "run"))


def states(result):
    slots = range(len(result.frame.alive))
    return [result.trainer.network(i, result.frame.genome).member for i in slots]


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


def rows(directory):
    with contextlib.closing(sj.open_run(directory)) as reader:
        return reader.frames().drop_columns(CLOCKS).to_pandas()


def plans(directory):
    with contextlib.closing(sj.open_run(directory)) as reader:
        return [(round, table.to_pydict()) for round, table in reader.plans()]


def told(directory):
    """What the events say, but for compilations and how the process began and ended."""
    with contextlib.closing(sj.open_run(directory)) as reader:
        own = ("compiled", "note", "failed", "stopped", "checkpoint")
        return [event[2:] for event in reader.events() if event.kind not in own]


def assert_as_if_nothing_had_happened(result, whole):
    pd.testing.assert_frame_equal(rows(result.directory), rows(whole.directory))
    assert plans(result.directory) == plans(whole.directory)
    assert told(result.directory) == told(whole.directory)
    assert same(states(result), states(whole))
    assert same(result.best.params, whole.best.params)
    assert result.best.scores == whole.best.scores


class Breaking(Silent):
    """Fails after a round."""

    def __init__(self, round, error=RuntimeError):
        self.round, self.error, self.notes = round, error, []

    def show(self, status):
        if status.round == self.round and status.state == "running":
            raise self.error("broken")

    def note(self, text):
        self.notes.append(text)


def broken(directory, round, **changes):
    with pytest.raises(RuntimeError, match="broken"):
        sj.run(setting(directory, **changes), display=Breaking(round))


@pytest.mark.parametrize("seconds", [0, 60], ids=["checkpoints", "none"])
def test_a_run_that_failed_goes_on_to_the_same_end(whole, tmp_path, seconds):
    broken(tmp_path / "run", 3, checkpoint_seconds=seconds)
    held = checkpoints.rounds(tmp_path / "run")
    # The third round ended before its checkpoint.
    assert held == ([1, 2] if seconds == 0 else [])
    with contextlib.closing(sj.open_run(tmp_path / "run")) as reader:
        assert reader.status().state == "failed"
    display = Breaking(99)
    result = sj.run(setting(tmp_path / "run"), display=display, resume=True)
    place = "the checkpoint of round 2" if held else "the first round"
    assert any(
        place in text and f"next {1 if held else 3} rounds" in text for text in display.notes
    )
    assert_as_if_nothing_had_happened(result, whole)
    with contextlib.closing(sj.open_run(tmp_path / "run")) as reader:
        assert reader.status().state == "finished"
        # Of the last round, and of those with checkpoints.
        last = int(result.frame.round)
        assert reader.digests(last).shape == (6, 16)


def test_a_run_may_break_again_and_again(whole, tmp_path):
    broken(tmp_path / "run", 1, checkpoint_seconds=0)
    for round in (2, 3, 5):
        with pytest.raises(RuntimeError, match="broken"):
            experiment = setting(tmp_path / "run", checkpoint_seconds=0)
            sj.run(experiment, display=Breaking(round), resume=True)
    result = sj.run(setting(tmp_path / "run"), resume=True)
    assert_as_if_nothing_had_happened(result, whole)


def test_a_damaged_checkpoint_is_told_of_and_an_earlier_one_used(whole, tmp_path):
    directory = tmp_path / "run"
    broken(directory, 4, checkpoint_seconds=0, checkpoints=3)
    assert checkpoints.rounds(directory) == [1, 2, 3]
    for path in (directory / "checkpoints" / "3").rglob("*"):
        if path.is_file() and "ocdbt" in str(path) and path.parent.name == "d":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(bytes(content))
    display = Breaking(99)
    result = sj.run(setting(directory), display=display, resume=True)
    assert any("an earlier one is used" in text for text in display.notes)
    assert_as_if_nothing_had_happened(result, whole)


class Person(Silent):
    """Asks for something after certain rounds, and breaks the run after another."""

    def __init__(self, directory, breaks):
        self.directory, self.breaks, self.asked = directory, breaks, set()

    def show(self, status):
        if status.state != "running" or status.round in self.asked:
            return
        self.asked.add(status.round)
        with contextlib.closing(stored.open_run(self.directory)) as reader:
            birth = reader.scene().birth
            waiting = len(reader.directives())
        wishes = {
            1: lambda: [s.Pin(Member(0, int(birth[0]))), s.Turn({"goal.accuracy": 3.0})],
            2: lambda: [s.Kill(Member(2, int(birth[2]))), s.Undo(99), s.Note("look")],
            3: lambda: [s.Add(1, {"width": 8}), s.Boost(Member(0, int(birth[0])), 4.0)],
        }
        # Each is asked for once, whoever the process is.
        counts = {1: 0, 2: 2, 3: 5}
        if status.round in wishes and waiting == counts[status.round]:
            ledger.queue(self.directory / store.DATABASE, "ada", wishes[status.round]())
        if status.round == self.breaks:
            raise RuntimeError("broken")


def test_what_a_person_asked_for_is_applied_once_in_its_round(tmp_path):
    policy = sj.chain(sj.exploit(), sj.softmax(goal=sj.weighted(accuracy=1.0)), sj.perturb())
    given = {"policy": policy, "checkpoint_seconds": 0}
    plain = sj.run(setting(tmp_path / "a", **given), display=Person(tmp_path / "a", None))
    directory = tmp_path / "b"
    with pytest.raises(RuntimeError, match="broken"):
        sj.run(setting(directory, **given), display=Person(directory, 4))
    # From the checkpoint of round 1 all rounds with directives are trained once more.
    for round in checkpoints.rounds(directory):
        if round > 1:
            for path in sorted((directory / "checkpoints" / str(round)).rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink()
            (directory / "checkpoints" / str(round)).rmdir()
    result = sj.run(setting(directory, **given), display=Person(directory, None), resume=True)
    assert_as_if_nothing_had_happened(result, plain)
    asked = []
    for run in (tmp_path / "a", directory):
        with contextlib.closing(stored.open_run(run)) as reader:
            asked.append([(e.id, e.body, e.state, e.round, e.told) for e in reader.directives()])
    assert asked[0] == asked[1] and len(asked[0]) == 7


def test_only_the_same_run_is_resumed(whole, tmp_path):
    broken(tmp_path / "run", 1)
    for changes, line in (
        ({"seed": 4}, "holds a run with seed 3, not 4"),
        ({"policy": "pbt"}, "holds a run with policy"),
        ({"space": sj.Space(learning_rate=sj.log_uniform(1e-3, 1.0))}, "holds a run with space"),
    ):
        with pytest.raises(sj.InputError, match=line):
            sj.run(setting(tmp_path / "run", **changes), resume=True)
    with pytest.raises(sj.InputError, match="is finished; there is nothing to resume"):
        sj.run(setting(whole.directory), resume=True)
    with pytest.raises(sj.InputError, match="holds no run"):
        sj.run(setting(tmp_path), resume=True)
    assert not (tmp_path / "trainer.lock").exists()
    with pytest.raises(sj.InputError, match="give --directory"):
        sj.run(setting(None), resume=True)


def test_a_second_trainer_is_refused(tmp_path):
    class Rival(Silent):
        def show(self, status):
            if status.round == 1:
                for resume in (True, False):
                    with pytest.raises(sj.InputError) as refused:
                        sj.run(setting(tmp_path / "run", budget=60), resume=resume)
                    lines.append(str(refused.value))

    lines = []
    sj.run(setting(tmp_path / "run", budget=60), display=Rival())
    assert "another trainer is at work in" in lines[0] and "already holds a run" in lines[1]


class Asking(Silent):
    """Sends signals to this process after a round."""

    def __init__(self, round, *signals):
        self.round, self.signals, self.notes = round, signals, []

    def show(self, status):
        if status.round == self.round and status.state == "running":
            for number in self.signals:
                signal.raise_signal(number)

    def note(self, text):
        self.notes.append(text)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_round_and_says_how_to_go_on(whole, tmp_path, number, code):
    before, display = signal.getsignal(number), Asking(2, number)
    with pytest.raises(sj.StoppedError, match="stopped after round 2; give --resume") as stopped:
        sj.run(setting(tmp_path / "run"), display=display)
    assert stopped.value.code == code and signal.getsignal(number) is before
    assert any("finishing the round" in text for text in display.notes)
    assert checkpoints.rounds(tmp_path / "run") == [2]
    with contextlib.closing(sj.open_run(tmp_path / "run")) as reader:
        assert reader.status().state == "stopped"
    if number == signal.SIGTERM:
        result = sj.run(setting(tmp_path / "run"), resume=True)
        assert_as_if_nothing_had_happened(result, whole)


def test_two_signals_stop_at_once_and_the_run_is_resumable(whole, tmp_path):
    display = Asking(2, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as stopped:
        sj.run(setting(tmp_path / "run"), display=display)
    assert not isinstance(stopped.value, sj.StoppedError)
    assert checkpoints.rounds(tmp_path / "run") == []
    result = sj.run(setting(tmp_path / "run"), resume=True)
    assert_as_if_nothing_had_happened(result, whole)


@pytest.mark.parametrize("seconds", [1.0, 2.0])
def test_a_killed_process_is_resumed(whole, tmp_path, seconds):
    """At some moment after the first round was stored."""
    directory = tmp_path / "run"
    command = [sys.executable, resumed_run.__file__, str(directory), "0"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir}
    process = subprocess.Popen(command, env=environment)
    end = time.monotonic() + 300
    while not list(directory.glob("frames/r*")) and time.monotonic() < end:
        time.sleep(0.01)
    time.sleep(seconds / 10)
    process.kill()
    process.wait()
    with contextlib.suppress(sj.InputError):  # It may have been finished.
        result = sj.run(setting(directory), resume=True)
        assert_as_if_nothing_had_happened(result, whole)
    pd.testing.assert_frame_equal(rows(directory), rows(whole.directory))


@pytest.mark.parametrize("round", [3, 4, 5])
def test_programs_that_followed_the_swarm_are_found_again(monkeypatch, tmp_path, round):
    monkeypatch.setattr(following, "MARGIN", 0.0)
    monkeypatch.setattr(following, "LEAST", 0.0)
    # Copies of the smallest: soon all have its architecture.
    policy = sj.chain(sj.exploit(0.5, goal=sj.weighted(parameters=-1.0)), sj.softmax())
    given = {"policy": policy, "checkpoint_seconds": 0}
    plain = sj.run(setting(tmp_path / "plain", **given))
    homes = plain.trainer.planner.homes
    assert len(homes.known) == 2 and Box(2, 4) in homes.known and homes.seen == 1
    broken(tmp_path / "run", round, **given)
    result = sj.run(setting(tmp_path / "run", **given), resume=True)
    assert_as_if_nothing_had_happened(result, plain)
    assert result.trainer.planner.homes == homes
    for nearest in (False, True):
        trainer, frame = sj.replay(setting(plain.directory, **given), nearest=nearest)
        held = [trainer.network(i, frame.genome).member for i in range(len(frame.alive))]
        assert same(held, states(plain))
