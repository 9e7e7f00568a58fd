import contextlib
import functools
import threading
import time

import msgspec
import numpy as np
import pytest
from conftest import make_frame
from toy_nodes import Toy

from swarmjax import listener, records, space
from swarmjax.bus import Local
from swarmjax.errors import InputError
from swarmjax.fleet import Fleet
from swarmjax.node_trainer import NodeTrainer
from swarmjax.policy import keep
from swarmjax.types import Frame

SPACE = space.Space(
    learning_rate=space.log_uniform(0.01, 1.0), width=space.structure(8, 16, 32)
)  # fmt: skip


@functools.cache
def _frame_of_three():
    # Made once: every other size would be compiled again.
    return make_frame([np.nan] * 3, space=SPACE, alive=[True] * 3, round=0)


def first_frame(members):
    frame = _frame_of_three()
    unknown = np.full(members, np.nan, np.float32)
    zeros, none = np.zeros(members, np.int32), np.full(members, -1, np.int32)
    frame = frame._replace(loss=unknown, steps=zeros, total_steps=zeros, birth=none, lineage=none)
    return Frame(**{name: _host(value, members) for name, value in frame._asdict().items()})


def _host(value, members):
    if isinstance(value, space.Space):
        return value
    if isinstance(value, dict):
        return {name: _host(each, members) for name, each in value.items()}
    return np.array(value)[:members] if np.ndim(value) else np.array(value)


class Swarm:
    """A fleet with its toys and trainer."""

    def __init__(self, folder, members, **options):
        self.bus, self.folder, self.told = Local(), folder, []
        given = {"stale": 20.0, "retire": 40.0} | options
        self.fleet = Fleet(self.bus, "s", SPACE, members, folder, tell=self.told.append, **given)
        self.trainer = NodeTrainer(self.fleet, SPACE, members)
        self.toys = []

    def join(self, name, **options):
        toy = Toy(self.bus, self.folder, name, **options)
        self.toys.append(toy)
        known = lambda: name in self.fleet.peers  # noqa: E731
        assert self.fleet.wait(known, 20), self.told
        return toy

    def close(self):
        for toy in self.toys:
            toy.close()
        self.fleet.close()


@pytest.fixture
def swarm(tmp_path, monkeypatch):
    made = []
    # Threads that end are waited for.
    monkeypatch.setattr(listener, "_WAIT", 0.02)

    def make(members, **options):
        made.append(Swarm(tmp_path, members, **options))
        return made[0]

    yield make
    for each in made:
        each.close()


def planned(frame, steps, **changes):
    changes = {name: np.asarray(value) for name, value in changes.items()}
    return keep(frame)._replace(steps=np.asarray(steps, np.int32), **changes)


def begun(swarm, frame, steps=4):
    """The Frame after a first round in which everyone starts fresh."""
    return swarm.trainer.round(planned(frame, [steps] * len(frame.alive), fresh=frame.alive), frame)


def test_steps_genes_and_scores_go_both_ways(swarm):
    swarm = swarm(2)
    toys = [swarm.join(name, rate=rate) for name, rate in (("a", 0.1), ("b", 0.2))]
    swarm.trainer.wait(20)
    frame = first_frame(2)
    genome = {
        "learning_rate": np.array([0.5, 0.25], np.float32),
        "width": np.array([0, 2], np.int32),
    }
    plan = planned(frame, [3, 7], fresh=[True, True])._replace(genome=genome)
    after = swarm.trainer.round(plan, frame)
    assert after.steps.tolist() == after.total_steps.tolist() == [3, 7]
    assert after.remaining == frame.remaining - 10
    assert (after.round, after.alive.tolist()) == (1, [True, True])
    assert (after.birth.tolist(), after.lineage.tolist()) == ([0, 1], [0, 1])
    assert [toy.jobs[0].genes for toy in toys] == [{"learning_rate": 0.5}, {"learning_rate": 0.25}]
    # A gene that a node does not obey stays as it is: width 16.
    assert after.genome["width"].tolist() == [1, 1]
    np.testing.assert_allclose(after.genome["learning_rate"], [0.5, 0.25])
    losses = [0.5**6, 0.75**14]
    np.testing.assert_allclose(after.metrics["valid_loss"], losses, rtol=1e-4)
    np.testing.assert_allclose(after.loss[0], np.mean([0.25, 0.25**2, 0.25**3]), rtol=1e-4)
    assert after.cost.tolist() == [50, 50] and after.parameters.tolist() == [3, 3]
    assert np.isfinite(after.seconds).all()


