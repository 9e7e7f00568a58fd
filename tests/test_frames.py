import flax.linen as nn
import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import anomaly, mlp, optimizers
from swarmjax.frames import (
    LaneReport,
    changed,
    first_frame,
    frame_after,
    network_sizes,
    step_costs,
    step_seconds,
)
from swarmjax.lanes import Report
from swarmjax.members import Recipe
from swarmjax.models import flax_family
from swarmjax.policy import keep
from swarmjax.swarm import empty_swarm
from swarmjax.training import probed

SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1),
    activation=sj.choice("relu", "tanh"),
    depth=sj.structure(1, 2),
    width=sj.structure(4, 8),
)
N = 4
GENOME = {
    "learning_rate": np.full(N, 0.01, np.float32),
    "activation": np.zeros(N, np.int32),
    "depth": np.asarray([0, 1, 0, 1], np.int32),
    "width": np.asarray([0, 0, 1, 1], np.int32),
}
X = np.random.default_rng(0).normal(size=(90, 3))
TASK = sj.tasks.arrays(X, (X[:, 0] > 0).astype(int), batch=10)
RECIPE = Recipe(SPACE, mlp.mlp(SPACE, 3, TASK.outputs), optimizers.for_space(SPACE))


class Normed(nn.Module):
    """Dense layers about a normalisation."""

    width: int

    @nn.compact
    def __call__(self, x):
        """Maps `x` to two numbers."""
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(self.width)(x))
        return nn.Dense(2)(x)


def begun():
    """The Frame after a round in which all were evaluated: member `i` shows `0.1 * (i + 1)`."""
    frame = first_frame(RECIPE, TASK, N, GENOME)
    shown = np.asarray([0.1, 0.2, 0.3, 0.4], np.float32)
    metrics = {name: shown for name in frame.metrics}
    zero = np.asarray(100, np.int32)
    return frame._replace(loss=shown, gradient_norm=10 * shown, metrics=metrics, remaining=zero)


def report(losses, finite=True):
    losses = np.asarray(losses, np.float32)
    metrics = {name: losses / 2 for name in ("loss", *TASK.metrics)}
    few = np.clip(losses, 0, 100).astype(np.float16)
    described = np.broadcast_to(few[:, None, None], (len(losses), *probed(TASK)))
    return Report(losses, 3 * losses, metrics, np.full(len(losses), finite), described)


def after(frame, plan, *reports, step=(9, 9, 9, 9), flags=None, measured=None):
    """The Frame after `plan`; `reports` are places and a Report each."""
    swarm = empty_swarm(N)._replace(step=np.asarray(step, np.int32))
    plan, flags = jax.tree.map(np.asarray, plan), anomaly.silent(N) if flags is None else flags
    told = [
        LaneReport(np.asarray(places), report, 2.0, "program", 1.0) for places, report in reports
    ]
    return frame_after(RECIPE, TASK, swarm, plan, frame, told, flags, measured or {})


def with_genes(plan, **genes):
    return plan._replace(genome=plan.genome | {k: np.asarray(v) for k, v in genes.items()})


def test_before_the_first_round_everyone_lives_and_nothing_is_known():
    frame = first_frame(RECIPE, TASK, N, GENOME)
    assert frame.alive.all() and (frame.birth == -1).all() and (frame.lineage == -1).all()
    unknown = (frame.loss, frame.gradient_norm, frame.seconds, *frame.metrics.values())
    assert all(np.isnan(values).all() and values.shape == (N,) for values in unknown)
    assert set(frame.metrics) == {"valid_loss", "valid_accuracy", "valid_dead_units"}
    assert frame.steps.sum() == frame.total_steps.sum() == frame.round == 0


def test_a_step_costs_what_the_own_architecture_needs():
    # Forward and backward, ten examples, three features, two outputs: in -> width (-> width) -> out
    products = [3 * 4 + 4 * 2, 3 * 4 + 4 * 4 + 4 * 2, 3 * 8 + 8 * 2, 3 * 8 + 8 * 8 + 8 * 2]
    assert step_costs(RECIPE, TASK, GENOME).tolist() == [6 * 10 * p for p in products]


