import contextlib
import threading

import numpy as np
import pytest
import round_tables
from conftest import make_frame
from mixed_run import SPACE, setting
from toy_nodes import Toy

import swarmjax as sj
from swarmjax import mirror, mixed, store, stored
from swarmjax.bus import open_bus
from swarmjax.crossover import OPERATORS
from swarmjax.inbox import Inbox
from swarmjax.mixed import joined_frame, part_of, part_of_plan
from swarmjax.policy import keep

HERE, THERE = slice(0, 3), slice(3, 5)


def frame_of(alive=(True,) * 5, **changes):
    return make_frame([0.1, 0.2, 0.3, 0.4, 0.5], alive=list(alive), **changes)


def plan_of(frame, **changes):
    return keep(frame)._replace(**{name: np.asarray(value) for name, value in changes.items()})


def test_each_part_numbers_its_members_from_zero():
    frame = frame_of()
    plan = plan_of(frame, parent=[1, 1, 0, 4, 4], steps=[1, 2, 3, 4, 5], mate=[0, 2, 2, 3, 3])
    here, there = part_of_plan(plan, frame, HERE), part_of_plan(plan, frame, THERE)
    assert here.parent.tolist() == [1, 1, 0] and there.parent.tolist() == [1, 1]
    assert here.mate.tolist() == [0, 2, 2] and there.mate.tolist() == [0, 0]
    assert (here.steps.tolist(), there.steps.tolist()) == ([1, 2, 3], [4, 5])
    assert len(there.genome["width"]) == 2


def test_weights_do_not_cross_between_the_parts():
    frame = frame_of(alive=[True, False, True, True, False])
    average = OPERATORS.index("average")
    plan = plan_of(
        frame, parent=[4, 4, 0, 0, 2], mate=[0, 1, 4, 3, 4], operator=[average] * 3 + [0, 0]
    )
    here, there = part_of_plan(plan, frame, HERE), part_of_plan(plan, frame, THERE)
    assert here.parent.tolist() == [0, 1, 0] and there.parent.tolist() == [0, 1]
    # The dead have no weights of their own to carry on with.
    assert here.fresh.tolist() == [False, True, False] and there.fresh.tolist() == [False, True]
    # Without its mate a child is its parent.
    assert here.mate.tolist() == [0, 1, 2]
    assert here.operator.tolist() == [0, 0, 0]


def test_births_of_both_parts_are_told_apart_and_found_again():
    frame = frame_of(birth=[0, 2, -1, 1, 5], lineage=[0, 0, -1, 1, 1])
    here, there = part_of(frame, HERE, 0), part_of(frame, THERE, 1)
    assert here.birth.tolist() == [0, 1, -1] and there.birth.tolist() == [0, 2]
    again = joined_frame(frame, (here, there))
    assert again.birth.tolist() == [0, 2, -1, 1, 5]
    assert again.lineage.tolist() == [0, 0, -1, 1, 1]


def test_parts_make_a_whole_again():
    frame = frame_of(steps=[1, 2, 3, 4, 5], birth=[0, 2, 4, 1, 3])
    whole = joined_frame(frame, (part_of(frame, HERE, 0), part_of(frame, THERE, 1)))
    for name in ("loss", "steps", "alive", "cost", "descriptor"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(frame, name))
    np.testing.assert_array_equal(whole.metrics["valid_accuracy"], frame.metrics["valid_accuracy"])
    np.testing.assert_array_equal(whole.genome["width"], frame.genome["width"])
    assert whole.remaining == frame.remaining - 15