def test_weights_go_from_node_to_node_of_the_same_architecture(swarm):
    swarm = swarm(3)
    sizes = {"a": 3, "b": 3, "c": 5}
    toys = [swarm.join(name, size=size, rate=0.5) for name, size in sizes.items()]
    frame = begun(swarm, first_frame(3))
    best = toys[0].node._snapshot["w"].copy()
    before = toys[2].node._snapshot["w"].copy()
    after = swarm.trainer.round(planned(frame, [0, 2, 2], parent=[0, 0, 0]), frame)
    np.testing.assert_array_equal(toys[1].started[-1], best)
    assert [toy.jobs[-1].start for toy in toys] == ["own", "weights", "own"]
    # Another architecture: it keeps its own.
    np.testing.assert_array_equal(toys[2].started[-1], before)
    assert after.birth.tolist() == [0, 3, 2]
    assert after.lineage.tolist() == [0, 0, 2]
    assert after.total_steps.tolist() == [4, 6, 6]


def test_two_nodes_may_swap_their_weights(swarm):
    swarm = swarm(2)
    toys = [swarm.join(name) for name in "ab"]
    frame = first_frame(2)
    genome = {"learning_rate": np.array([0.5, 0.1], np.float32), "width": np.array([1, 1])}
    plan = planned(frame, [3, 3], fresh=[True, True])._replace(genome=genome)
    frame = swarm.trainer.round(plan, frame)
    before = [toy.node._snapshot["w"].copy() for toy in toys]
    after = swarm.trainer.round(planned(frame, [0, 0], parent=[1, 0]), frame)
    np.testing.assert_array_equal(toys[0].started[-1], before[1])
    np.testing.assert_array_equal(toys[1].started[-1], before[0])
    assert after.lineage.tolist() == [1, 0]
    np.testing.assert_array_equal(after.loss, frame.loss[::-1])


def test_a_silent_node_is_stale_then_gone_and_may_return(swarm):
    swarm = swarm(2, stale=0.5, retire=2.0)
    swarm.join("a")
    lost = swarm.join("b")
    frame = begun(swarm, first_frame(2))
    lost.vanish()
    swarm.toys.remove(lost)
    begun_at = time.monotonic()
    after = swarm.trainer.round(planned(frame, [5, 5]), frame)
    assert time.monotonic() - begun_at < 20
    assert (after.alive.tolist(), after.steps.tolist()) == ([True, False], [5, 0])
    assert after.remaining == frame.remaining - 5
    told = [line for line in swarm.told if "node b" in line]
    assert "stale" in told[-2] and "given up" in told[-1]
    # Whatever is granted to nobody is not taken.
    again = swarm.trainer.round(planned(after, [1, 1], fresh=[False, True]), after)
    assert (again.alive.tolist(), again.steps.tolist()) == ([True, False], [1, 0])
    before = swarm.fleet.peers["b"].announce.incarnation
    back = swarm.join("b")
    assert swarm.fleet.wait(lambda: swarm.fleet.peers["b"].announce.incarnation > before, 20)
    seen = swarm.trainer.round(planned(again, [1, 0]), again)
    assert seen.alive.tolist() == [True, True]
    final = swarm.trainer.round(planned(seen, [2, 2], fresh=[False, True]), seen)
    assert final.steps.tolist() == [2, 2]
    assert back.jobs[-1].start == "fresh"
    assert len({*final.birth.tolist(), *frame.birth.tolist()}) == 3


