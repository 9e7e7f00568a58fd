import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax import fitness
from swarmjax.presets import PRESETS, preset
from swarmjax.types import InputError

nan = np.nan


def test_names_say_the_chain():
    assert preset("swarm").name == (
        "chain(exploit(fraction=0.2, structure='inherit'), "
        "softmax(temperature=0.25, floor=0.0, cap=16.0), perturb(factor=1.2, resample=0.25))"
    )
    assert preset("pbt").name.startswith("chain(exploit(")
    assert preset("random_search").name == "chain(uniform(), random())"
    assert preset("grid_search").name == "chain(uniform(), grid())"
    assert preset("successive_halving").name == (
        "chain(successive_halving(eta=3.0, rungs=None), random())"
    )
    assert preset("pb2").name == (
        "chain(exploit(fraction=0.2, structure='inherit'), uniform(), "
        "bandit(exploration=1.0, window=256))"
    )
    assert preset("regularised_evolution").name == (
        "chain(regularised(fraction=0.1, size=8, mutation=1.0), uniform(), "
        "perturb(factor=1.2, resample=0.25))"
    )
    assert preset("hyperband").name == "chain(hyperband(eta=3.0), random())"


def test_a_goal_goes_to_every_policy_that_takes_one(frames, decide):
    goal = fitness.weighted(valid_gain=1.0)
    gain = {"valid_gain": jnp.array([3.0, 1.0, 4.0, 0.0])}
    frame = frames([0.1, 0.9, 0.1, 0.9], metrics=gain, round=9, remaining=1000)
    plan = decide(preset("swarm", goal), frame)
    assert plan.parent.tolist() == [0, 1, 2, 2]
    assert plan.steps.sum() == 1000 and plan.steps[[2, 3]].min() > 400
    assert decide(preset("pbt", goal), frame).parent[3] == 2
    for name in ("successive_halving", "hyperband", "pb2", "regularised_evolution"):
        assert "goal=weighted(valid_gain=1.0)" in preset(name, goal).name
    assert decide(preset("successive_halving", goal), frame).steps.tolist() == [0, 0, 1000, 0]


def test_a_goal_that_nobody_looks_at_is_refused():
    with pytest.raises(InputError, match="random_search looks at no goal; choose among swarm, pbt"):
        preset("random_search", fitness.default)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("members", [1, 2, 7])
@pytest.mark.parametrize("kind", ["classification", "loss only", "regression"])
def test_every_preset_serves_every_task(frames, decide, name, members, kind):
    for round in (0, 1):
        accuracy = np.linspace(0.3, 0.9, members) if round else np.full(members, nan)
        frame = frames(accuracy, round=round)
        if kind != "classification":
            metrics = {"valid_loss": frame.metrics["valid_loss"]}
            if kind == "regression":
                metrics["valid_r2"] = frame.metrics["valid_accuracy"]
            frame = frame._replace(metrics=metrics)
        assert decide(preset(name), frame).steps.sum() == 1000


@pytest.mark.parametrize("name", [name for name in PRESETS if not preset(name).host])
def test_jit_agrees(frames, assert_jit_agrees, name):
    assert_jit_agrees(preset(name), frames)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_deaths(frames, decide, name):
    frame = frames([0.5, nan, 0.7, nan], alive=[True, False, True, False])
    plan = decide(preset(name), frame)
    assert plan.steps.sum() == 1000
    revived = name in ("swarm", "pbt", "pb2", "regularised_evolution")
    assert ((plan.steps[[1, 3]] > 0) == revived).all()
    assert np.isin(plan.parent[[1, 3]], [0, 2]).all() == revived
    everyone = frames([nan] * 4, alive=[False] * 4)
    plan = decide(preset(name), everyone)
    assert (plan.fresh == revived).all() and plan.steps.sum() == 1000 * revived


def test_swarm_grants_most_to_the_best_and_copies_them(frames, decide):
    plan = decide(preset("swarm"), frames(np.linspace(0.1, 0.9, 10), round=1, quota=1000))
    # The two worst are copies of two of the best.
    assert np.isin(plan.parent[:2], [8, 9]).all() and plan.parent[2:].tolist() == [*range(2, 10)]
    assert plan.steps.sum() == 1000 and (np.diff(plan.steps[2:]) >= 0).all()
    assert plan.steps[plan.parent >= 8].sum() > 900


def test_swarm_pursues_the_goal_it_is_given(frames, decide):
    frame = frames([0.9, 0.5, 0.2, 0.1], round=1, quota=900, remaining=1800)
    rarely = fitness.weighted(valid_accuracy=-1.0)
    steps = decide(preset("swarm", goal=rarely), frame).steps
    assert min(steps[3], steps[0]) > 10 * max(steps[1], steps[2])


def test_unknown_preset_lists_the_known():
    with pytest.raises(InputError, match="did you mean swarm.*swarm, pbt, random_search, grid_"):
        preset("swram")
    with pytest.raises(InputError, match="no policy is called 'zzz'; known: swarm"):
        preset("zzz")
