"""Runs that are steered from outside: applied in the next round, replayed bit for bit."""

import signal
import threading
import time

import directive_examples
import jax
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import swarmjax as sj
from swarmjax import ledger, store, stored
from swarmjax import steering as s
from swarmjax.crossover import OPERATORS
from swarmjax.progress import Silent
from swarmjax.steering import Member

SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1),
    activation=sj.choice("relu", "tanh"),
    width=sj.structure(4, 8),
)
DIALS = ("exploit.fraction", "softmax.temperature", "goal.accuracy")
GENES = {"learning_rate": [1e-2, 5.0], "activation": ["relu", "no"], "width": [4, 5]}


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 4))
    return sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)


def setting(task, directory, **changes):
    policy = sj.chain(sj.exploit(), sj.softmax(goal=sj.weighted(accuracy=1.0)), sj.perturb())
    given = {"task": task, "space": SPACE, "members": 6, "budget": 360, "round_steps": 10}
    return sj.Experiment(**given | {"policy": policy, "directory": directory} | changes)


class Person(Silent):
    """Asks for something after certain rounds: round -> a function of the births then."""

    def __init__(self, directory, wishes):
        self.directory, self.wishes = directory, wishes

    def show(self, status):
        if status.state in ledger.STEERABLE and status.round in self.wishes:
            wish = self.wishes.pop(status.round)
            with_births = stored.open_run(self.directory).scene().birth
            ledger.queue(self.directory / store.DATABASE, "ada", wish(with_births))


def steered(task, directory, wishes, **changes):
    experiment = setting(task, directory, **changes)
    return sj.run(experiment, display=Person(directory, wishes)), experiment


def living(births, slot):
    return Member(slot, int(births[slot]))


def told(directory):
    return [(each.state, each.round, each.told) for each in stored.open_run(directory).directives()]


def rows(directory):
    return pd.read_parquet(directory / "frames").set_index(["round", "member"]).sort_index()


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)


EVERYTHING = {
    1: lambda b: [s.Pin(living(b, 0)), s.Freeze(living(b, 1)), s.Note("look", living(b, 2))],
    2: lambda b: [s.Kill(living(b, 2)), s.Boost(living(b, 0), 4.0), s.Turn({"goal.accuracy": 3.0})],
    3: lambda b: [
        s.Breed(living(b, 0), living(b, 1), "union", living(b, 3)),
        s.Clone(living(b, 1), living(b, 4)),
        s.Set(living(b, 5), {"width": 8, "learning_rate": 0.02}),
    ],
    4: lambda b: [s.Add(1, {"activation": "tanh"}), s.Undo(2), s.Kill(Member(2, 10**6))],
}


@pytest.fixture(scope="module")
def run(task, tmp_path_factory):
    return steered(task, tmp_path_factory.mktemp("steered") / "run", dict(EVERYTHING))


def test_everything_is_applied_in_the_next_round(run):
    result, _ = run
    asked = told(result.directory)
    assert [state for state, _, _ in asked] == ["applied"] * 11 + ["refused"]
    assert [round for _, round, _ in asked] == [2] * 3 + [3] * 3 + [4] * 3 + [5] * 3
    assert asked[11][2].startswith("network 1000000 is gone")
    events = [e for e in stored.open_run(result.directory).events() if e.kind == "steered"]
    assert {e.member for e in events} >= {0, 1, 2, 5} and len(events) >= 12
    assert any(e.text == "ada: note member 2 look" for e in events)


def test_what_was_asked_is_what_happened(run):
    result, _ = run
    shown = rows(result.directory)
    births = shown.birth.unstack()
    assert births[0].nunique() == 1, "pinned"
    assert births[1].loc[:4].nunique() == 1, "frozen"
    assert shown.steps.unstack()[1].loc[2:4].tolist() == [0, 0, 0]
    assert births[2].loc[3] != births[2].loc[2], "killed"
    others = shown.steps.unstack().loc[3].drop([0, 1])
    assert shown.steps.loc[(3, 0)] > others.max(), "boosted"
    assert shown.parent.loc[(4, 3)] == 0 and shown.parent.loc[(4, 4)] == 1
    assert shown.width.loc[(4, 3)] == 8 and shown.width.loc[(4, 5)] == 8
    assert shown.learning_rate.loc[(4, 5)] == np.float32(0.02)
    plan = dict(stored.open_run(result.directory).plans())[4]
    assert plan["operator"][3].as_py() == OPERATORS.index("union")
    fresh = shown.loc[5].fresh
    assert fresh.sum() == 1 and shown.loc[5].activation[fresh].tolist() == ["tanh"]
    assert shown.steps.sum() == 360, "no step is lost"


