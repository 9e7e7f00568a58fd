"""The family of small convolutional networks: many depths, widths and kernels in one program.

In its container a narrow network and a small kernel are padded with zeros, which stay zero under
training, and a shallow network skips the layers it does not have.
"""

from __future__ import annotations

import math
from functools import cache, partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.activations import ACTIVATIONS, one_of
from swarmjax.convolution import convolve, halve, mean_pool, pool_window
from swarmjax.models import Family
from swarmjax.padded import HEAD, activation_names, check_sizes, draw, lecun, row_ids
from swarmjax.space import Space
from swarmjax.types import InputError

KERNELS = (1, 3, 5)

# The dense head sees this many by this many averages at most.
_CELLS = 4


class CNN(nn.Module):
    """A small convolutional network: `depth` convolutions, the first one's output max-pooled by 2.

    The last one's output is averaged to at most 4 x 4 cells, which a dense layer maps to `outputs`.
    """

    outputs: int
    depth: int = 2
    width: int = 16
    kernel: int = 3
    activation: str = "relu"

    @nn.compact
    def __call__(self, x):
        """Maps images `[B, H, W]` or `[B, H, W, C]`, or flat square ones `[B, n]`."""
        x = x.reshape(-1, *image_shape(x.shape[1:])).astype(jnp.float32)
        for i in range(self.depth):
            x = nn.Conv(self.width, (self.kernel, self.kernel))(x)
            if i == 0:
                x = nn.max_pool(x, (2, 2), (2, 2), "SAME")
            x = ACTIVATIONS[self.activation](x)
        window = pool_window(x.shape[1:3], _CELLS)
        x = nn.avg_pool(x, window, window, "SAME")
        return nn.Dense(self.outputs)(x.reshape(x.shape[0], -1))


class ConvBox(NamedTuple):
    """Container of CNNs: at most `depth` layers of at most `width` channels and this `kernel`."""

    depth: int
    width: int
    kernel: int


