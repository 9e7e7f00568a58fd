import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from swarmjax.allocate import integer_shares, proportional, softmax, uniform
from swarmjax.fitness import weighted
from swarmjax.policy import keep
from swarmjax.types import InputError

nan, inf = np.nan, np.inf
POLICIES = [
    proportional(accuracy=0.7, efficiency=0.3),
    proportional(valid_loss=1.0),
    softmax(),
    softmax(temperature=0.01, floor=0.0),
    uniform(),
]

# Few sizes, because each one compiles anew.
weights = st.sampled_from([1, 2, 3, 17]).flatmap(
    lambda n: arrays(np.float32, n, elements=st.floats(0, 1, width=32))
)


def normalised(weight):
    whole = np.float64(weight).sum()
    return np.float32(weight / whole) if whole > 0 else weight


def total_of(steps):
    return int(np.asarray(steps).sum(dtype=np.int64))


@pytest.mark.parametrize(
    ("probabilities", "total", "expected"),
    [
        ([0.5, 0.3, 0.2], 10, [5, 3, 2]),
        ([0.5, 0.25, 0.25], 3, [1, 1, 1]),
        ([0.45, 0.45, 0.1], 1, [1, 0, 0]),
        ([1 / 3, 1 / 3, 1 / 3], 100, [34, 33, 33]),
        ([0.0, 1.0], 7, [0, 7]),
        ([0.0, 0.0], 7, [0, 0]),
        ([1.0], 2**31 - 1, [2**31 - 1]),
        ([0.25] * 4, 10_000_001, [2_500_001, 2_500_000, 2_500_000, 2_500_000]),
    ],
)
def test_integer_shares_by_hand(probabilities, total, expected):
    assert integer_shares(jnp.array(probabilities), total).tolist() == expected


@given(weights, st.integers(0, 2**31 - 1))
def test_shares_sum_to_the_total_and_stay_near_the_ideal(weight, total):
    p = normalised(weight)
    share = np.asarray(integer_shares(p, total), np.int64)
    assert share.sum() == (total if p.any() and np.round(p * 2**29).any() else 0)
    assert (share >= 0).all()
    assert not share[p == 0].any()
    whole = max(np.float64(p).sum(), 1e-30)
    # One step of rounding, and the probability's own resolution.
    assert (abs(share - np.float64(p) / whole * total) <= 1 + total * 2.0**-28).all()


@given(weights, st.integers(0, 10_000_000))
def test_a_higher_probability_never_gets_less(weight, total):
    p = normalised(weight)
    share = np.asarray(integer_shares(p, total))
    assert (np.diff(share[np.argsort(-p, kind="stable")]) <= 0).all()


def test_shares_of_a_large_swarm_and_quota_are_exact():
    p = np.random.default_rng(0).pareto(1.0, 10_000).astype(np.float32)
    assert total_of(integer_shares(p / p.sum(), 9_999_991)) == 9_999_991


def test_proportional_is_the_specification(frames, decide):
    frame = frames([0.5, 0.8, 0.7], cost=[1e6, 4e6, 2e6], quota=1000)
    efficiency = np.array([0.5, 0.2, 0.35]) / 0.5
    score = 0.7 * np.array([0.5, 0.8, 0.7]) + 0.3 * efficiency
    ideal = score / score.sum() * 1000
    granted = decide(proportional(accuracy=0.7, efficiency=0.3), frame).steps
    assert granted.sum() == 1000
    assert (abs(granted - ideal) < 1).all()


def test_proportional_counts_negative_fitness_as_none(frames, decide):
    frame = frames([0.0, 0.0, 0.0], metrics={"valid_gain": jnp.array([-5.0, 1.0, 3.0])})
    assert decide(proportional(valid_gain=1.0), frame).steps.tolist() == [0, 250, 750]


