import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import dials
from swarmjax.chains import trace
from swarmjax.policy import keep

EASY, HARD = sj.weighted(accuracy=0.7, efficiency=0.3), sj.weighted(accuracy=0.2, efficiency=0.9)
PARENTS = sj.exploit(0.4)
# How a policy is made, and with other numbers; and the dials that turn one into the other.
PAIRS = [
    (sj.softmax(goal=EASY), sj.softmax(goal=HARD), {"goal.accuracy": 0.2, "goal.efficiency": 0.9}),
    (sj.softmax(), sj.softmax(0.25, 0.5), {"softmax.temperature": 0.25, "softmax.floor": 0.5}),
    (sj.allocate.rank(), sj.allocate.rank(1.75), {"rank.pressure": 1.75}),
    (PARENTS, sj.exploit(0.2), {"exploit.fraction": 0.2}),
    (
        sj.chain(PARENTS, sj.perturb()),
        sj.chain(PARENTS, sj.perturb(2.0, 0.5)),
        {"perturb.factor": 2.0, "perturb.resample": 0.5},
    ),
    (
        sj.chain(PARENTS, sj.resample(0.1)),
        sj.chain(PARENTS, sj.resample(0.9)),
        {"resample.probability": 0.9},
    ),
]
PAIRS = [pytest.param(*pair, id=next(iter(pair[2]))) for pair in PAIRS]
ACCURACY = np.random.default_rng(5).random(20)


def planned(policy, frame):
    return jax.device_get(policy.update(jax.random.key(3), keep(frame), frame, policy.init(frame)))


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    # The last bit differs where arithmetic on a number was done before it became float32.
    return all(np.allclose(x, y, rtol=1e-6, atol=0) for x, y in pairs)


def found(policy, frame):
    return {
        name: d for leaf in policy.links or [policy] for name, d in trace(leaf, frame).dials.items()
    }


@pytest.mark.parametrize(("made", "other", "values"), PAIRS)
def test_turning_dials_equals_making_the_policy_so(made, other, values, frames):
    frame = frames(ACCURACY, cost=np.linspace(1e5, 1e6, 20))
    resting = dials.at_rest(found(made, frame))
    assert set(values) <= set(resting)
    at_rest = planned(made, frame._replace(dials=resting))
    turned = planned(made, frame._replace(dials=dials.turned(resting, values)))
    assert same(at_rest, planned(made, frame)) and same(turned, planned(other, frame))
    assert not same(turned, at_rest)


@pytest.mark.parametrize(("made", "other", "values"), PAIRS)
def test_what_a_dial_was_made_with_lies_within_its_bounds(made, other, values, frames):
    for policy in (made, other):
        for name, each in found(policy, frames(ACCURACY)).items():
            assert each.low <= each.value <= each.high
            if policy is other and name in values:
                assert each.value == values[name]


def test_turning_a_dial_compiles_nothing(frames):
    policy, traced = sj.softmax(), []

    @jax.jit
    def decide(frame):
        traced.append(1)
        return policy.update(jax.random.key(0), keep(frame), frame, ())[0].steps

    frame = frames(ACCURACY)
    resting = dials.at_rest(found(policy, frame))
    grants = [
        decide(frame._replace(dials=dials.turned(resting, {"softmax.temperature": heat})))
        for heat in (None, 0.1, 10.0)
    ]
    assert len(traced) == 1
    assert not np.array_equal(grants[1], grants[2])
    assert np.array_equal(grants[0], decide(frame._replace(dials=resting)))


def test_none_puts_a_dial_back():
    resting = dials.at_rest({"a": dials.Dial(1.0, 0.0, 2.0), "b": dials.Dial(1.0, 0.0, 2.0)})
    moved = dials.turned(resting, {"a": 2.0})
    assert moved["a"] == 2.0 and np.isnan(moved["b"])
    assert np.isnan(dials.turned(moved, {"a": None})["a"])


def test_a_run_finds_the_numbers_of_all_its_policies(tmp_path):
    from swarmjax.experiment import check

    policy = sj.chain(sj.exploit(), sj.proportional(accuracy=0.7, efficiency=0.3), sj.perturb())
    setup = check(sj.Experiment(task="spirals", policy=policy, directory=tmp_path / "run"))
    assert set(setup.dials) == {
        "exploit.fraction", "goal.accuracy", "goal.efficiency", "perturb.factor", "perturb.resample"
    }  # fmt: skip
    assert setup.dials["goal.accuracy"].value == 0.7