def test_a_node_started_again_in_a_round_does_not_hold_it_up(swarm):
    swarm = swarm(1)
    first = swarm.join("a")
    frame = begun(swarm, first_frame(1))
    first.hold.clear()
    found = []
    thread = threading.Thread(
        target=lambda: found.append(swarm.trainer.round(planned(frame, [5]), frame))
    )
    thread.start()
    assert swarm.fleet.wait(lambda: len(first.jobs) == 2, 20)
    first.silent = True
    first.vanish()
    swarm.toys.remove(first)
    swarm.join("a")
    thread.join(20)
    (after,) = found
    assert (after.steps.tolist(), after.alive.tolist()) == ([0], [True])
    assert after.birth.tolist() == [1]
    assert np.isnan(after.metrics["valid_loss"]).all()


def test_a_node_without_its_spool_is_not_taken_for_the_one_before(swarm):
    """Its records are numbered from 0 again: none of them is a repetition."""
    swarm = swarm(1, stale=5.0, retire=10.0)
    first = swarm.join("a")
    frame = begun(swarm, first_frame(1))
    first.vanish()
    swarm.toys.remove(first)
    (swarm.folder / "a.spool").unlink()
    gone = swarm.fleet.peers["a"]
    swarm.join("a")
    assert swarm.fleet.wait(lambda: swarm.fleet.peers["a"] is not gone, 20)
    after = swarm.trainer.round(planned(frame, [5]), frame)
    assert (after.alive.tolist(), after.steps.tolist()) == ([True], [5])
    assert swarm.fleet.inbox.repeated == 0


def test_a_node_whose_clock_was_set_back_is_told_of_and_changes_nothing(swarm):
    swarm = swarm(1)
    swarm.join("a")
    known = swarm.fleet.peers["a"]
    older = msgspec.structs.replace(known.announce, incarnation=known.announce.incarnation - 1)
    with contextlib.closing(swarm.bus.publisher()) as publisher:
        publisher.publish(records.channel_up("s"), [records.encode_up(older)])
    assert swarm.fleet.wait(lambda: any("a is not heeded" in line for line in swarm.told), 20)
    assert swarm.fleet.peers["a"] is known


def test_a_node_that_leaves_is_not_alive_and_its_place_is_free(swarm):
    swarm = swarm(1)
    leaving = swarm.join("a")
    frame = begun(swarm, first_frame(1))
    leaving.close()
    swarm.toys.remove(leaving)
    assert swarm.fleet.wait(lambda: not swarm.fleet.peers["a"].present, 20)
    after = swarm.trainer.round(planned(frame, [1]), frame)
    assert after.alive.tolist() == [False]
    swarm.join("z")
    assert swarm.fleet.peers["z"].slot == 0 and "a" not in swarm.fleet.peers


@pytest.mark.parametrize(
    ("genes", "reason"),
    [
        ({"learning_rate": 0.1}, "differ in width"),
        ({"learning_rate": 0.1, "width": 17}, "no option '17'"),
        ({"learning_rate": 0.1, "width": 16.0}, "no option '16.0'"),
        ({"learning_rate": 7.0, "width": 16}, "must be from 0.01 to 1.0, got 7.0"),
        ({"learning_rate": "fast", "width": 16}, "got fast"),
        ({"learning_rate": 0.1, "width": 16, "x": 1}, "differ in x"),
    ],
)
def test_a_node_of_another_space_is_turned_away(swarm, genes, reason):
    swarm = swarm(1)
    obeys = tuple(genes)
    toy = Toy(swarm.bus, swarm.folder, "a", genes=genes, obeys=obeys)
    with contextlib.closing(toy):
        assert swarm.fleet.wait(lambda: toy.node._stopped, 20)
    assert any(reason in line for line in swarm.told)
    assert swarm.fleet.peers == {}
    assert swarm.fleet.inbox.refused == 1


