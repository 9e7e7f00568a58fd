import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax.presets import PRESETS, preset
from swarmjax.types import InputError

nan = np.nan


def test_names_say_the_chain():
    assert preset("swarm").name == (
        "chain(exploit(fraction=0.2, structure='inherit'), "
        "proportional(accuracy=0.7, efficiency=0.3), perturb(factor=1.2, resample=0.25))"
    )
    assert preset("pbt").name.startswith("chain(exploit(")
    assert preset("random_search").name == "chain(uniform(), random())"
    assert preset("grid_search").name == "chain(uniform(), grid())"


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


@pytest.mark.parametrize("name", PRESETS)
def test_jit_agrees(frames, assert_jit_agrees, name):
    assert_jit_agrees(preset(name), frames)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_deaths(frames, decide, name):
    frame = frames([0.5, nan, 0.7, nan], alive=[True, False, True, False])
    plan = decide(preset(name), frame)
    assert plan.steps.sum() == 1000
    revived = "exploit" in preset(name).name
    assert ((plan.steps[[1, 3]] > 0) == revived).all()
    assert np.isin(plan.parent[[1, 3]], [0, 2]).all() == revived
    everyone = frames([nan] * 4, alive=[False] * 4)
    plan = decide(preset(name), everyone)
    assert (plan.fresh == revived).all() and plan.steps.sum() == 1000 * revived


def test_swarm_grants_more_to_the_better_of_equally_costly(frames, decide):
    steps = decide(preset("swarm"), frames([0.2, 0.4, 0.6, 0.8])).steps
    # The worst slot will hold a copy of the best.
    assert steps[1] < steps[2] < steps[3] and abs(steps[3] - steps[0]) <= 1


def test_swarm_grants_more_to_the_cheaper_of_equally_good(frames, decide):
    frame = frames([0.5, 0.5, 0.5, 0.1], cost=jnp.array([1e6, 1e3, 1e6, 1e6]))
    steps = decide(preset("swarm"), frame).steps
    assert steps[1] > steps[0]


def test_unknown_preset_lists_the_known():
    with pytest.raises(InputError, match="did you mean swarm.*swarm, pbt, random_search, grid_"):
        preset("swram")
    with pytest.raises(InputError, match="no policy is called 'zzz'; known: swarm"):
        preset("zzz")
