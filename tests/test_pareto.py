import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from swarmjax import fitness
from swarmjax.pareto import crowding, fronts, pareto, rank_and_crowd
from swarmjax.types import InputError

nan, inf = np.nan, np.inf

# Whole numbers, so that there are ties; few sizes, because each one compiles anew.
points = st.sampled_from([(1, 2), (6, 1), (6, 2), (12, 3)]).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.integers(0, 4).map(float))
)


def peeled(objectives):
    """Fronts by their definition: take away whoever nobody left dominates, again and again."""
    better = (objectives[:, None] >= objectives).all(2) & (objectives[:, None] > objectives).any(2)
    front, left = np.zeros(len(objectives), int), np.ones(len(objectives), bool)
    for number in range(len(objectives)):
        free = left & ~better[left].any(0)
        front[free] = number
        left &= ~free
    return front


@given(points)
def test_fronts_are_what_is_left_when_the_better_are_gone(objectives):
    np.testing.assert_array_equal(fronts(jnp.asarray(objectives)), peeled(objectives))


def test_fronts_and_crowding_by_hand():
    objectives = jnp.array([[0.0, 4.0], [1.0, 3.0], [4.0, 0.0], [0.0, 2.0], [1.0, 0.0]])
    front = fronts(objectives)
    assert front.tolist() == [0, 0, 0, 1, 1]
    # The middle one's neighbours are the ends: (4 - 0) / 4 + (4 - 0) / 4.
    assert crowding(objectives, front).tolist() == [inf, 2.0, inf, inf, inf]
    # Two fronts: the first above one half; there the ends before the middle.
    ends, middle = (1 + (1 + 3) / 5) / 2, (1 + (1 + 2) / 5) / 2
    scored = rank_and_crowd(objectives, jnp.ones(5, bool))
    np.testing.assert_allclose(scored, [ends, middle, ends, 0.4, 0.4], rtol=1e-6)


def test_the_less_crowded_come_first():
    x = jnp.array([0.0, 1.0, 2.0, 6.0, 10.0])
    objectives = jnp.stack([x, 10.0 - x], axis=1)
    assert crowding(objectives, jnp.zeros(5, jnp.int32)).tolist() == pytest.approx(
        [inf, 0.4, 1.0, 1.6, inf]
    )
    scored = rank_and_crowd(objectives, jnp.ones(5, bool))
    assert fitness.ranks(scored).tolist() == [0, 4, 3, 2, 1]


@given(points, st.integers(0, 11), st.booleans())
def test_no_front_reaches_into_another_and_the_dead_change_nothing(objectives, who, unknown):
    members = len(objectives)
    living = np.arange(members) != who
    given_ = objectives.copy()
    if unknown and who < members:
        given_[who, 0] = nan
    scored = np.asarray(rank_and_crowd(given_, living | unknown))
    np.testing.assert_array_equal(np.isnan(scored), ~living)
    front, scored = peeled(objectives[living]), scored[living]
    assert ((scored > 0) & (scored < 1)).all()
    for number in range(1, front.max(initial=0) + 1):
        assert scored[front == number].max() < scored[front == number - 1].min()


def test_equals_are_equally_fit():
    scored = rank_and_crowd(jnp.ones((4, 2)), jnp.ones(4, bool))
    assert len(set(scored.tolist())) == 1


def test_a_chain_of_as_many_fronts_as_members():
    scored = rank_and_crowd(jnp.arange(3000.0)[:, None], jnp.ones(3000, bool))
    assert (np.diff(scored) > 0).all()


def test_the_goal_looks_both_ways(frames):
    frame = frames([0.9, 0.8, 0.7, nan], parameters=[900, 100, 500, 1])
    goal = pareto(accuracy=1, parameters=-1)
    scored = np.asarray(goal(frame))
    assert scored[0] == scored[1] > scored[2] and np.isnan(scored[3])
    np.testing.assert_array_equal(jax.jit(goal)(frame), scored)
    assert goal.__name__ == "pareto(accuracy=1, parameters=-1)"
    # Sizes do not count, and loss is the loss, not the term that is better when high.
    np.testing.assert_array_equal(pareto(loss=-0.1, parameters=-7)(frame), scored)


@pytest.mark.parametrize(
    ("directions", "message"),
    [
        ({}, "needs objectives"),
        ({"accuracy": 0}, "accuracy needs a direction of 1 or -1, got 0"),
        ({"accuracy": nan}, "direction of 1 or -1, got nan"),
        ({"parameter": -1}, "did you mean parameters"),
    ],
)
def test_bad_objectives(directions, message):
    with pytest.raises(InputError, match=message):
        pareto(**directions)