def test_one_node_too_many_is_turned_away(swarm):
    swarm = swarm(1)
    swarm.join("a")
    extra = Toy(swarm.bus, swarm.folder, "b")
    with contextlib.closing(extra):
        assert swarm.fleet.wait(lambda: extra.node._stopped, 20)
    assert list(swarm.fleet.peers) == ["a"]


def test_too_few_nodes_are_an_error_in_time(swarm):
    with pytest.raises(InputError, match="only 0 of 3 nodes have joined within 0.1 s"):
        swarm(3).trainer.wait(0.1)


def test_a_node_that_lives_and_does_not_train_holds_up_nobody(swarm):
    swarm = swarm(1, patience=0.5)
    toy = swarm.join("a")
    frame = begun(swarm, first_frame(1))
    # It goes on giving signs of life.
    toy.hold.clear()
    stuck = swarm.trainer.round(planned(frame, [3]), frame)
    assert (stuck.steps.tolist(), stuck.alive.tolist()) == ([0], [False])
    assert "node a is given up: it took no step" in swarm.told[-1]
    toy.hold.set()
    assert swarm.fleet.wait(lambda: swarm.fleet.peers["a"].report is not None, 20)
    back = swarm.trainer.round(planned(stuck, [0]), stuck)
    assert (back.alive.tolist(), back.total_steps.tolist()) == ([True], [7])


def test_a_controller_started_again_knows_its_nodes(swarm, tmp_path):
    swarm = swarm(1)
    toy = swarm.join("a")
    frame = begun(swarm, first_frame(1))
    # No goodbye: as if its process were killed.
    fleet = swarm.fleet
    for part in (fleet._listener, fleet._outbox, fleet._spool, fleet.inbox):
        part.close()
    swarm.fleet = Fleet(swarm.bus, "s", SPACE, 1, tmp_path)
    trainer = NodeTrainer(swarm.fleet, SPACE, 1)
    trainer.wait(20)
    after = trainer.round(planned(frame, [2]), frame)
    assert after.total_steps.tolist() == [6]
    assert len(toy.jobs) == 2


def restarted(swarm, folder):
    """A new controller in the place of one that was killed: no goodbye."""
    fleet = swarm.fleet
    for part in (fleet._listener, fleet._outbox, fleet._spool, fleet.inbox):
        part.close()
    swarm.fleet = Fleet(swarm.bus, "s", SPACE, 2, folder, tell=swarm.told.append)
    return NodeTrainer(swarm.fleet, SPACE, 2, births=6)


def test_no_step_is_taken_twice_where_a_controller_is_killed_in_a_round(swarm, tmp_path):
    swarm = swarm(2)
    done, slow = (swarm.join(name) for name in "ab")
    frame = begun(swarm, first_frame(2))
    slow.hold.clear()
    plan = planned(frame, [3, 5])
    threading.Thread(target=_round, args=(swarm.trainer, plan, frame), daemon=True).start()
    known = swarm.fleet.peers
    assert swarm.fleet.wait(lambda: known["a"].report is not None and len(slow.jobs) == 2, 20)
    trainer = restarted(swarm, tmp_path)
    assert trainer.gather(20) == 2
    slow.hold.set()
    after = trainer.round(plan, frame)
    assert after.steps.tolist() == [3, 5] and after.total_steps.tolist() == [7, 9]
    assert [len(toy.jobs) for toy in (done, slow)] == [2, 2]
    assert after.birth.tolist() == frame.birth.tolist()
    # What is born from now on is told from all before.
    fresh = trainer.round(planned(after, [1, 1], fresh=[True, False]), after)
    assert fresh.birth.tolist() == [6, 1] and [len(toy.jobs) for toy in (done, slow)] == [3, 3]


def _round(trainer, plan, frame):
    # Its fleet is closed under its hands.
    with contextlib.suppress(Exception):
        trainer.round(plan, frame)


def test_nonsense_of_settings_is_refused(tmp_path):
    with pytest.raises(InputError, match="0 < stale <= retire"):
        Fleet(Local(), "s", SPACE, 1, tmp_path, stale=5, retire=1)
