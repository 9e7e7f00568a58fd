import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from swarmjax import fitness
from swarmjax.constraints import constrained
from swarmjax.types import InputError

nan, inf = np.nan, np.inf
QUALITY = fitness.weighted(accuracy=1.0)


def test_limits_by_hand(frames):
    frame = frames([0.5, 0.9, 0.9, 0.7], parameters=[100, 150, 300, 100], cost=[1e6, 1e6, 3e6, 1e6])
    goal = constrained(QUALITY, parameters="<= 100", cost="<= 2e6")
    # Half too many; thrice as many and half too costly; the others as they are.
    expected = [0.5, -0.01 - np.log1p(0.5), -0.01 - np.log1p(2.5), 0.7]
    np.testing.assert_allclose(goal(frame), expected, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(goal)(frame), expected, rtol=1e-6)
    assert goal.__name__ == (
        "constrained(weighted(accuracy=1.0), parameters='<= 100', cost='<= 2e6')"
    )


def test_at_least_and_metrics_and_a_limit_of_zero(frames):
    frame = frames([0.5, 0.9, 0.7])._replace(loss=jnp.array([0.5, 0.0, 0.4]))
    goal = constrained(QUALITY, valid_accuracy=">=.6", gap="<= 0")
    broken = [0.1 / 0.6, 0.1, 0.0]
    expected = [-0.01 - np.log1p(broken[0]), -0.01 - np.log1p(broken[1]), 0.7]
    np.testing.assert_allclose(goal(frame), expected, rtol=1e-5)


def test_strict_limits_by_hand(frames):
    """Whoever reaches the limit breaks it, by the least there is; whoever exceeds it, by more."""
    frame = frames([0.5, 0.6, 0.7, 0.8], parameters=[99, 100, 101, 200])
    goal = constrained(QUALITY, parameters="<100")
    eps = np.finfo(np.float32).eps
    expected = [0.5, -0.01 - np.log1p(eps), -0.01 - np.log1p(0.01), -0.01 - np.log1p(1.0)]
    np.testing.assert_allclose(goal(frame), expected, rtol=1e-6)
    assert fitness.feasible(goal, frame).tolist() == [True, False, False, False]
    above = constrained(QUALITY, parameters="> 100")
    assert fitness.feasible(above, frame).tolist() == [False, False, True, True]
    zero = constrained(QUALITY, valid_x="<0")
    level = frames([0.5, 0.5, 0.5], metrics={"valid_x": np.float32([-0.1, 0.0, 0.1])})
    assert fitness.feasible(zero, level).tolist() == [True, False, False]


@given(
    st.floats(-(2.0**66), 2.0**66, width=32, allow_subnormal=False),
    st.integers(-3, 3),
    st.sampled_from(["<", "<=", ">", ">="]),
)
def test_limits_are_exact_for_the_next_numbers_to_either_side(frames, limit, away, sign):
    value = np.float32(limit)
    for _ in range(abs(away)):
        value = np.nextafter(value, np.float32(np.copysign(np.inf, away)))
    frame = frames([0.5, 0.5], metrics={"valid_x": np.repeat(value, 2)})
    goal = constrained(QUALITY, valid_x=f"{sign} {limit!r}")
    kept = {"<": value < limit, "<=": value <= limit, ">": value > limit, ">=": value >= limit}
    tiny = 0 < abs(value - np.float32(limit)) < np.finfo(np.float32).tiny
    if not tiny:
        # Hosts and devices alike; but devices may take what is tinier for zero.
        for shown in (frame, jax.tree.map(np.asarray, frame)):
            assert fitness.feasible(goal, shown).tolist() == [kept[sign]] * 2


@given(
    arrays(np.float32, 6, elements=st.floats(-(2.0**66), 2.0**66, width=32)),
    arrays(np.int32, 6, elements=st.integers(0, 2**31 - 1)),
)
def test_whoever_breaks_a_limit_ranks_below_who_does_not(frames, score, parameters):
    frame = frames([0.5] * 6, metrics={"valid_x": score}, parameters=parameters)
    goal = constrained(fitness.weighted(valid_x=1.0), parameters="<= 1000")
    scored = np.asarray(goal(frame))
    broken = parameters > 1000
    np.testing.assert_array_equal(scored[~broken], score[~broken])
    if broken.any() and not broken.all():
        assert scored[broken].max() < scored[~broken].min()
    order = np.argsort(parameters[broken], kind="stable")
    assert (np.diff(scored[broken][order]) <= 0).all() and np.isfinite(scored).all()


def test_the_unknown_stay_unknown_and_the_dead_set_no_mark(frames):
    frame = frames([0.5, nan, nan, -5.0], seconds=[1.0, nan, 9.0, 1.0], alive=[1, 1, 1, 0])
    scored = np.asarray(constrained(QUALITY, seconds="<= 2")(frame))
    np.testing.assert_allclose(scored[:3], [0.5, nan, -0.01 - np.log1p(3.5)], rtol=1e-6)


def test_nobody_within_the_limits_is_still_an_order(frames):
    frame = frames([0.5, 0.9], parameters=[400, 200])
    scored = constrained(QUALITY, parameters="<= 100")(frame)
    assert scored[0] < scored[1] < 0


def test_on_the_host_nothing_is_compiled(frames):
    traced = frames([0.5, 0.9], parameters=[400, 20])
    plain = jax.tree.map(np.asarray, traced)
    goal = constrained(QUALITY, parameters="<= 100")
    assert type(goal(plain)) is np.ndarray
    np.testing.assert_allclose(goal(plain), goal(traced), rtol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "=< 5",
        "<> 5",
        "<",
        "<= 1e39",
        "5",
        "<= ",
        "<= 1e",
        "<= 1.2.3",
        "<= inf",
        "== 1",
        5,
        "<= 1; x",
    ],
)
def test_limits_that_cannot_be_read(text):
    with pytest.raises(InputError, match="the limit of cost must read"):
        constrained(QUALITY, cost=text)


def test_bad_names():
    with pytest.raises(InputError, match="did you mean parameters"):
        constrained(QUALITY, paramters="<= 5")
    with pytest.raises(InputError, match="needs a limit"):
        constrained(QUALITY)
