import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from swarmjax.allocate import (
    devices,
    integer_shares,
    proportional,
    rank,
    softmax,
    uniform,
    with_floor,
)
from swarmjax.fitness import weighted
from swarmjax.policy import keep
from swarmjax.types import InputError

nan, inf = np.nan, np.inf
POLICIES = [
    proportional(accuracy=0.7, efficiency=0.3),
    proportional(valid_loss=1.0),
    softmax(),
    softmax(temperature=0.01, floor=0.0),
    softmax(temperature=0.1, floor=0.0, cap=1.5),
    rank(),
    rank(pressure=2.0),
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
    assert policy.name == (
        "softmax(temperature=2.0, floor=0.25, cap=16.0, goal=weighted(valid_gain=1.0))"
    )


def test_proportional_takes_any_goal(frames, decide):
    policy = proportional(weighted(accuracy=1.0))
    assert decide(policy, frames([0.25, 0.75])).steps.tolist() == [250, 750]
    assert policy.name == "proportional(weighted(accuracy=1.0))"
    with pytest.raises(InputError, match="a goal or weights, got both"):
        proportional(weighted(accuracy=1.0), accuracy=1.0)


def test_rank_by_hand(frames, decide):
    # Baker: from 2 - p for the worst to p for the best, in means; two equals share their places.
    frame = frames([0.9, 0.1, 0.5, 0.5, nan], alive=[True] * 4 + [False], quota=1200)
    granted = decide(rank(pressure=1.5), frame).steps.tolist()
    assert granted == [450, 150, 300, 300, 0]
    assert decide(rank(pressure=1.0), frame).steps.tolist() == [300] * 4 + [0]
    assert decide(rank(pressure=2.0), frame).steps.tolist() == [600, 0, 300, 300, 0]
    assert rank(goal=weighted(accuracy=1.0)).name == (
        "rank(pressure=1.5, goal=weighted(accuracy=1.0))"
    )


@pytest.mark.parametrize(
    ("share", "cap", "expected"),
    [
        ([0.7, 0.2, 0.1, 0.0], 2.0, [0.5, 1 / 3, 1 / 6, 0.0]),
        # Cut once, the second would be too much.
        ([0.6, 0.34, 0.06, 0.0], 1.6, [0.4, 0.4, 0.2, 0.0]),
        ([1.0, 0.0, 0.0, 0.0], 1.6, [0.4, 0.2, 0.2, 0.2]),
        ([0.4, 0.3, 0.2, 0.1], 1.0, [0.25] * 4),
        ([0.4, 0.3, 0.2, 0.1], 4.0, [0.4, 0.3, 0.2, 0.1]),
    ],
)
def test_what_a_cap_cuts_off_goes_to_the_others_by_hand(share, cap, expected):
    got = with_floor(jnp.array(share), jnp.ones(4, bool), 0.0, cap)
    np.testing.assert_allclose(got, expected, atol=1e-6)


@given(weights, st.floats(1.0, 20.0), st.floats(0.0, 1.0))
def test_no_one_gets_more_than_the_cap_and_order_stays(weight, cap, floor):
    weight = np.append(weight, 0.5)
    living = np.arange(len(weight)) != 0
    share = np.where(living, weight, 0) / max(np.where(living, weight, 0).sum(), 1e-30)
    got = np.asarray(with_floor(jnp.asarray(share, jnp.float32), jnp.asarray(living), floor, cap))
    assert got[0] == 0 and got.max() <= cap / living.sum() * (1 + 1e-5)
    np.testing.assert_allclose(got.sum(), 1.0, rtol=1e-5)
    assert (np.diff(got[np.argsort(share, kind="stable")]) >= -1e-7).all()


@pytest.mark.parametrize("members", [100, 10_000])
@pytest.mark.parametrize("cap", [1.0, 1.1, 1.5, inf])
def test_tight_and_no_caps_of_large_swarms_use_the_whole_quota(members, cap):
    rng = np.random.default_rng(0)
    living = rng.random(members) < 0.9
    for weight in (rng.random(members), rng.random(members) ** 20, np.arange(members) == 5):
        living[5] = True
        share = np.where(living, weight, 0)
        share = jnp.asarray(share / share.sum(), jnp.float32)
        got = with_floor(share, jnp.asarray(living), 0.0, cap)
        np.testing.assert_allclose(np.asarray(got, np.float64).sum(), 1.0, rtol=1e-5)
        assert (got[~living] == 0).all()
        assert got.max() <= min(cap, members) / living.sum() * (1 + 1e-6)
        assert total_of(integer_shares(got, 1_000_003)) == 1_000_003


def test_the_softmax_of_a_large_swarm_is_capped(frames, decide):
    accuracy = np.full(100, 0.1)
    accuracy[7] = 0.9
    steps = decide(softmax(0.1, 0.0), frames(accuracy, quota=10_000)).steps
    assert steps[7] == 1600 and steps.sum() == 10_000
    assert np.delete(steps, 7).min() >= 84


def test_devices_by_hand(frames, decide):
    frame = frames([0.2, 0.9, 0.9, nan, 0.7], alive=[True, True, True, False, True])
    assert decide(devices(), frame).devices.tolist() == [1, 2**20, 1, 1, 1]
    assert decide(devices(top=3, each=4), frame).devices.tolist() == [1, 4, 4, 1, 4]
    # Who is not known, or dead, is nobody to share for.
    assert decide(devices(top=9, each=2), frame).devices.tolist() == [2, 2, 2, 1, 2]
    moved = keep(frame)._replace(parent=jnp.array([1, 1, 2, 2, 4], jnp.int32))
    assert decide(devices(top=2, each=2), frame, plan=moved).devices.tolist() == [2, 2, 1, 1, 1]
    assert decide(devices(), frame).steps.sum() == 0
    worst = devices(each=2, goal=weighted(accuracy=-1.0))
    assert decide(worst, frame).devices.tolist() == [2, 1, 1, 1, 1]
    assert worst.name == "devices(top=1, each=2, goal=weighted(accuracy=-1.0))"


def test_devices_under_jit(frames, assert_jit_agrees):
    assert_jit_agrees(devices(top=2, each=3), frames)


@pytest.mark.parametrize("wrong", [{"top": 0}, {"top": 1.5}, {"each": 0}])
def test_bad_devices(wrong):
    with pytest.raises(InputError, match="to be a whole number from 1"):
        devices(**wrong)


def test_bad_cap_and_pressure():
    with pytest.raises(InputError, match="a cap of at least 1 mean, got 0.5"):
        softmax(cap=0.5)
    for pressure in (0.9, 2.1, nan):
        with pytest.raises(InputError, match="pressure between 1 and 2"):
            rank(pressure)


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
    st.sampled_from(
        [
            proportional(valid_x=1.0),
            softmax(goal=weighted(valid_x=-1.0)),
            rank(goal=weighted(valid_x=1.0)),
            uniform(),
        ]
    ),
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
    with pytest.raises(InputError, match="temperature from 0.001 to 1000"):
        make()


@pytest.mark.parametrize("floor", [-0.1, 1.1, nan])
def test_bad_floor(floor):
    with pytest.raises(InputError, match="floor between 0 and 1"):
        softmax(floor=floor)
