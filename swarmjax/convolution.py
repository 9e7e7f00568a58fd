"""Convolution and pooling in forms that stay fast when `vmap` gives every member its own kernel.

A convolution is a product of patches and kernel, which under `vmap` becomes a batched product; a
vmapped `lax.conv` would become a grouped convolution, which trains slower than one member after
another.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution `[B, H, W, O]` of images `[B, H, W, C]`, zeros around, by an odd square kernel.

    Differentiable backwards, once: the gradient of the images is a product of patches as well,
    where autodiff would add up overlapping ones.
    """
    return _product(_patches(x, kernel.shape[0]), kernel)


def _convolve_forward(x, kernel):
    patches = _patches(x, kernel.shape[0])
    return _product(patches, kernel), (patches, kernel)


def _convolve_backward(saved, cotangent):
    patches, kernel = saved
    rows = patches.reshape(-1, patches.shape[-1])
    gradient = rows.T @ cotangent.reshape(-1, cotangent.shape[-1])
    turned = kernel[::-1, ::-1].transpose(0, 1, 3, 2)
    images = _product(_patches(cotangent, kernel.shape[0]), turned)
    return images, gradient.reshape(kernel.shape)


convolve.defvjp(_convolve_forward, _convolve_backward)


def _patches(x, size):
    """What a kernel sees at every pixel: `[B, H, W, size * size * C]`."""
    (height, width), edge = x.shape[1:3], size // 2
    x = jnp.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    shifts = [x[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifts, axis=-1)


def _product(patches, kernel):
    flat = patches.reshape(-1, patches.shape[-1]) @ kernel.reshape(-1, kernel.shape[-1])
    return flat.reshape(*patches.shape[:-1], kernel.shape[-1])


def halve(x: jax.Array) -> jax.Array:
    """Largest values in 2 x 2 windows of images `[B, H, W, C]`, as Flax's with padding SAME."""
    x = _windows(x, (2, 2), -jnp.inf)
    # In pairs: the gradient of a maximum over axes takes three times as long.
    x = jnp.maximum(x[:, :, 0], x[:, :, 1])
    return jnp.maximum(x[:, :, :, 0], x[:, :, :, 1])


def mean_pool(x: jax.Array, cells: int) -> jax.Array:
    """Means over windows, at most `cells` each way, as Flax's with padding SAME: zeros count."""
    return _windows(x, pool_window(x.shape[1:3], cells), 0.0).mean((2, 4))


def pool_window(shape: tuple[int, ...], cells: int) -> tuple[int, ...]:
    """The smallest window of which at most `cells` cover each side."""
    return tuple(-(-size // cells) for size in shape)


def _windows(x, window, fill):
    """`[B, rows, h, columns, w, C]` of the windows `(h, w)` of `x`, the edges filled up."""
    cells = [-(-size // w) for size, w in zip(x.shape[1:3], window, strict=True)]
    lack = [n * w - size for n, w, size in zip(cells, window, x.shape[1:3], strict=True)]
    edges = [(n // 2, n - n // 2) for n in lack]
    x = jnp.pad(x, ((0, 0), *edges, (0, 0)), constant_values=fill)
    return x.reshape(len(x), cells[0], window[0], cells[1], window[1], x.shape[-1])