def image_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Height, width and channels of inputs of this shape.

    Raises:
        InputError: they are not images.
    """
    if len(shape) == 3 and min(shape) > 0:
        return shape
    if len(shape) == 2 and min(shape) > 0:
        return (*shape, 1)
    side = math.isqrt(math.prod(shape))
    if len(shape) == 1 and side and side * side == shape[0]:
        return side, side, 1
    raise InputError(
        f"a CNN needs images [H, W] or [H, W, C], or flat ones of a square number of pixels, got "
        f"inputs of shape {shape}; reshape them or use model='mlp'"
    )


@cache
def cnn(space: Space, shape: tuple[int, ...], outputs: int) -> Family:
    """The family of CNNs whose depth, width, kernel and activation are genes where space has them.

    Args:
        space: the genes.
        shape: of one input.
        outputs: numbers wanted for one input.

    Raises:
        InputError: inputs are no images, an activation is unknown, or depth, width or kernel is not
            a size that can be.
    """
    image, names = image_shape(shape), activation_names(space)
    for gene, allowed in (("depth", None), ("width", None), ("kernel", KERNELS)):
        check_sizes(space, gene, allowed)
    grid, cells = _grids(image)

    def init(key, box, numbers):
        return {"params": _init(key, box, _own(box, numbers), image[2], cells, outputs)}

    def apply(box, variables, x, numbers, key=None, deepest=None):
        del key
        activation = one_of(names, numbers.get("activation", 0))
        x = x.reshape(x.shape[0], *image).astype(jnp.float32)
        depth, _, kernel = _own(box, numbers)
        return _forward(variables["params"], x, depth, kernel, deepest, activation), {}

    def layers(box, numbers):
        return _own(box, numbers).depth

    def flops(box, architecture):
        depth, taps = _contain(architecture).depth, box.kernel**2
        first = math.prod(image) * taps * box.width
        later = (depth - 1) * math.prod(grid) * taps * box.width**2
        return 6.0 * (first + later + cells * box.width * outputs)

    def parameters(box):
        taps = box.kernel**2
        later = (box.depth - 1) * (taps * box.width + 1) * box.width
        return (taps * image[2] + 1) * box.width + later + (cells * box.width + 1) * outputs

    def crop(variables, architecture):
        return {"params": _crop(variables["params"], _contain(architecture))}

    def build(values):
        box = _contain([(name, values[name]) for name in ConvBox._fields if name in values])
        return CNN(outputs, *box, activation=str(values.get("activation", names[0])))

    genes = frozenset((*ConvBox._fields, "activation"))
    return Family(
        init, apply, _contain, _cover, flops, parameters, crop, build, genes, None, layers
    )


def _contain(architecture) -> ConvBox:
    sizes = dict(architecture)
    return ConvBox(*(int(sizes.get(name, getattr(CNN, name))) for name in ConvBox._fields))


def _cover(a: ConvBox, b: ConvBox) -> ConvBox:
    return ConvBox(*map(max, a, b))


def _own(box: ConvBox, numbers) -> ConvBox:
    """What a member uses of its container; traced where genes are."""
    return ConvBox(*(numbers.get(name, getattr(box, name)) for name in ConvBox._fields))


def _grids(image):
    """Height and width after the first layer, and the number of cells that the head sees."""
    grid = tuple(-(-size // 2) for size in image[:2])
    window = pool_window(grid, _CELLS)
    return grid, math.prod(-(-size // w) for size, w in zip(grid, window, strict=True))


def _init(key, box, own, channels, cells, outputs):
    layers = range(box.depth)
    inputs = [box.width if i else channels for i in layers]
    # A tap has the same number in every kernel.
    places = np.arange(KERNELS[-1] ** 2).reshape(KERNELS[-1], KERNELS[-1])
    cut = (KERNELS[-1] - box.kernel) // 2
    places = places[cut : cut + box.kernel, cut : cut + box.kernel]
    ids = [row_ids(places + i * KERNELS[-1] ** 2, n) for i, n in enumerate(inputs)]
    ids.append(row_ids(HEAD + np.arange(cells), box.width))
    *kernels, head = draw(key, ids, max(box.width, outputs))
    unit = jnp.arange(box.width) < own.width
    params = {}
    for i, (kernel, rows) in enumerate(zip(kernels, inputs, strict=True)):
        fan_in = own.kernel**2 * (own.width if i else channels)
        used = _taps(box.kernel, own.kernel) & unit[None, None, None] & (i < own.depth)
        used &= (unit if i else jnp.ones(rows, bool))[None, None, :, None]
        kernel = jnp.where(used, lecun(kernel[..., : box.width], fan_in), 0.0)
        params[f"Conv_{i}"] = {"kernel": kernel, "bias": jnp.zeros(box.width)}
    head = jnp.where(unit[None, :, None], lecun(head[..., :outputs], cells * own.width), 0.0)
    return params | {"head": {"kernel": head, "bias": jnp.zeros(outputs)}}


def _taps(size, kernel):
    """Which taps `[size, size, 1, 1]` a kernel of traced size has in the middle of a larger one."""
    distance = np.abs(np.arange(size) - size // 2)
    return (np.maximum.outer(distance, distance) <= kernel // 2)[..., None, None]


def _forward(params, x, depth, kernel, deepest, activation):
    for i in range(len(params) - 1):
        layer = partial(_layer, params[f"Conv_{i}"], depth, kernel, activation, i)
        if i == 0 or deepest is None:
            x = layer(x)
        else:
            x = jax.lax.cond(i < deepest, layer, lambda x: x, x)
    x = mean_pool(x, _CELLS)
    head = params["head"]["kernel"]
    return (
        x.reshape(x.shape[0], -1) @ head.reshape(-1, head.shape[-1]) + params["head"]["bias"][None]
    )


def _layer(params, depth, kernel, activation, i, x):
    # A tap beyond the kernel meets pixels that are not zero: only a mask keeps it from learning.
    taps = jnp.where(_taps(params["kernel"].shape[0], kernel), params["kernel"], 0.0)
    hidden = convolve(x, taps)
    # Before the activation, which then has a quarter of the work.
    hidden = halve(hidden) if i == 0 else hidden
    hidden = activation(hidden + params["bias"][None, None, None])
    return hidden if i == 0 else jnp.where(i < depth, hidden, x)


def _crop(params, box):
    out = {}
    for i in range(box.depth):
        layer = params[f"Conv_{i}"]
        cut = (layer["kernel"].shape[0] - box.kernel) // 2
        middle = slice(cut, cut + box.kernel)
        rows = box.width if i else layer["kernel"].shape[2]
        out[f"Conv_{i}"] = {
            "kernel": layer["kernel"][middle, middle, :rows, : box.width],
            "bias": layer["bias"][: box.width],
        }
    head = params["head"]["kernel"][:, : box.width]
    head = head.reshape(-1, head.shape[-1])
    return out | {"Dense_0": {"kernel": head, "bias": params["head"]["bias"]}}