def test_softmax_by_hand(frames, decide):
    gain = np.array([1.0, 2.0, 3.0])
    frame = frames([0.0] * 3, metrics={"valid_gain": jnp.asarray(gain, jnp.float32)}, quota=9000)
    policy = softmax(temperature=2.0, floor=0.25, goal=weighted(valid_gain=1.0))
    share = np.exp((gain - gain.mean()) / gain.std() / 2.0)
    ideal = 9000 * (0.25 / 3 + 0.75 * share / share.sum())
    assert (abs(decide(policy, frame).steps - ideal) <= 1).all()
    assert policy.name == "softmax(temperature=2.0, floor=0.25, goal=weighted(valid_gain=1.0))"


def test_softmax_extremes(frames, decide):
    frame = frames([0.1, 0.9, 0.5, nan], alive=[True, True, True, False])
    assert decide(softmax(floor=1.0), frame).steps.tolist() == [334, 333, 333, 0]
    assert decide(softmax(temperature=1e-3, floor=0.0), frame).steps.tolist() == [0, 1000, 0, 0]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_jit_agrees(frames, assert_jit_agrees, policy):
    assert_jit_agrees(policy, frames)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_no_information_is_shared_equally(frames, decide, policy):
    unknown = frames([nan] * 3, round=0)
    assert decide(policy, unknown).steps.tolist() == [334, 333, 333]
    tied = frames([0.1] * 3, metrics=dict.fromkeys(("valid_accuracy", "valid_loss"), jnp.zeros(3)))
    assert decide(policy, tied).steps.tolist() == [334, 333, 333]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_the_dead_get_nothing(frames, decide, policy):
    frame = frames([0.9, nan, 0.9, inf], alive=[True, False, True, False])
    assert decide(policy, frame).steps.tolist() == [500, 0, 500, 0]
    assert decide(policy, frames([nan, nan], alive=[False, False])).steps.tolist() == [0, 0]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
@pytest.mark.parametrize("accuracy", [[0.3], [nan], [0.0], [0.2, 0.8]])
def test_small_swarms_get_the_whole_quota(frames, decide, policy, accuracy):
    assert decide(policy, frames(accuracy, quota=10_000_001)).steps.sum() == 10_000_001
    assert decide(policy, frames(accuracy, quota=0)).steps.sum() == 0


def test_an_unevaluated_member_counts_as_average(frames, decide):
    frame = frames([0.2, 0.4, nan])
    assert decide(proportional(accuracy=1.0), frame).steps.tolist() == [222, 445, 333]


def test_grants_follow_the_network_that_will_be_in_the_slot(frames, decide):
    frame = frames([0.2, 0.6, nan, nan], alive=[True, True, False, False])
    parent = jnp.array([0, 1, 1, 3], jnp.int32)
    fresh = jnp.array([False, False, False, True])
    plan = keep(frame)._replace(parent=parent, fresh=fresh)
    # The fresh one counts as an average of 0.2, 0.6 and 0.6.
    granted = decide(proportional(accuracy=1.0), frame, plan=plan).steps
    assert granted.tolist() == [107, 322, 321, 250]


@given(
    arrays(np.float32, 5, elements=st.floats(width=32)),
    st.lists(st.booleans(), min_size=5, max_size=5),
    st.integers(0, 10_000_000),
    st.sampled_from([proportional(valid_x=1.0), softmax(goal=weighted(valid_x=-1.0)), uniform()]),
)
def test_whatever_the_metrics_the_living_share_the_quota(frames, score, alive, quota, policy):
    metrics = {"valid_x": jnp.asarray(score)}
    frame = frames([0.0] * 5, metrics=metrics, alive=alive, quota=quota)
    plan, _ = jax.jit(policy.update)(jax.random.key(0), keep(frame), frame, ())
    assert total_of(plan.steps) == (quota if any(alive) else 0)
    assert not np.asarray(plan.steps)[~np.array(alive)].any()
    assert (np.asarray(plan.steps) >= 0).all()


@pytest.mark.parametrize("make", [lambda: softmax(0.0), lambda: softmax(nan), lambda: softmax(-1)])
def test_bad_temperature(make):
    with pytest.raises(InputError, match="temperature > 0"):
        make()


@pytest.mark.parametrize("floor", [-0.1, 1.1, nan])
def test_bad_floor(floor):
    with pytest.raises(InputError, match="floor between 0 and 1"):
        softmax(floor=floor)
