import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from random_spaces import spaces

from swarmjax import bandits, space
from swarmjax.bandits import bandit, batch, normal_scores, posterior
from swarmjax.fitness import weighted
from swarmjax.policy import check_plan, keep
from swarmjax.types import InputError

nan, inf = np.nan, np.inf
PLAIN = space.Space(
    rate=space.uniform(0.0, 1.0), kind=space.choice("x", "y"), depth=space.structure(1, 2)
)


def on_host(frame):
    return jax.tree.map(np.asarray, frame)


def families(frame, share=4):
    """A Plan in which the worst of a few take over the weights and genes of the best."""
    score = np.asarray(frame.metrics["valid_accuracy"])
    order, count = np.argsort(-score), len(score) // share
    parent = np.arange(len(score), dtype=np.int32)
    parent[order[-count:]] = order[:count]
    genome = {name: np.asarray(values)[parent] for name, values in frame.genome.items()}
    return keep(frame)._replace(parent=parent, genome=genome)


def test_batch_by_hand():
    mean = np.array([1.0, 0.9, 0.0])
    covariance = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    # Once the first is tried nothing is left to learn from the second, its twin.
    assert batch(mean, covariance, 1e-9, 3, 1.0).tolist() == [0, 2, 1]
    assert batch(mean, covariance, 1e-9, 3, 0.0).tolist() == [0, 1, 2]


def test_a_batch_narrows_the_whole_covariance():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((12, 12))
    mean, covariance, noise = rng.standard_normal(12), root @ root.T, 0.3
    chosen, wanted = batch(mean, covariance, noise, 6, 1.5), []
    for _ in range(6):
        # The Gaussian process that was told of those before, from scratch.
        at = covariance[:, wanted]
        inverse = np.linalg.inv(at[wanted] + noise * np.eye(len(wanted)))
        bound = mean + 1.5 * np.sqrt(np.diagonal(covariance - at @ inverse @ at.T))
        bound[wanted] = -np.inf
        wanted.append(int(np.argmax(bound)))
    assert chosen.tolist() == wanted


def test_many_children_share_a_bounded_number_of_picks(frames):
    members = 2_000
    frame = on_host(frames(np.linspace(0, 1, members), space=PLAIN))
    parent = np.full(members, members - 1, np.int32)
    policy, plan = bandit(), keep(frame)._replace(parent=parent)
    after, _ = policy.update(jax.random.key(0), plan, frame, policy.init(frame))
    rates = after.genome["rate"][:-1]
    assert 200 < len(set(rates[:256].tolist())) and len(set(rates.tolist())) <= 256
    np.testing.assert_array_equal(rates[256:512], rates[:256])


def test_normal_scores_by_hand():
    scores = normal_scores(np.array([5.0, -1e30, 7.0, 5.0]))
    np.testing.assert_allclose(scores, [0.0, -1.15035, 1.15035, 0.0], atol=1e-5)
    assert normal_scores(np.zeros(0)).shape == (0,)


def test_before_any_trial_the_process_knows_only_what_is_near():
    asked = np.array([[0.0, 1.0], [0.5, 1.0], [0.0, 11.0]])
    mean, covariance, noise = posterior(np.zeros((0, 2)), np.zeros(0), asked)
    assert mean.tolist() == [0, 0, 0] and noise == pytest.approx(0.5)
    # A length of 0.5 in the gene, of 10 rounds in time.
    wanted = np.exp([[0, -0.5, -1], [-0.5, 0, -1.5], [-1, -1.5, 0]])
    np.testing.assert_allclose(covariance, wanted, atol=1e-5)


def test_the_posterior_is_that_of_its_kernel():
    rng = np.random.default_rng(0)
    tried = np.column_stack([rng.random(20), np.repeat([1, 2], 10)])
    values, asked = normal_scores(tried[:, 0]), np.array([[0.1, 3.0], [0.9, 3.0]])
    kernel = bandits._fitted(bandits._kernel(1), tried, values)
    mean, covariance, noise = posterior(tried, values, asked)
    clean = kernel.k1
    gain = clean(asked, tried) @ np.linalg.inv(clean(tried) + noise * np.eye(20))
    np.testing.assert_allclose(mean, gain @ values, atol=1e-5)
    np.testing.assert_allclose(covariance, clean(asked) - gain @ clean(tried, asked), atol=1e-5)
    assert mean[0] < -1 < 1 < mean[1]


def test_old_trials_count_less():
    tried = np.array([[0.5, 1.0], [0.5, 40.0]])
    kernel = bandits._kernel(1)
    model = bandits._process(kernel).fit(tried, np.array([1.0, -1.0]))
    early, late = model.predict(np.array([[0.5, 2.0], [0.5, 39.0]]))
    assert early > 0.4 and late < -0.4


def test_only_those_who_trained_on_are_observed(frames):
    frame = on_host(frames(
        [0.5, 0.6, nan, 0.8, 0.9, 0.4], space=PLAIN, round=3,
        steps=[10, 10, 10, 0, 10, 10], total_steps=[20, 20, 20, 20, 10, 20],
        alive=[True, True, True, True, True, False],
    ))  # fmt: skip
    policy = bandit(goal=weighted(valid_accuracy=1.0))
    state = policy.init(frame)._replace(before=np.float32([0.25, -inf, 0.1, 0.1, 0.1, 0.1]))
    _, after = policy.update(jax.random.key(0), keep(frame), frame, state)
    assert after.gains.tolist() == [0.25] and after.rounds.tolist() == [3]
    rate, kind = frame.genome["rate"][0], frame.genome["kind"][0]
    np.testing.assert_allclose(after.points, [[rate, 0.25 + 0.5 * kind]], rtol=1e-6)
    np.testing.assert_allclose(after.before, [0.5, 0.6, -inf, 0.8, 0.9, -inf])


