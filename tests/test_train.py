import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import lanes, mlp, optimizers, stacks
from swarmjax.cohorts import Costs
from swarmjax.compiling import Programs, Watch
from swarmjax.crossover import OPERATORS
from swarmjax.frames import first_frame
from swarmjax.members import Recipe
from swarmjax.planner import Choices
from swarmjax.policy import keep
from swarmjax.train import LocalTrainer

SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1),
    activation=sj.choice("relu", "tanh"),
    width=sj.structure(4, 8),
)
N = 6


@pytest.fixture(scope="module")
def task():
    x = np.random.default_rng(0).normal(size=(90, 4))
    return sj.tasks.arrays(x, (x[:, 0] > 0).astype(int), batch=16)


@pytest.fixture(scope="module")
def recipe(task):
    return Recipe(SPACE, mlp.mlp(SPACE, 4, task.outputs), optimizers.for_space(SPACE))


@pytest.fixture
def begun(recipe, task):
    """A trainer after a first round of six steps each, its Frame, and what it reported."""
    told = []
    trainer = LocalTrainer(recipe, task, members=N, budget=600, seed=0, report=told.append)
    frame = first_frame(recipe, task, N, SPACE.sample(jax.random.key(0), N))
    frame = frame._replace(remaining=np.asarray(600, np.int32))
    plan = keep(frame)._replace(fresh=np.ones(N, bool), steps=np.full(N, 6, np.int32))
    return trainer, trainer.round(plan, frame), told


def test_the_first_frame_knows_no_score_and_no_birth(recipe, task):
    frame = first_frame(recipe, task, N, SPACE.sample(jax.random.key(0), N))
    assert np.isnan(frame.metrics["valid_accuracy"]).all() and frame.alive.all()
    assert (frame.birth == -1).all() and frame.round == 0


def test_cost_is_that_of_the_members_own_architecture(recipe, task):
    genome = SPACE.sample(jax.random.key(0), N) | {"width": np.asarray([0, 1] * 3)}
    frame = first_frame(recipe, task, N, genome)
    # forward and backward, 4 -> width -> width -> 2, sixteen examples
    flops = [6 * 16 * (4 * w + w * w + 2 * w) for w in (4, 8)]
    assert frame.cost.tolist() == flops * 3


def test_a_round_counts_steps_births_and_budget(begun):
    _, frame, told = begun
    assert frame.round == 1 and frame.remaining == 600 - 36
    assert (frame.seconds > 0).all()
    assert frame.steps.tolist() == frame.total_steps.tolist() == [6] * N
    assert frame.birth.tolist() == list(range(N)) and frame.alive.all()
    assert "2 architectures share 1 compiled program:" in told[0] and "8 of 8 CPU" in told[1]
    assert "compiling a program for networks padded to depth 2, width 8" in told[2]


def test_members_without_steps_show_what_they_showed(begun):
    trainer, frame, _ = begun
    steps = np.asarray([5, 0, 0, 0, 0, 0], np.int32)
    after = trainer.round(keep(frame)._replace(steps=steps), frame)
    assert after.loss[0] != frame.loss[0]
    for field in (after.loss, *after.metrics.values()), (frame.loss, *frame.metrics.values()):
        assert len(field) == 4
    assert (after.loss[1:] == frame.loss[1:]).all()
    assert all((after.metrics[k][1:] == frame.metrics[k][1:]).all() for k in frame.metrics)
    assert after.total_steps.tolist() == [11, 6, 6, 6, 6, 6]


def test_a_copy_without_steps_shows_its_parents_scores(begun):
    trainer, frame, _ = begun
    genome = {name: np.asarray(v).copy() for name, v in frame.genome.items()}
    for values in genome.values():
        values[1] = values[4]
    parent = np.asarray([0, 4, 2, 3, 4, 5], np.int32)
    after = trainer.round(keep(frame)._replace(parent=parent, genome=genome), frame)
    assert after.metrics["valid_loss"][1] == frame.metrics["valid_loss"][4]
    assert after.birth.tolist() == [0, 6, 2, 3, 4, 5] and after.lineage[1] == 4


def test_a_fresh_network_without_steps_has_scores_but_no_training_loss(begun):
    trainer, frame, _ = begun
    after = trainer.round(keep(frame)._replace(fresh=np.arange(N) == 3), frame)
    assert np.isnan([after.loss[3], after.gradient_norm[3]]).all()
    assert np.isfinite(after.metrics["valid_loss"]).all() and after.total_steps[3] == 0


def test_a_changed_activation_is_evaluated_without_a_step(begun):
    trainer, frame, _ = begun
    genome = {name: np.asarray(v).copy() for name, v in frame.genome.items()}
    genome["activation"] = 1 - genome["activation"]
    after = trainer.round(keep(frame)._replace(genome=genome), frame)
    assert (after.metrics["valid_loss"] != frame.metrics["valid_loss"]).all()
    assert (after.loss == frame.loss).all()


def test_a_network_is_a_copy_that_later_rounds_do_not_touch(begun):
    trainer, frame, _ = begun
    taken = trainer.network(2, frame.genome)
    before = jax.tree.map(np.copy, taken.member)
    trainer.round(keep(frame)._replace(steps=np.full(N, 3, np.int32)), frame)
    jax.tree.map(np.testing.assert_array_equal, before, taken.member)
    now = trainer.network(2, frame.genome)
    assert not np.array_equal(
        now.member.variables["params"]["head"]["kernel"],
        taken.member.variables["params"]["head"]["kernel"],
    )