def test_a_steered_run_is_replayed_bit_for_bit(run):
    result, experiment = run
    trainer, frame = sj.replay(experiment)
    for member in range(6):
        a, b = (t.network(member, frame.genome).member for t in (trainer, result.trainer))
        assert same(a, b)
    assert same(frame._replace(space=0, seconds=0), result.frame._replace(space=0, seconds=0))


def test_a_stopped_run_ends_like_another_and_refuses_what_comes_late(task, tmp_path):
    directory = tmp_path / "run"
    result, _ = steered(task, directory, {2: lambda b: [s.Stop(), s.Kill(living(b, 0))]})
    assert result.frame.round == 2 and result.best.scores["test_accuracy"] >= 0
    reader = stored.open_run(directory)
    assert reader.status().state == "stopped"
    assert reader.events()[-1].text == "120 member-steps in 2 rounds; stopped by ada"
    assert told(directory) == [("applied", 3, "the run ends"), ("refused", 2, "the run has ended")]
    with pytest.raises(sj.InputError, match="the run is stopped"):
        ledger.queue(directory / store.DATABASE, "ada", [s.Resume()])


class Waiting(Person):
    """Notes the states it is shown, and what `paused()` did."""

    def __init__(self, directory, wishes, paused):
        super().__init__(directory, wishes)
        self.states, self.paused = [], paused

    def show(self, status):
        self.states.append(status.state)
        super().show(status)
        if status.state == "paused":
            threading.Thread(target=self.paused).start()


def test_a_paused_run_says_so_and_goes_on_when_it_is_resumed(task, tmp_path):
    directory = tmp_path / "run"

    def resume():
        time.sleep(0.5)
        assert stored.open_run(directory).status().state == "paused"
        ledger.queue(directory / store.DATABASE, "bob", [s.Resume()])

    person = Waiting(directory, {1: lambda b: [s.Pause()]}, resume)
    result = sj.run(setting(task, directory, budget=120), display=person)
    assert person.states == ["running", "running", "paused", "running", "running", "finished"]
    assert result.frame.round == 2
    assert [row[:2] for row in told(directory)] == [("applied", 2)] * 2


def test_a_paused_run_is_stopped_by_an_interrupt(task, tmp_path):
    directory = tmp_path / "run"
    interrupt = lambda: (time.sleep(0.3), signal.raise_signal(signal.SIGINT))  # noqa: E731
    person = Waiting(directory, {1: lambda b: [s.Pause()]}, interrupt)
    with pytest.raises(KeyboardInterrupt):
        sj.run(setting(task, directory), display=person)
    assert stored.open_run(directory).status().state == "stopped"


asked = directive_examples.any_of(6, GENES, DIALS).filter(lambda d: not isinstance(d, s.Pause))


@settings(max_examples=1, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(asked, min_size=100, max_size=100), min_size=5, max_size=5))
def test_hundreds_of_random_directives_while_networks_train(task, tmp_path_factory, batches):
    directory = tmp_path_factory.mktemp("random") / "run"
    wishes = {round: lambda b, batch=batch: batch for round, batch in enumerate(batches, 1)}
    result, experiment = steered(task, directory, wishes)
    states = [state for state, _, _ in told(directory)]
    assert len(states) == 500 and set(states) <= {"applied", "refused", "withdrawn"}
    assert states.count("applied") > 20 and rows(directory).steps.sum() == 360
    _, frame = sj.replay(experiment)
    assert same(frame.metrics, result.frame.metrics)