def test_sizes_are_those_of_the_networks_that_can_be_taken_out():
    # Features 3, classes 2: in -> width (-> width) -> out, and the biases.
    parameters, size = network_sizes(RECIPE, GENOME)
    expected = [4 * 4 + 5 * 2, 4 * 4 + 5 * 4 + 5 * 2, 4 * 8 + 9 * 2, 4 * 8 + 9 * 8 + 9 * 2]
    assert parameters.tolist() == expected and parameters.dtype == np.int32
    # Weights, two moments of each, and the count of steps.
    assert size.tolist() == [4 * (3 * n + 1) for n in expected] and size.dtype == np.float32
    frame = begun()
    assert frame.parameters.tolist() == expected and frame.bytes.tolist() == size.tolist()
    grown = after(frame, with_genes(keep(frame), depth=np.ones(N, np.int32)))
    assert grown.parameters.tolist() == [46, 46, 122, 122]


def test_every_module_of_ones_own_counts_its_own_weights_and_statistics():
    searched = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(2, 5))
    family = flax_family(searched, Normed, X[:1])
    recipe = Recipe(searched, family, optimizers.for_space(searched))
    genome = {"learning_rate": np.full(2, 0.01, np.float32), "width": np.asarray([1, 0], np.int32)}
    parameters, size = network_sizes(recipe, genome)
    assert parameters.tolist() == [4 * 5 + 2 * 5 + 6 * 2, 4 * 2 + 2 * 2 + 3 * 2]
    # The mean and the variance of every unit are no weights, and have no moments.
    assert size.tolist() == [4 * (3 * 42 + 1 + 2 * 5), 4 * (3 * 18 + 1 + 2 * 2)]


def test_a_lanes_seconds_go_to_its_members_by_work():
    steps, cost = np.asarray([3, 0, 1]), np.asarray([10.0, 10.0, 20.0])
    each = step_seconds(5.0, steps, cost)
    assert each.tolist() == [1.0, 1.0, 2.0] and steps @ each == 5.0
    assert np.isfinite(step_seconds(5.0, np.zeros(3, int), cost)).all()


def test_seconds_are_of_the_last_round_that_a_member_trained_in():
    frame = begun()._replace(seconds=np.asarray([0.5, 0.6, 0.7, 0.8], np.float32))
    parent = np.asarray([0, 1, 1, 3])
    plan = keep(frame)._replace(steps=np.asarray([4, 0, 0, 0], np.int32), parent=parent)
    got = after(frame, plan, ([0, 1, -1], report([1.0, 1.0, 1.0])), step=(9, 9, 9, 0))
    # Two seconds for four steps; copied; never trained.
    np.testing.assert_allclose(got.seconds, [0.5, 0.6, 0.6, np.nan])


def test_totals_become_means_and_the_budget_shrinks_by_the_grants():
    frame = begun()
    plan = keep(frame)._replace(steps=np.asarray([2, 0, 5, 0], np.int32))
    lane = report([4.0, 10.0, 99.0])
    got = after(frame, plan, ([0, 2, -1], lane), step=(2, 0, 5, 7))
    assert got.loss[[0, 2]].tolist() == [2.0, 2.0]
    assert got.gradient_norm[[0, 2]].tolist() == [6.0, 6.0]
    assert got.metrics["valid_loss"][[0, 2]].tolist() == [2.0, 5.0]
    assert (got.round, got.remaining) == (1, 93) and got.total_steps.tolist() == [2, 0, 5, 7]


def test_who_does_nothing_shows_what_it_showed_and_a_place_for_nobody_is_ignored():
    frame = begun()
    got = after(frame, keep(frame), ([-1, -1], report([7.0, 8.0], finite=False)))
    for new, old in ((got.loss, frame.loss), (got.metrics["valid_loss"], frame.loss)):
        assert new.tolist() == old.tolist()
    assert got.alive.all()