@pytest.mark.parametrize("storage", ["device", "host"])
def test_many_networks_come_in_few_copies_of_lanes_bit_for_bit(recipe, task, storage, monkeypatch):
    """Two containers of twelve members each; a lane holds eight of each of the devices."""
    apart = Choices(Costs(compile_seconds=0.0, flops_per_second=1.0), devices=1)
    trainer = LocalTrainer(
        recipe, task, members=24, budget=600, seed=0, storage=storage, choices=apart
    )
    genome = SPACE.draw(0, 24) | {"width": np.asarray([0, 1] * 12, np.int32)}
    frame = first_frame(recipe, task, 24, genome)._replace(remaining=np.asarray(600, np.int32))
    plan = keep(frame)._replace(fresh=np.ones(24, bool), steps=np.arange(24, dtype=np.int32))
    frame = trainer.round(plan, frame)
    one_by_one = {slot: trainer.network(slot, frame.genome) for slot in range(24)}
    copies, take = [], stacks.take
    monkeypatch.setattr(
        stacks, "take", lambda *given, **more: copies.append(1) or take(*given, **more)
    )
    with Watch() as watch:
        several = dict(trainer.networks([23, *range(23)], frame.genome))
    assert watch.programs == Programs() and set(several) == set(range(24))
    for slot, network in several.items():
        jax.tree.map(np.testing.assert_array_equal, network, one_by_one[slot])
        assert type(network.member.step) is np.ndarray and network.member.step == slot
        assert network.genome["width"] == slot % 2
    assert {network.container.width for network in several.values()} == {4, 8}
    lane = trainer.planner.store.lane
    assert lane in (8, 16) and len(copies) == 2 * -(-12 // lane)
    copies.clear()
    assert list(trainer.networks([], frame.genome)) == [] and not copies


def test_later_rounds_compile_nothing_whatever_the_plan(recipe, task):
    """Other genes, grants from none to more than a deck, copies, fresh networks, devices."""
    trainer = LocalTrainer(recipe, task, members=N, budget=10_000, seed=0)
    genome = SPACE.draw(0, N) | {"width": np.asarray([0, 1] * 3, np.int32)}
    frame = first_frame(recipe, task, N, genome)._replace(remaining=np.asarray(10_000, np.int32))

    def train(steps=(2,) * N, parent=range(N), fresh=(), devices=(1,) * N, **genes):
        nonlocal frame
        plan = keep(frame)._replace(
            steps=np.asarray(steps, np.int32), parent=np.asarray(parent, np.int32),
            fresh=np.isin(np.arange(N), fresh), devices=np.asarray(devices, np.int32),
        )  # fmt: skip
        inherited = {k: np.asarray(v)[plan.parent] for k, v in frame.genome.items()}
        frame = trainer.round(plan._replace(genome=inherited | genes), frame)
        return frame

    train(fresh=range(N))
    train(parent=[1, 1, 2, 3, 4, 5], devices=[1, 2, 1, 1, 1, 1], width=genome["width"])
    # Two that have two devices each cannot both stay at home: that is a program more.
    train(devices=[1, 2, 1, 1, 2, 1])
    with Watch() as watch:
        train(learning_rate=np.full(N, 0.02, np.float32), activation=1 - genome["activation"])
        train(steps=[0, 1, 3, lanes.DECK + 7, 0, 2])
        train(steps=[0] * N)
        train(parent=[1, 0, 3, 3, 4, 4], fresh=[2])
        train(fresh=[0, 1, 5], parent=[0, 1, 2, 4, 4, 5], width=1 - genome["width"])
        train(steps=[1, 9, 1, 1, 1, 1], devices=[1, 2, 1, 1, 2, 1])
        train(devices=[1] * N)
        trainer.network(3, frame.genome)
    assert watch.programs == Programs()
    assert frame.round == 10 and frame.birth.max() == N - 1 + 1 + 4 + 4


def test_detectors_follow_copies_and_forget_where_weights_are_new(begun):
    trainer, frame, _ = begun
    plan = keep(frame)._replace(
        parent=np.asarray([1, 1, 2, 3, 4, 5], np.int32),
        fresh=np.asarray([False, False, True, False, False, False]),
        operator=np.asarray([0, 0, 0, OPERATORS.index("shrink"), 0, 0], np.int32),
        steps=np.asarray([2, 0, 3, 4, 5, 0], np.int32),
    )
    trainer.round(plan, frame)
    assert trainer._detector.count.tolist() == [6 + 2, 6, 3, 4, 6 + 5, 6]


def test_promising_members_may_have_several_devices(recipe, task, begun):
    """Batches split over 2, 4 and 8 devices give the weights of one, up to rounding."""
    _, frame, _ = begun

    def twice(devices):
        told = []
        trainer = LocalTrainer(recipe, task, members=N, budget=600, seed=0, report=told.append)
        first = first_frame(recipe, task, N, frame.genome)
        first = first._replace(remaining=np.asarray(600, np.int32))
        plan = keep(first)._replace(fresh=np.ones(N, bool), steps=np.full(N, 6, np.int32))
        after = trainer.round(plan._replace(devices=np.asarray(devices, np.int32)), first)
        copies = keep(after)._replace(
            parent=np.asarray([3, 1, 2, 3, 4, 5], np.int32), steps=np.full(N, 5, np.int32),
            devices=np.asarray(devices[::-1], np.int32),
            genome={k: np.asarray(v)[[3, 1, 2, 3, 4, 5]] for k, v in after.genome.items()},
        )  # fmt: skip
        after = trainer.round(copies, after)
        return [trainer.weights(i) for i in range(N)], after, told

    alone, expected, _ = twice([1] * N)
    several, got, told = twice([1, 2, 4, 8, 3, 1])
    assert sum("each on" in line for line in told) == 3
    for a, b in zip(alone, several, strict=True):
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b)
    np.testing.assert_allclose(got.loss, expected.loss, rtol=1e-4)
    assert got.total_steps.tolist() == expected.total_steps.tolist() == [11] * N