def test_one_run_of_vectorised_members_and_nodes(tmp_path):
    url = f"local:{tmp_path}"
    toys = []

    def join():
        # Not before the run listens: its bus is there all the same.
        toys.extend(Toy(open_bus(url), tmp_path, name) for name in "ab")

    threading.Timer(0.5, join).start()
    result = sj.run(setting(tmp_path / "run", bus=url))
    for toy in toys:
        assert not any(True for _ in toy.node.jobs(10)), "it was not told to stop"
        toy.close()
        assert toy.jobs[0].start == "fresh"
    assert result.frame.remaining == 0
    assert result.best.member < 4
    reader = stored.open_run(tmp_path / "run")
    rows = reader.frames().to_pandas()
    assert rows.steps.sum() == 240
    assert rows.groupby("round").member.apply(list).tolist() == [[*range(6)]] * len(reader.rounds())
    nodes = rows[rows.member >= 4]
    assert nodes.steps.sum() == sum(job.steps for toy in toys for job in toy.jobs) > 0
    assert nodes.alive.all() and (nodes.width == 16).all()
    assert set(nodes.birth % 2) == {1} and set(rows[rows.member < 4].birth % 2) == {0}
    # Windows of nodes are those of all members: every step once, and the loss of the round.
    windows = reader.windows().to_pandas()
    taken = windows.groupby(["round", "member"]).steps.sum()
    trained = rows[rows.steps > 0].set_index(["round", "member"])
    assert taken.to_dict() == trained.steps.to_dict()
    mean = (windows.train_loss * windows.steps).groupby([windows["round"], windows.member]).sum()
    np.testing.assert_allclose(mean / taken, trained.train_loss.sort_index(), rtol=1e-4)
    last = windows.groupby(["round", "member"]).step.max()
    assert last.to_dict() == trained.step.to_dict()
    told = [event.text for event in reader.events() if event.kind == "node"]
    assert {"node a joins as member", "node b joins as member"} <= {t[:22] for t in told}
    reader.close()
    inbox = Inbox(tmp_path / "run" / "inbox.db")
    assert set(inbox.windows()["node"].to_pylist()) == {"a", "b"}
    assert inbox.refused == 0
    inbox.close()
    with pytest.raises(sj.InputError, match="cannot be replayed"):
        sj.replay(setting(tmp_path / "run", bus=url))


def test_a_run_is_followed_where_a_bus_is_named(tmp_path):
    url, told, local = f"local:{tmp_path}", [], object()
    writer = store.create(tmp_path / "run", {"members": 3, "budget": 1}, SPACE)
    writer.steering({}, True)
    writer.ended("finished", "all done")
    given = {"swarm": "s", "patience": 1.0, "tell": told.append}
    with mixed.with_nodes(local, SPACE, (3, 0), tmp_path / "run", bus=url, **given) as trainer:
        assert trainer is local
        mirror.follow(tmp_path / "copy", open_bus(url), "s")
    writer.close()
    with contextlib.closing(stored.open_run(tmp_path / "copy")) as reader:
        assert [event.text for event in reader.events()] == ["all done"]
    assert told == ["the run is followed over the bus from round 0 on"]


def test_a_mirror_has_the_windows_and_the_usage_of_a_run(tmp_path):
    url, copy = f"local:{tmp_path}", tmp_path / "copy"
    follower = threading.Thread(target=mirror.follow, args=(copy, open_bus(url), "s"), daemon=True)
    follower.start()
    changes = {"nodes": 0, "trace": [1], "parameters": ["*/kernel"], "round_steps": 30}
    sj.run(setting(tmp_path / "run", bus=url, **changes))
    follower.join(60)
    assert not follower.is_alive()
    with contextlib.closing(stored.open_run(copy)) as ours:
        with contextlib.closing(stored.open_run(tmp_path / "run")) as theirs:
            for kind in store.SEGMENTS:
                assert round_tables.same(ours.rows(kind), theirs.rows(kind)), kind
            for kind in ("layers", "quantiles", "usage"):
                assert round_tables.same(ours.summaries(kind), theirs.summaries(kind)), kind
            assert round_tables.same(ours.resources(), theirs.resources())
            assert ours.frames().equals(theirs.frames())


def test_nodes_that_do_not_come_are_an_error_that_is_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(mixed, "JOINING", 0.2)
    with pytest.raises(sj.InputError, match="only 0 of 2 nodes have joined"):
        sj.run(setting(tmp_path / "run", bus="local:nobody"))
    with contextlib.closing(stored.open_run(tmp_path / "run")) as reader:
        assert reader.status().state == "failed"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nodes": 6}, "nodes must be from 0 to 5"),
        ({"nodes": -1}, "nodes must be"),
        ({"nodes": True}, "nodes must be"),
        ({"bus": "redis://x"}, "a bus begins with"),
        ({"swarm": "a b"}, "the name"),
    ],
)
def test_bad_settings_of_nodes_are_refused_before_anything_is_written(tmp_path, changes, reason):
    with pytest.raises(sj.InputError, match=reason):
        sj.run(setting(tmp_path / "run", **{"bus": "local:x"} | changes))
    assert not (tmp_path / "run").exists()


def test_an_experiment_does_not_show_its_bus(tmp_path):
    assert "secret" not in repr(setting(tmp_path, bus="amqp://me:secret@host"))
