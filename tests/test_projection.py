import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax.fitness import weighted
from swarmjax.policy import keep
from swarmjax.projection import Curve, expected_gain, extend, projected_gain
from swarmjax.types import InputError

nan, inf = np.nan, np.inf
GOAL = weighted(valid_x=1.0)


def law(step, a, b, c=0.9):
    return c - a * np.asarray(step, float) ** -b


def curve(scores, steps):
    return Curve(*(jnp.asarray(np.atleast_2d(v), jnp.float32) for v in (steps, scores)))


@pytest.mark.parametrize("b", [0.25, 0.5, 1.0, 2.0])
def test_a_power_law_is_continued(b):
    steps = np.arange(1, 7) * 50
    got = expected_gain(curve(law(steps, 3.0, b), steps), 200.0)
    expected = law(500, 3.0, b) - law(300, 3.0, b)
    np.testing.assert_allclose(got, [expected], rtol=2e-2, atol=2e-6)


def test_a_falling_curve_promises_nothing_and_a_short_one_is_not_known():
    steps = [nan, 50, 100, 150]
    scores = np.asarray([[nan, 0.5, 0.4, 0.3], [nan, 0.5, 0.5, 0.5], [nan, nan, 0.2, 0.3]])
    steps = np.asarray([steps, steps, [nan, nan, 50, 100]])
    assert expected_gain(curve(scores, steps), 50.0).tolist() == [0.0, 0.0, -inf]


def test_points_come_when_a_member_trained_and_is_scored():
    scores = [[nan, nan, 0.1], [nan, 0.2, 0.3], [nan, nan, nan]]
    before = curve(scores, [[nan, nan, 10.0], [nan, 10.0, 20.0], [nan, nan, nan]])
    after = extend(before, jnp.array([0.4, 0.5, 0.6]), jnp.array([30, 20, 5]))
    np.testing.assert_allclose(after.score, [[nan, 0.1, 0.4], [nan, 0.2, 0.3], [nan, nan, 0.6]])
    again = extend(after, jnp.array([-inf, 0.7, 0.8]), jnp.array([40, 0, 15]))
    np.testing.assert_allclose(again.score, [[nan, 0.1, 0.4], [nan, nan, 0.7], [nan, 0.6, 0.8]])
    np.testing.assert_allclose(again.step, [[nan, 10, 30], [nan, nan, 0], [nan, 5, 15]])


def run(policy, frames, laws, count, alive=None, parents=()):
    """The last grants of a run whose member `i` scores `laws[i](steps)`, 100 steps a round."""
    members, state = len(laws), None
    alive, births = np.ones(members, bool) if alive is None else alive, np.arange(members)
    update = jax.jit(policy.update)
    for r in range(count):
        steps = np.full(members, 100 * r)
        score = [f(max(100 * r, 1)) if r else nan for f in laws]
        metrics = {"valid_x": jnp.asarray(score, jnp.float32)}
        frame = frames([0.5] * members, metrics=metrics, total_steps=steps, round=r,
                       birth=births, alive=alive)  # fmt: skip
        state = policy.init(frame) if state is None else state
        plan = keep(frame)
        if r in dict(parents):
            parent = np.asarray(dict(parents)[r])
            plan = plan._replace(parent=jnp.asarray(parent, jnp.int32))
            births = np.where(parent != np.arange(members), births.max() + 1, births)
        plan, state = update(jax.random.key(r), plan, frame, state)
        assert int(plan.steps.sum()) == 1000
    return np.asarray(plan.steps), state


def test_the_promising_get_more_whoever_is_ahead(frames):
    laws = [lambda s: law(s, 0.5, 0.5), lambda s: law(s, 3.0, 0.5), lambda s: 0.9]
    steps, _ = run(projected_gain(floor=0.3, goal=GOAL), frames, laws, 6)
    gains = np.asarray([law(500 + 1000 / 3, a, 0.5) - law(500, a, 0.5) for a in (0.5, 3.0)])
    ideal = [100 + 700 * gains[0] / gains.sum(), 100 + 700 * gains[1] / gains.sum(), 100]
    assert (abs(steps - ideal) <= 8).all()


def test_the_first_rounds_are_uniform(frames):
    laws = [lambda s: law(s, 3.0, 0.5), lambda s: 0.9]
    for count in (1, 2, 3):
        steps, _ = run(projected_gain(goal=GOAL), frames, laws, count)
        assert steps.tolist() == [500, 500]


def test_a_copy_goes_on_with_its_parents_curve_and_a_stranger_begins(frames):
    laws = [lambda s: law(s, 3.0, 0.5), lambda s: 0.9, lambda s: 0.8]
    policy = projected_gain(goal=GOAL)
    _, state = run(policy, frames, laws, 5, parents={4: [0, 0, 2]})
    points = np.isfinite(state.values.step).sum(axis=1)
    np.testing.assert_array_equal(state.values.score[1], state.values.score[0])
    assert points.tolist() == [4, 4, 4]
    stranger = frames([0.5] * 3, metrics={"valid_x": jnp.full(3, 0.8)}, total_steps=[500, 500, 20],
                      birth=[0, 3, 9], lineage=[0, 0, 2])  # fmt: skip
    plan, state = policy.update(jax.random.key(0), keep(stranger), stranger, state)
    assert np.isfinite(state.values.step).sum(axis=1).tolist() == [5, 5, 1]
    fresh = keep(stranger)._replace(fresh=jnp.array([True, False, False]))
    _, state = policy.update(jax.random.key(0), fresh, stranger, state)
    assert np.isfinite(state.values.step).sum(axis=1).tolist() == [0, 5, 1]


def test_the_dead_get_nothing_and_the_unknown_the_mean(frames, decide):
    alive = np.asarray([True, False, True])
    laws = [lambda s: law(s, 3.0, 0.5), lambda s: nan, lambda s: 0.9]
    steps, _ = run(projected_gain(floor=0.5, goal=GOAL), frames, laws, 6, alive=alive)
    assert steps.tolist() == [750, 0, 250]
    assert decide(projected_gain(), frames([nan, nan], alive=[False, False])).steps.sum() == 0


def test_grants_are_capped(frames):
    laws = [lambda s: law(s, 3.0, 0.5)] + [lambda s: 0.9] * 9
    steps, _ = run(projected_gain(floor=0.0, cap=4.0, goal=GOAL), frames, laws, 6)
    assert steps[0] == 400 and steps[1:].min() >= 66


def test_jit_agrees(frames, assert_jit_agrees):
    assert_jit_agrees(projected_gain(window=4), frames)


def test_names_and_bad_options():
    name = "projected_gain(window=8, floor=0.25, cap=16.0, goal=weighted(valid_x=1.0))"
    assert projected_gain(goal=GOAL).name == name
    with pytest.raises(InputError, match="window of 3 rounds or more, got 2"):
        projected_gain(window=2)
    with pytest.raises(InputError, match="projected_gain needs a floor between 0 and 1"):
        projected_gain(floor=2.0)
