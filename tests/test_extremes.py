import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmjax import extremes

# Few sizes, because each one compiles anew.
scores = st.sampled_from([1, 2, 7]).flatmap(
    lambda n: st.lists(
        st.sampled_from([-np.inf, -3.5, -1e-30, -0.0, 0.0, 1e-30, 2.0, 1e30, np.inf]),
        min_size=n,
        max_size=n,
    )
)


@given(scores, st.integers(0, 7))
def test_extremes_are_those_that_a_stable_sort_puts_first_and_last(score, count):
    score, count = np.asarray(score, np.float32), min(count, len(score))
    order = np.argsort(-score, kind="stable")
    best, worst = extremes.highest(score, count), extremes.lowest(score, count)
    assert np.flatnonzero(best).tolist() == sorted(order[:count])
    assert np.flatnonzero(worst).tolist() == sorted(order[len(score) - count :])


@given(
    st.sampled_from([1, 3, 8]).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n))
)
def test_slots_of_some_come_first_and_in_order(which):
    found = np.asarray(extremes.slots_of(np.asarray(which)))
    assert found[: sum(which)].tolist() == np.flatnonzero(which).tolist()
    assert len(found) == len(which) and ((found >= 0) & (found < len(which))).all()


def test_the_largest_of_whole_numbers_up_to_the_last_bit():
    keys = jnp.asarray([2**32 - 1, 0, 2**31, 2**32 - 1, 7], jnp.uint32)
    for count, wanted in ((0, []), (1, [0]), (2, [0, 3]), (3, [0, 2, 3]), (5, [0, 1, 2, 3, 4])):
        assert np.flatnonzero(extremes.largest(keys, count)).tolist() == wanted


@pytest.mark.parametrize("find", [extremes.highest, extremes.lowest])
def test_compiled_is_as_not_compiled(find):
    score = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    np.testing.assert_array_equal(jax.jit(find)(score, 17), find(score, 17))
