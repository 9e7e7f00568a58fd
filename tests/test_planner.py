from functools import partial

import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import following, lanes, mlp, optimizers
from swarmjax.cohorts import Costs
from swarmjax.members import Recipe
from swarmjax.mlp import Box
from swarmjax.planner import Choices, Planner
from swarmjax.types import InputError

SPACE = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(4, 64))
N = 24
WIDTH = np.repeat(np.asarray([0, 1], np.int32), N // 2)
# So cheap a compilation that no two architectures share a program.
APART = Choices(Costs(compile_seconds=0.0, flops_per_second=1.0))


@pytest.fixture
def begin():
    """A planner, and the lines that it tells."""
    x = np.random.default_rng(0).normal(size=(90, 4))
    task = sj.tasks.arrays(x, (x[:, 0] > 0).astype(int), batch=16)

    def planner(choices=APART, space=SPACE):
        recipe = Recipe(space, mlp.mlp(space, 4, task.outputs), optimizers.for_space(space))
        key, deck = jax.random.key(0), partial(lanes.make_deck, task, 0, 0)
        engine, told = lanes.Engine(recipe, task, key, (task.train, task.valid), deck), []
        return Planner(engine, N, 100 * N, "auto", choices, 1.0, True, told.append), told

    return planner


def genome(width=WIDTH):
    return {"learning_rate": np.full(N, 0.01, np.float32), "width": width}


def test_every_architecture_has_a_container_and_a_program_of_its_own(begin):
    planner, told = begin()
    planner.prepare(genome())
    assert sorted(planner.homes.containers.values()) == [Box(2, 4), Box(2, 64)]
    assert sum(line.startswith("compiling") for line in told) == 2
    for container in planner.homes.containers.values():
        planner.wait(container)
        assert not planner.retired(container)


def test_what_is_decided_is_decided_again_for_other_architectures_alone(begin):
    planner, told = begin()
    planner.prepare(genome())
    before = len(told)
    planner.prepare(genome())
    assert len(told) == before
    planner.prepare(genome(np.zeros(N, np.int32)))
    assert len(told) > before and list(planner.homes.containers.values()) == [Box(2, 4)]


def test_a_layout_is_made_and_told_once(begin):
    planner, told = begin(APART._replace(chunks={str(Box(2, 4)): 2}))
    planner.prepare(genome())
    one, before = planner.layout(Box(2, 4), 1, genome()), len(told)
    assert one.chunk == 2 and one.mesh.shape["batch"] == 1
    assert planner.layout(Box(2, 4), 1, genome()) is one and len(told) == before
    shared = planner.layout(Box(2, 4), 2, genome())
    assert shared.chunk == 1 and shared.mesh.shape["batch"] == 2 and len(told) == before + 1


def test_a_program_that_fails_is_told_of_and_used_no_more(begin):
    planner, told = begin()
    planner.failed[Box(2, 4)] = "no such instruction"
    assert not planner.retired(Box(2, 4))
    planner.retire()
    assert planner.retired(Box(2, 4)) and not planner.retired(Box(2, 64))
    assert planner.choices.retired == (str(Box(2, 4)),) and planner.failed == {}
    assert len(told) == 1 and "no such instruction" in told[0]
    planner.retire()
    assert len(told) == 1
    assert Choices.from_json(planner.choices.to_json()) == planner.choices


@pytest.mark.parametrize(
    ("even", "depths", "chunk"),
    [(True, (1, 2), 8), (False, (1, 2), 1), (False, (2,), 2), (True, (2,), 8)],
)
def test_few_train_together_where_some_train_longer_or_are_deeper(begin, even, depths, chunk):
    depth = sj.structure(*depths)
    planner, _ = begin(APART._replace(even=even), space=sj.Space(**dict(SPACE.genes), depth=depth))
    genes = genome() | {"depth": np.zeros(N, np.int32)}
    planner.prepare(genes)
    container = next(iter(planner.homes.containers.values()))
    assert planner.layout(container, 1, genes).chunk == chunk


def test_fewer_devices_hold_data_and_members_if_that_was_chosen(begin):
    planner, _ = begin(APART._replace(devices=2))
    planner.prepare(genome())
    assert planner.mesh.size == planner.store.mesh.size == 2
    held = jax.tree.leaves(planner.engine.data)[0].sharding.device_set
    assert held == set(planner.mesh.devices.flat)


@pytest.mark.parametrize(
    "damaged",
    [
        {}, {"costs": {"speed": 1}, "chunks": {}}, {"costs": {}, "chunks": 3}, [1],
        *({"costs": {}, "chunks": {}, "devices": wrong} for wrong in (0, "2", True, 1.0)),
        *({"costs": {}, "chunks": {}, "even": wrong} for wrong in (0, None, "yes")),
        *({"costs": {}, "chunks": {}, "follows": wrong} for wrong in (0, None, "yes")),
    ],
)  # fmt: skip
def test_damaged_choices_are_refused_in_a_line(damaged):
    whole = Choices(chunks={"Box": 2}, devices=1, even=False)
    # As the first versions wrote it.
    assert Choices.from_json({"costs": {}, "chunks": {}}) == Choices(follows=False)
    assert Choices.from_json(whole.to_json()) == whole
    with pytest.raises(InputError, match="damaged"):
        Choices.from_json(damaged)


# So dear a compilation that two architectures share a program, until one of them is gone.
TOGETHER = Costs(compile_seconds=1.3, flops_per_second=1e9, step_seconds=0.0)


def test_programs_follow_a_swarm_of_few_architectures(begin, monkeypatch):
    monkeypatch.setattr(following, "MARGIN", 1.0)
    planner, told = begin(Choices(TOGETHER))
    planner.prepare(genome())
    assert list(planner.homes.known) == [Box(2, 64)]
    small, steps = genome(np.zeros(N, np.int32)), np.full(N, 10)
    planner.follow(genome(), steps)
    before = len(told)
    planner.follow(small, steps)
    assert planner.containers(small) == {(("width", 4),): Box(2, 4)}
    # Who comes back goes where there is a program.
    assert set(planner.containers(genome()).values()) == {Box(2, 4), Box(2, 64)}
    assert "1 architecture trains on: 1 new program" in told[before]
    assert "padded to depth 2, width 4, trained" in told[before + 1] and len(told) == before + 2
    layout = planner.layout(Box(2, 4), 1, small)
    assert layout.chunk == planner.layout(Box(2, 64), 1, small).chunk and len(told) == before + 2
    planner.wait(Box(2, 4))


def test_a_run_of_an_earlier_version_keeps_its_programs(begin, monkeypatch):
    monkeypatch.setattr(following, "MARGIN", 1.0)
    planner, _ = begin(Choices(TOGETHER, follows=False))
    planner.prepare(genome())
    small = genome(np.zeros(N, np.int32))
    for _ in range(3):
        planner.follow(small, np.full(N, 10))
    assert planner.containers(small) == {(("width", 4),): Box(2, 64)}
