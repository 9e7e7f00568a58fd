import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from swarmjax.evolve import exploit
from swarmjax.fitness import weighted
from swarmjax.halving import Bracket, deal, hyperband, keeps, select, successive_halving
from swarmjax.policy import chain, keep
from swarmjax.types import InputError

nan = np.nan
POLICIES = [successive_halving(), successive_halving(eta=2.0, rungs=2), hyperband()]


def rounds(policy, frames, scores, count, deaths=()):
    """Grants `[count, N]` of a run of `count` rounds of 1000 steps; `deaths`: round -> slots."""
    members, state, grants = len(scores), None, []
    alive, update = np.ones(members, bool), jax.jit(policy.update)
    for r in range(count):
        alive[list(dict(deaths).get(r, ()))] = False
        known = np.where(alive, scores, nan) if r else np.full(members, nan)
        frame = frames(known, round=r, quota=1000, remaining=1000 * (count - r), alive=alive)
        state = policy.init(frame) if state is None else state
        plan, state = update(jax.random.key(r), keep(frame), frame, state)
        grants.append(np.asarray(plan.steps))
    return np.asarray(grants)


def test_successive_halving_by_hand(frames):
    scores = np.asarray([0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.4, 0.6, 0.5])
    grants = rounds(successive_halving(), frames, scores, 6)
    # Three rungs of two rounds: nine, the best three, the best.
    assert grants[0].tolist() == grants[1].tolist() == [112] + [111] * 8
    three = [0, 334, 0, 333, 0, 333, 0, 0, 0]
    assert grants[2].tolist() == grants[3].tolist() == three
    assert grants[4].tolist() == grants[5].tolist() == [0, 1000] + [0] * 7


def test_a_loser_stays_out_even_if_its_score_is_now_the_best(frames):
    policy = successive_halving(eta=2.0)
    state, births = policy.init(frames([nan] * 4, round=0)), []
    for r, accuracy in enumerate([[nan] * 4, [0.1, 0.2, 0.3, 0.4], [0.9, 0.9, 0.3, 0.2]]):
        frame = frames(accuracy, round=r, remaining=1000 * (3 - r))
        plan, state = policy.update(jax.random.key(0), keep(frame), frame, state)
        births.append(plan.steps.tolist())
    assert births == [[250] * 4, [0, 0, 500, 500], [0, 0, 1000, 0]]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_every_step_is_granted_losers_stay_out_and_the_dead_get_nothing(frames, policy):
    scores = np.random.default_rng(0).random(17)
    order = np.argsort(-scores)
    deaths = {2: order[:1], 4: order[1:2]}
    grants = rounds(policy, frames, scores, 8, deaths)
    assert (grants.sum(axis=1) == 1000).all()
    assert not grants[2:, order[0]].any() and not grants[4:, order[1]].any()
    out = grants == 0
    assert (out[1:] >= out[:-1]).all(), "nobody comes back"
    assert out[-1].sum() > out[0].sum()


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_if_all_that_were_kept_die_the_living_go_on(frames, policy):
    scores = np.asarray([0.9, 0.8, 0.3, 0.2])
    grants = rounds(policy, frames, scores, 6, {4: (0, 1), 5: (0, 1, 2, 3)})
    assert grants[4, :2].sum() == 0 and grants[4].sum() == 1000
    assert grants[5].sum() == 0


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
def test_jit_agrees(frames, assert_jit_agrees, policy):
    assert_jit_agrees(policy, frames)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: p.name)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_small_swarms_and_short_runs_get_the_whole_quota(frames, policy, count):
    for members in (1, 2, 3):
        grants = rounds(policy, frames, np.linspace(0, 1, members), count)
        assert (grants.sum(axis=1) == 1000).all()


