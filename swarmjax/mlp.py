"""The family of multilayer perceptrons: many depths, widths and activations in one program.

In its container a narrow network is padded with zeros, which stay zero under training, and a
shallow one skips the layers it does not have.
"""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.activations import ACTIVATIONS, one_of
from swarmjax.models import Family, Sizes
from swarmjax.padded import activation_names, check_sizes, draw, layer_ids, lecun
from swarmjax.space import Space

# Columns are padded to a multiple of this: a product with ten of them, say, runs at a third of the
# speed of one with sixteen.
VECTOR = 8


def padded(columns: int) -> int:
    """`columns` rounded up to whole vectors."""
    return -(-columns // VECTOR) * VECTOR


class MLP(nn.Module):
    """A multilayer perceptron: `depth` hidden layers of `width` units, then `outputs` numbers."""

    outputs: int
    depth: int = 2
    width: int = 64
    activation: str = "relu"

    @nn.compact
    def __call__(self, x):
        """Maps `x` `[B, ...]` to `[B, outputs]`."""
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        for _ in range(self.depth):
            x = ACTIVATIONS[self.activation](nn.Dense(self.width)(x))
        return nn.Dense(self.outputs)(x)


class Box(NamedTuple):
    """Container of MLPs: at most `depth` hidden layers of at most `width` units."""

    depth: int
    width: int


@cache
def mlp(space: Space, features: int, outputs: int) -> Family:
    """The family of MLPs whose depth, width and activation are genes of `space` where it has them.

    Raises:
        InputError: an activation is unknown, or depth or width is not a positive whole number.
    """
    names = activation_names(space)
    for gene in ("depth", "width"):
        check_sizes(space, gene)
    idempotent = np.asarray([name == "relu" for name in names])

    def sizes(box, numbers):
        depth, width = numbers.get("depth", box.depth), numbers.get("width", box.width)
        return Sizes(depth, width, jnp.asarray(idempotent)[numbers.get("activation", 0)])

    def init(key, box, numbers):
        return {"params": _init_dense(key, box, features, outputs, sizes(box, numbers))}

    def apply(box, variables, x, numbers, key=None, deepest=None):
        del key
        activation = one_of(names, numbers.get("activation", 0))
        depth = sizes(box, numbers).depth
        logits = _forward(variables["params"], x, depth, deepest, activation)
        return logits[:, :outputs], {}

    def layers(box, numbers):
        return sizes(box, numbers).depth

    def dead(box, variables, x, numbers):
        activation = one_of(names, numbers.get("activation", 0))
        return _dead(variables["params"], x, *sizes(box, numbers)[:2], activation)

    def crop(variables, architecture):
        return {"params": _crop_dense(variables["params"], _own(architecture), outputs)}

    def build(values):
        return MLP(
            outputs,
            int(values.get("depth", MLP.depth)),
            int(values.get("width", MLP.width)),
            str(values.get("activation", names[0])),
        )

    genes = frozenset(("depth", "width", "activation"))
    flops, parameters = partial(_flops, features, outputs), partial(_parameters, features, outputs)
    return Family(
        init, apply, _contain, _cover, flops, parameters, crop, build, genes, sizes, layers,
        copies=True, dead=dead,
    )  # fmt: skip


def _own(architecture) -> Box:
    """Depth and width of an architecture."""
    sizes = dict(architecture)
    return Box(int(sizes.get("depth", MLP.depth)), int(sizes.get("width", MLP.width)))


def _contain(architecture) -> Box:
    depth, width = _own(architecture)
    return Box(depth, width if width <= VECTOR else padded(width))


def _cover(a: Box, b: Box) -> Box:
    return Box(max(a.depth, b.depth), max(a.width, b.width))


def _flops(features: int, outputs: int, box: Box, architecture) -> float:
    deeper = (_own(architecture).depth - 1) * box.width**2
    return 6.0 * (features * box.width + deeper + box.width * outputs)


def _parameters(features: int, outputs: int, box: Box) -> int:
    deeper = (box.depth - 1) * (box.width + 1) * box.width
    return (features + 1) * box.width + deeper + (box.width + 1) * padded(outputs)


def _init_dense(key, box, features, outputs, sizes):
    depth, width, _ = sizes
    names = [f"Dense_{i}" for i in range(box.depth)] + ["head"]
    rows = [features] + [box.width] * box.depth
    columns_out = padded(outputs)
    draws = draw(key, layer_ids(rows), max(box.width, columns_out))
    params = {}
    for i, (name, drawn) in enumerate(zip(names, draws, strict=True)):
        columns, fan_out = (columns_out, outputs) if name == "head" else (box.width, width)
        fan_in = width if i else features
        used = (jnp.arange(rows[i])[:, None] < fan_in) & (jnp.arange(columns) < fan_out)[None]
        used &= (name == "head") | (i < depth)
        kernel = jnp.where(used, lecun(drawn[:, :columns], fan_in), 0.0)
        params[name] = {"kernel": kernel, "bias": jnp.zeros(columns)}
    return params


def _forward(params, x, depth, deepest, activation):
    x = x.reshape(x.shape[0], -1).astype(jnp.float32)
    for i in range(len(params) - 1):
        layer = partial(_layer, params[f"Dense_{i}"], depth, activation, i)
        if i == 0 or deepest is None:
            x = layer(x)
        else:
            x = jax.lax.cond(i < deepest, layer, lambda x: x, x)
    return x @ params["head"]["kernel"] + params["head"]["bias"][None]


def _dead(params, x, depth, width, activation):
    x, alike = x.reshape(x.shape[0], -1).astype(jnp.float32), 0
    for i in range(len(params) - 1):
        x = _layer(params[f"Dense_{i}"], depth, activation, i, x)
        own = (i < depth) & (jnp.arange(x.shape[1]) < width)
        alike += jnp.sum(own & jnp.all(x == x[:1], axis=0))
    return alike / (depth * width)


def _layer(params, depth, activation, i, x):
    hidden = activation(x @ params["kernel"] + params["bias"][None])
    return hidden if i == 0 else jnp.where(i < depth, hidden, x)


def _crop_dense(params, box, outputs):
    out = {}
    for i in range(box.depth):
        layer = params[f"Dense_{i}"]
        rows = layer["kernel"].shape[0] if i == 0 else box.width
        out[f"Dense_{i}"] = {
            "kernel": layer["kernel"][:rows, : box.width],
            "bias": layer["bias"][: box.width],
        }
    head = params["head"]
    out[f"Dense_{box.depth}"] = {
        "kernel": head["kernel"][: box.width, :outputs],
        "bias": head["bias"][:outputs],
    }
    return out