def test_an_untrained_network_has_no_training_loss():
    frame = begun()
    plan = keep(frame)._replace(fresh=np.asarray([False, True, False, False]))
    got = after(frame, plan, ([1], report([0.0])), step=(5, 0, 5, 5))
    assert np.isnan(got.loss).tolist() == np.isnan(got.gradient_norm).tolist()
    assert np.isnan(got.loss).tolist() == [False, True, False, False]
    assert got.metrics["valid_loss"][1] == 0.0


def test_a_copy_shows_its_parents_scores_and_a_fresh_one_its_slots():
    frame = begun()._replace(alive=np.asarray([True, True, True, False]))
    parent, fresh = np.asarray([3, 1, 0, 0]), np.asarray([False, False, False, True])
    got = after(frame, keep(frame)._replace(parent=parent, fresh=fresh))
    np.testing.assert_array_equal(got.loss, frame.loss[[3, 1, 0, 3]])
    assert got.alive.tolist() == [False, True, True, False]


def test_death_and_revival_follow_the_report():
    frame = begun()._replace(alive=np.asarray([True, True, False, False]))
    plan = keep(frame)._replace(steps=np.ones(N, np.int32))
    got = after(frame, plan, ([0], report([1.0], finite=False)), ([2, 3], report([1.0, 1.0])))
    assert got.alive.tolist() == [False, True, True, True]


def test_alarms_are_those_of_the_round():
    frame = begun()
    plan = keep(frame)._replace(steps=np.ones(N, np.int32))
    got = after(frame, plan, ([0], report([1.0], finite=False)), ([1, 2, 3], report([1, 1, 1e6])))
    alarms = [anomaly.bits(["nonfinite"]), 0, 0, anomaly.bits(["outlier"])]
    assert got.alarm.tolist() == alarms and not frame.alarm.any()
    assert not after(got, keep(got)).alarm[1:].any()


def test_frames_before_are_not_written_into():
    frame = begun()
    after(frame, keep(frame)._replace(steps=np.ones(N, np.int32)), ([0], report([5.0])))
    assert frame.loss[0] == np.float32(0.1) and frame.metrics["valid_loss"][0] == np.float32(0.1)


@pytest.mark.parametrize(
    ("change", "who"),
    [
        (lambda plan: plan, []),
        (lambda plan: plan._replace(parent=np.asarray([0, 0, 2, 3])), [1]),
        (lambda plan: plan._replace(fresh=np.arange(N) == 2), [2]),
        (lambda plan: with_genes(plan, activation=[0, 1, 0, 0]), [1]),
        (lambda plan: with_genes(plan, depth=[1, 1, 0, 1], width=[0, 0, 0, 1]), [0, 2]),
        (lambda plan: with_genes(plan, learning_rate=np.full(N, 0.05, np.float32)), []),
    ],
)
def test_only_what_changes_a_networks_outputs_counts_as_a_change(change, who):
    frame = begun()
    assert np.flatnonzero(changed(RECIPE, change(keep(frame)), frame)).tolist() == who


def test_descriptors_follow_the_networks_and_alarms_of_steps_are_shown():
    frame = begun()
    assert np.isnan(frame.descriptor).all() and frame.descriptor.shape == (N, *probed(TASK))
    raised = anomaly.silent(N)
    raised = raised._replace(alarm=np.asarray([0, anomaly.bits(["spike"]), 0, 0], np.int32))
    got = after(frame, keep(frame), ([0, 1, -1], report([1.0, 2.0, 9.0])), flags=raised)
    assert (got.descriptor[0] == 1.0).all() and (got.descriptor[1] == 2.0).all()
    assert np.isnan(got.descriptor[2:]).all()
    assert got.alarm.tolist() == raised.alarm.tolist()
    copied = after(got, keep(got)._replace(parent=np.asarray([1, 1, 2, 3])))
    assert (copied.descriptor[0] == 2.0).all()
    late = after(frame, keep(frame), flags=raised, measured={"slow": np.array([0, 5.0, 4.0, 7.0])})
    slow = anomaly.bits(["slow"])
    assert late.alarm.tolist() == [0, raised.alarm[1] | slow, 0, slow]
