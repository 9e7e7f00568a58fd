import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax.convolution import convolve, halve, mean_pool, pool_window

SIZES = [(8, 8, 1, 4, 3), (5, 7, 3, 2, 5), (4, 4, 2, 3, 1), (1, 2, 2, 2, 3)]


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def by_lax(x, kernel):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=dimensions)


@pytest.mark.parametrize(("height", "width", "inputs", "outputs", "size"), SIZES)
def test_outputs_and_both_gradients_are_those_of_lax(height, width, inputs, outputs, size):
    """For one member, and for members with kernels of their own on a shared batch."""
    x, kernels, push = arrays(
        (3, height, width, inputs), (2, size, size, inputs, outputs), (3, height, width, outputs)
    )

    @jax.jit
    def both(x, kernels, push):
        def pull(function, kernel):
            y, back = jax.vjp(function, x, kernel)
            return y, *back(push)

        one = [[pull(f, kernel) for kernel in kernels] for f in (convolve, by_lax)]
        return one, jax.vmap(lambda kernel: pull(convolve, kernel))(kernels)

    (mine, expected), together = both(x, kernels, push)
    for i in range(2):
        for a, b, c in zip(mine[i], expected[i], together, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(c[i], b, rtol=1e-4, atol=1e-4)


def test_a_kernel_told_by_hand():
    x = jnp.arange(1.0, 10.0).reshape(1, 3, 3, 1)
    right = jnp.zeros((3, 3, 1, 1)).at[1, 2].set(1.0)
    seen = convolve(x, right)[0, ..., 0]
    np.testing.assert_array_equal(seen, [[2, 3, 0], [5, 6, 0], [8, 9, 0]])


def test_patches_of_a_shared_batch_are_made_once():
    x, kernels = arrays((6, 8, 8, 2), (5, 3, 3, 2, 4))

    def loss(kernel):
        return (convolve(x, kernel) ** 2).sum()

    text = str(jax.make_jaxpr(jax.vmap(jax.grad(loss)))(kernels))
    assert "[6,8,8,18]" in text
    assert "[5,6,8,8,18]" not in text


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 7, 5, 2), (2, 1, 2, 1)])
def test_pools_are_those_of_flax(shape):
    (x,) = arrays(shape)
    np.testing.assert_array_equal(halve(x), nn.max_pool(x, (2, 2), (2, 2), "SAME"))
    window = pool_window(shape[1:3], 4)
    expected = nn.avg_pool(x, window, window, "SAME")
    assert max(expected.shape[1:3]) <= 4
    np.testing.assert_allclose(mean_pool(x, 4), expected, rtol=1e-6, atol=1e-7)


def test_the_gradient_of_halve_goes_to_the_largest():
    x = jnp.float32([[1, 5, 2], [4, 3, 9]]).reshape(1, 2, 3, 1)
    gradient = jax.grad(lambda x: (halve(x) * jnp.float32([2, 7])[None, None, :, None]).sum())(x)
    np.testing.assert_array_equal(gradient[0, ..., 0], [[0, 2, 0], [0, 0, 7]])


def test_windows_cover_each_side():
    assert pool_window((4, 14, 16, 3, 1), 4) == (1, 4, 4, 1, 1)
