import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import anomaly, holding, moving
from swarmjax.experiment import Experiment, check
from swarmjax.planner import Choices
from swarmjax.policy import keep
from swarmjax.rounds import begin
from swarmjax.swarm import empty_swarm
from swarmjax.types import InputError

N = 5


@pytest.fixture(scope="module", params=["device", "host"])
def trained(request):
    """A trainer of five networks of two containers, the last Frame, and its setup."""
    x = np.random.default_rng(0).normal(size=(60, 4))
    task = sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=8)
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(4, 8))
    setup = check(Experiment(task=task, space=space, members=N, budget=100, storage=request.param))
    trainer, frame = begin(setup, Choices())
    plan = keep(frame)._replace(fresh=np.ones(N, bool), steps=np.full(N, 3, np.int32))
    return trainer, trainer.round(plan, frame), setup


def assert_members_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize("shared", [True, False])
def test_networks_go_out_of_one_swarm_and_into_another(trained, shared, monkeypatch):
    # Devices with memory of their own send by lanes.
    monkeypatch.setattr(moving, "_shares_memory", lambda store: shared)
    trainer, frame, _ = trained
    places, slots = np.asarray([3, 0, 2]), np.asarray([30, 0, 20])
    crates = moving.packed(trainer._swarm, trainer.planner.store, trainer._detector, places, slots)
    assert sorted(slot for crate in crates for slot in crate.slots) == [0, 20, 30]
    assert moving.bytes_of(crates) > 0
    # In other places, beside one that nothing arrives in.
    wanted = np.asarray([20, 7, 30, 0])
    swarm, detector = moving.relaid(empty_swarm(0), anomaly.init(0), np.full(4, -1))
    swarm, detector = moving.unpacked(swarm, trainer.planner.store, detector, crates, wanted)
    assert swarm.kind[1] == -1 and swarm.row[1] == -1
    found = np.asarray([0, 2, 3])
    again = moving.packed(swarm, trainer.planner.store, detector, found, wanted[found])
    for crate in again:
        for i, slot in enumerate(crate.slots.tolist()):
            network = trainer.network(slot // 10, frame.genome)
            assert crate.container == network.container
            mine = jax.tree.map(lambda leaf, i=i: leaf[i], crate.members)
            assert_members_equal(mine, network.member)
            assert crate.detector.level[i] == trainer._detector.level[slot // 10]
    np.testing.assert_array_equal(swarm.step, [3, 0, 3, 3])


def test_those_who_go_leave_room(trained):
    trainer, _, _ = trained
    crates = moving.packed(
        trainer._swarm, trainer.planner.store, trainer._detector, np.arange(N), np.arange(N)
    )
    swarm, detector = moving.relaid(empty_swarm(0), anomaly.init(0), np.full(N, -1))
    swarm, detector = moving.unpacked(swarm, trainer.planner.store, detector, crates, np.arange(N))
    rows = max(int(r) for r in swarm.row)
    # Slots 1 and 3 go, and come back; nobody's row grows beyond those that were there.
    some = moving.packed(
        swarm, trainer.planner.store, detector, np.asarray([1, 3]), np.asarray([1, 3])
    )
    swarm, detector = moving.relaid(swarm, detector, np.asarray([0, -1, 2, -1, 4]))
    swarm, detector = moving.unpacked(swarm, trainer.planner.store, detector, some, np.arange(N))
    assert max(int(r) for r in swarm.row) <= rows
    again = moving.packed(swarm, trainer.planner.store, detector, np.arange(N), np.arange(N))
    for one, other in zip(crates, again, strict=True):
        assert_members_equal(one.members, other.members)


def test_a_swarm_without_anyone_in_a_place_forgets_who_was_there():
    full = empty_swarm(3)._replace(step=np.asarray([4, 5, 6], np.int32))
    swarm, detector = moving.relaid(full, anomaly.init(3), np.asarray([2, -1]))
    assert swarm.step.tolist() == [6, 0] and detector.count.shape == (2,)


def test_crates_are_kept_as_a_trainer_keeps_its_swarm(trained):
    trainer, frame, setup = trained
    arrays = trainer.arrays()
    crates = []
    for slots in (np.asarray([1, 4]), np.asarray([0, 2, 3])):
        crates += moving.crates_of(setup.recipe, trainer.planner.homes, frame.genome, arrays, slots)
    again = moving.arrays_of(trainer._swarm, crates)
    assert set(again) == set(arrays)
    np.testing.assert_array_equal(holding.digests(again), holding.digests(arrays))
    for name in (n for n in arrays if n.startswith("detector")):
        np.testing.assert_array_equal(again[name], arrays[name])


def test_what_a_checkpoint_lacks_is_said(trained):
    trainer, frame, setup = trained
    arrays = {n: a for n, a in trainer.arrays().items() if "kernel" not in n}
    with pytest.raises(InputError, match="not in both"):
        list(moving.crates_of(
            setup.recipe, trainer.planner.homes, frame.genome, arrays, np.arange(N)
        ))  # fmt: skip