def test_a_child_is_judged_against_its_parent(frames):
    frame = on_host(frames([0.5, 0.75], space=PLAIN))
    policy = bandit(goal=weighted(valid_accuracy=1.0))
    parent = np.array([1, 1], np.int32)
    plan = keep(frame)._replace(parent=parent)
    _, state = policy.update(jax.random.key(0), plan, frame, policy.init(frame))
    assert state.before.tolist() == [0.75, 0.75]
    plan = keep(frame)._replace(fresh=np.array([True, False]))
    _, state = policy.update(jax.random.key(0), plan, frame, policy.init(frame))
    assert state.before.tolist() == [-inf, 0.75]


def test_the_window_keeps_the_latest(frames):
    policy, state = bandit(window=5), None
    for round in (1, 2, 3):
        metrics = {"valid_accuracy": np.float32([0.1, 0.2, 0.3]) * round}
        frame = frames([0.1, 0.2, 0.3], space=PLAIN, round=round, total_steps=[10 * round] * 3)
        frame = on_host(frame._replace(metrics=metrics))
        state = policy.init(frame) if state is None else state
        _, state = policy.update(jax.random.key(0), keep(frame), frame, state)
    assert state.rounds.tolist() == [2, 2, 3, 3, 3]


def test_only_children_change_and_never_their_structure(frames):
    frame = on_host(frames(np.linspace(0.1, 0.9, 16)))
    plan, policy = families(frame), bandit()
    fresh = np.zeros(16, bool)
    fresh[0] = True
    plan = plan._replace(fresh=fresh)
    before = jax.tree.map(np.copy, plan)
    after, state = policy.update(jax.random.key(1), plan, frame, policy.init(frame))
    again, _ = policy.update(jax.random.key(1), plan, frame, policy.init(frame))
    other, _ = policy.update(jax.random.key(2), plan, frame, policy.init(frame))
    jax.tree.map(np.testing.assert_array_equal, plan, before)
    jax.tree.map(np.testing.assert_array_equal, after, again)
    child = (plan.parent != np.arange(16)) & ~fresh
    assert child.sum() == 3
    for name in ("learning_rate", "momentum"):
        assert (after.genome[name] != plan.genome[name]).tolist() == child.tolist()
        assert len(set(after.genome[name][child].tolist())) == 3
        assert (after.genome[name] != other.genome[name])[child].all()
    for name in ("depth", "width"):
        np.testing.assert_array_equal(after.genome[name], plan.genome[name])


def test_it_finds_the_genes_that_make_fitness_rise(frames):
    members, policy = 16, bandit()
    frame = on_host(frames(np.full(members, nan), space=PLAIN, round=0))
    state, fitness, picked = policy.init(frame), np.zeros(members, np.float32), []
    for round in range(7):
        plan = families(frame) if round else keep(frame)
        plan, state = policy.update(jax.random.key(round), plan, frame, state)
        rate, kind = plan.genome["rate"], plan.genome["kind"]
        gain = 1.0 - 2.0 * np.abs(rate - 0.3) - 0.5 * kind
        picked.append(gain[plan.parent != np.arange(members)])
        fitness = fitness[plan.parent] + gain
        frame = frame._replace(
            round=np.int32(round + 1), genome=plan.genome,
            metrics={"valid_accuracy": fitness.astype(np.float32)},
            total_steps=np.full(members, 10 * (round + 2), np.int32),
        )  # fmt: skip
    # At random the mean is 0.17.
    assert np.mean(picked[4:]) > 0.8


@given(spaces, st.integers(0, 99))
@settings(max_examples=8)
def test_values_never_leave_their_ranges(frames, searched, seed):
    frame = on_host(frames(np.linspace(0.1, 0.9, 6), space=searched))
    policy = bandit()
    state = policy.init(frame)._replace(before=np.linspace(0.3, 0.2, 6, dtype=np.float32))
    frame = frame._replace(total_steps=frame.total_steps + 1)
    plan = families(frame, 2)
    after, _ = policy.update(jax.random.key(seed), plan, frame, state)
    check_plan(after, frame)
    for name, values in plan.genome.items():
        assert after.genome[name].dtype == values.dtype


def test_huge_changes_are_survived(frames):
    frame = on_host(frames([0.1, 0.2, 0.3, 0.4], space=PLAIN, total_steps=[99] * 4))
    frame = frame._replace(metrics={"valid_loss": np.float32([3e38, -3e38, 1.0, 2.0])})
    policy = bandit()
    state = policy.init(frame)._replace(before=np.float32([3e38, -3e38, 1.0, 2.0]))
    plan = keep(frame)._replace(parent=np.array([1, 1, 2, 3], np.int32))
    after, state = policy.update(jax.random.key(0), plan, frame, state)
    assert np.isfinite(state.gains).all()
    check_plan(after, frame)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bandit(exploration=-1), "bandit needs a finite exploration >= 0, got -1"),
        (lambda: bandit(exploration=nan), "bandit needs a finite exploration >= 0, got nan"),
        (lambda: bandit(window=1), "a window from 2 to 2000 observations, got 1"),
        (lambda: bandit(window=2.5), "a window from 2 to 2000 observations, got 2.5"),
    ],
)
def test_bad_bandits(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_name_and_a_goal_that_the_task_does_not_report(frames):
    policy = bandit(goal=weighted(valid_f1=1.0))
    assert policy.name == "bandit(exploration=1.0, window=256, goal=weighted(valid_f1=1.0))"
    assert policy.host
    with pytest.raises(InputError, match="the goal needs valid_f1"):
        policy.init(on_host(frames([0.1])))