def test_a_copy_takes_its_parents_standing_and_the_fresh_may_try(frames):
    policy = successive_halving(eta=2.0, rungs=2)
    frame = frames([nan] * 4, round=0, remaining=2000)
    state = policy.init(frame)
    _, state = policy.update(jax.random.key(0), keep(frame), frame, state)
    frame = frames([0.1, 0.2, 0.3, 0.4], round=1, remaining=1000)
    _, state = policy.update(jax.random.key(0), keep(frame), frame, state)
    # Slots 0 and 1 are out. A copy of slot 3 in slot 0, one of slot 1 in slot 2; slot 1 anew.
    parent, fresh = jnp.array([3, 1, 1, 3]), jnp.array([False, True, False, False])
    plan = keep(frame)._replace(parent=parent, fresh=fresh)
    plan, _ = policy.update(jax.random.key(0), plan, frame, state)
    assert plan.steps.tolist() == [500, 0, 0, 500]
    fewer = frame._replace(alive=jnp.array([True, True, True, False]))
    plan = keep(fewer)._replace(fresh=fresh)
    plan, _ = policy.update(jax.random.key(0), plan, fewer, state)
    assert plan.steps.tolist() == [0, 500, 500, 0]


def test_halving_in_a_chain_with_exploit(frames, decide):
    policy = chain(exploit(0.25), successive_halving(eta=2.0, rungs=2))
    frame = frames([0.1, 0.2, 0.3, 0.4], round=1, remaining=1000)
    plan = decide(policy, frame)
    assert plan.parent.tolist() == [3, 1, 2, 3]
    assert plan.steps.tolist() == [500, 0, 0, 500]


def test_brackets_of_hyperband_by_hand(frames):
    # 17 members, so brackets of one, two and three rungs, in the proportions 3 : 5 : 9.
    scores = np.linspace(0.9, 0.1, 17)
    grants = rounds(hyperband(), frames, scores, 6)
    kept = (grants > 0).sum(axis=1)
    # After a third of the rounds 9 -> 3, after half 5 -> 1, after two thirds 3 -> 1.
    assert kept.tolist() == [17, 17, 11, 7, 5, 5]
    # A third of the quota each, whatever their sizes.
    assert sorted(grants[5][grants[5] > 0].tolist()) == [111, 111, 111, 333, 334]


def test_slots_are_dealt_to_brackets_evenly():
    groups = [Bracket(2, 1), Bracket(4, 2)]
    member = deal(groups)
    assert member.sum(axis=1).tolist() == [2, 4] and (member.sum(axis=0) == 1).all()
    assert np.flatnonzero(member[0]).tolist() == [1, 4]


def test_rungs_and_keeps_by_hand(frames):
    groups = [Bracket(9, 3), Bracket(5, 2), Bracket(3, 1)]
    for round, expected in enumerate([[9, 5, 3], [9, 5, 3], [3, 5, 3], [3, 1, 3], [1, 1, 3]]):
        frame = frames([0.5], round=round, remaining=1000 * (6 - round) - 500)
        assert keeps(groups, 3.0, frame).tolist() == expected


@given(
    st.lists(st.integers(0, 3), min_size=8, max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.lists(st.booleans(), min_size=8, max_size=8),
    st.integers(1, 4),
)
def test_the_best_of_the_able_are_selected(score, kept, living, most):
    member = np.arange(8)[None] % 2 == np.arange(2)[:, None]
    able = [np.array(a, bool) for a in (kept, living)]
    got = np.asarray(select(jnp.array(score, jnp.float32), *able, member, jnp.array([most, 8])))
    for mine, chosen, count in zip(member, got, (most, 8), strict=True):
        candidates = mine & able[0] & able[1]
        candidates = candidates if candidates.any() else mine & able[1]
        slots = sorted(np.flatnonzero(candidates), key=lambda i: (-score[i], i))
        assert np.flatnonzero(chosen).tolist() == sorted(slots[:count])


def test_names_and_bad_options():
    assert successive_halving().name == "successive_halving(eta=3.0, rungs=None)"
    goal = weighted(accuracy=1.0)
    assert hyperband(goal=goal).name == "hyperband(eta=3.0, goal=weighted(accuracy=1.0))"
    for make in (successive_halving, hyperband):
        for eta in (1.0, 1.0000001, nan, float("inf")):
            with pytest.raises(InputError, match="eta must be a finite number >= 1.1"):
                make(eta=eta)
    with pytest.raises(InputError, match="rungs from 1 to 64, got 0"):
        successive_halving(rungs=0)
