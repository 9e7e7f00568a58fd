import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmjax.activations import ACTIVATIONS, activate, coefficients, one_of

NAMES = tuple(ACTIVATIONS)
KINKED = ("relu", "leaky_relu")
SIZES = np.concatenate([[1e-38, 1e-30, 1e-25], np.geomspace(1e-18, 1e4, 400)])
GRID = np.concatenate([-SIZES[::-1], [0.0], SIZES]).astype(np.float32)


def slopes(function):
    """The value and the derivative of `function` at every entry of an array."""
    return jax.vmap(jax.value_and_grad(function))


@jax.jit
def by_coefficient(x, coefficient):
    """Values and slopes `[A, n]` of activations `[A, 6]` at `x` `[n]`."""
    return jax.vmap(lambda c: slopes(lambda v: activate(v, c))(x))(coefficient)


@jax.jit
def by_name(x):
    results = [slopes(function)(x) for function in ACTIVATIONS.values()]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *results)


def assert_close(ours, flax, scale):
    # The logistic is exact to one unit in the last place of 1, and is multiplied by x.
    slack = 1e-6 * np.maximum(1.0, scale)
    assert np.isfinite(ours).all()
    assert (abs(np.asarray(ours, np.float64) - flax) <= slack).all()


def test_one_formula_is_every_activation_and_its_gradient():
    value, slope = by_coefficient(GRID, coefficients(NAMES))
    flax_value, flax_slope = by_name(GRID)
    for i, name in enumerate(NAMES):
        assert_close(value[i], flax_value[i], abs(GRID))
        smooth = abs(GRID) >= (1e-18 if name in KINKED else 0.0)
        assert_close(slope[i][smooth], flax_slope[i][smooth], np.abs(GRID[smooth]).clip(max=20))


def test_far_out_the_values_are_exact():
    far = np.float32([-1e4, -300.0, 300.0, 1e4])
    value, slope = by_coefficient(far, coefficients(NAMES))
    for i, (name, low) in enumerate([("relu", 0.0), ("silu", 0.0), ("gelu", 0.0), ("tanh", 1.0)]):
        i = NAMES.index(name)
        expected = np.sign(far) if name == "tanh" else np.where(far < 0, low, far)
        np.testing.assert_array_equal(value[i], expected)
        np.testing.assert_array_equal(slope[i], (far > 0) * (name != "tanh"))
    i = NAMES.index("leaky_relu")
    np.testing.assert_allclose(value[i], np.where(far < 0, 0.01 * far, far), rtol=1e-6)


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_zero_stays_exactly_zero_so_padding_stays_zero(zero):
    value, slope = by_coefficient(np.full(len(GRID), zero, np.float32), coefficients(NAMES))
    assert (np.asarray(value) == 0.0).all()
    assert np.isfinite(slope).all()


def test_at_a_kink_the_gradient_lies_between_both_sides():
    near = np.float32([-1e-38, -0.0, 0.0, 1e-38])
    x = np.resize(near, len(GRID))
    _, slope = by_coefficient(x, coefficients(NAMES))
    for name, left in (("relu", 0.0), ("leaky_relu", 0.01)):
        between = np.asarray(slope[NAMES.index(name)])
        assert ((between >= left) & (between <= 1.0)).all()


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=8, max_size=8))
def test_any_numbers(values):
    x = np.resize(np.float32(values), len(GRID))
    value, slope = by_coefficient(x, coefficients(NAMES))
    flax_value, _ = by_name(x)
    assert_close(value, flax_value, abs(x)[None])
    assert np.isfinite(slope).all()


def test_each_member_has_its_own_activation():
    """The choice is traced: another one, per member under vmap and jit, is no new program."""
    members = jax.jit(jax.vmap(activate))
    x = np.linspace(-2, 2, 5 * len(NAMES), dtype=np.float32).reshape(len(NAMES), 5)
    for turn in range(3):
        names = tuple(np.roll(NAMES, turn))
        expected = [ACTIVATIONS[name](row) for name, row in zip(names, x, strict=True)]
        np.testing.assert_allclose(members(x, coefficients(names)), expected, atol=1e-6)
    assert members._cache_size() == 1


def test_coefficients_are_one_row_a_name():
    table = coefficients(("tanh", "relu", "tanh"))
    assert (table.shape, table.dtype) == ((3, 6), np.float32)
    np.testing.assert_array_equal(table[0], table[2])
    assert (table[0] != table[1]).any()


def test_a_single_activation_is_taken_as_it_is_and_several_by_index():
    x = jnp.linspace(-3.0, 3.0, 13)
    assert one_of(("gelu",), 0) is ACTIVATIONS["gelu"]
    names = ("relu", "silu", "tanh")
    for index, name in enumerate(names):
        chosen = jax.jit(lambda x, i: one_of(names, i)(x))(x, index)
        np.testing.assert_allclose(chosen, ACTIVATIONS[name](x), atol=1e-6)
