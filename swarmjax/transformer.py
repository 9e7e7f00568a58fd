"""The family of small transformers over tokens: many depths and widths in one program.

In its container a narrow network is padded with zeros and a shallow one with layers of zeros, which
stay zero under training: such a layer adds nothing to the residual stream. Only the norms must be
told the member's own width.
"""

from __future__ import annotations

from functools import cache, partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.activations import ACTIVATIONS, one_of
from swarmjax.models import Family
from swarmjax.padded import activation_names, check_sizes, draw, lecun, row_ids
from swarmjax.space import Space
from swarmjax.types import InputError

# Units of an attention head; a network has as many heads as fit its width.
HEAD = 16

_EPSILON = 1e-6

# Layers in one turn of the loop over layers: to train, a loop of single ones costs half as much
# time again; to compile, a layer written out costs half a second.
_UNROLLED = 6


class Block(nn.Module):
    """Causal attention and an MLP, each added to what it reads through a norm."""

    width: int
    activation: str

    @nn.compact
    def __call__(self, x):
        """Maps `x` `[B, T, width]` to the same shape."""
        attend = nn.MultiHeadDotProductAttention(self.width // HEAD, use_bias=False)
        x = x + attend(nn.RMSNorm()(x), mask=nn.make_causal_mask(x[..., 0]))
        hidden = nn.Dense(4 * self.width, use_bias=False)(nn.RMSNorm()(x))
        return x + nn.Dense(self.width, use_bias=False)(ACTIVATIONS[self.activation](hidden))


class Transformer(nn.Module):
    """A decoder-only transformer with learned positions, its norms before attention and MLP.

    Attributes:
        outputs: size of the vocabulary.
        length: tokens it can read.
        depth: layers.
        width: units of the residual stream, in heads of 16.
        activation: of the MLPs, which are four times as wide.
    """

    outputs: int
    length: int
    depth: int = 2
    width: int = 32
    activation: str = "gelu"

    @nn.compact
    def __call__(self, x):
        """Maps tokens `[B, T]` to logits `[B, T, outputs]` of the token after each."""
        normal, shape = nn.initializers.normal, (self.length, self.width)
        place = self.param("position", normal(self.width**-0.5), shape)
        embed = nn.Embed(self.outputs, self.width, embedding_init=normal(1.0))
        x = embed(x) + place[None, : x.shape[1]]
        for _ in range(self.depth):
            x = Block(self.width, self.activation)(x)
        return nn.Dense(self.outputs, use_bias=False)(nn.RMSNorm()(x))


class Stack(NamedTuple):
    """Container of transformers: at most `depth` layers of at most `width` units."""

    depth: int
    width: int


@cache
def transformer(space: Space, length: int, outputs: int) -> Family:
    """The family of transformers whose depth, width and activation are genes where space has them.

    Args:
        space: the genes.
        length: tokens of an example.
        outputs: size of the vocabulary.

    Raises:
        InputError: an activation is unknown, depth is not a positive whole number, or width is no
            multiple of 16.
    """
    names = activation_names(space)
    for gene in ("depth", "width"):
        check_sizes(space, gene)
    _check_heads(space)

    def init(key, stack, numbers):
        own = Stack(layers(stack, numbers), numbers.get("width", stack.width))
        return {"params": _init(key, stack, own, length, outputs)}

    def apply(stack, variables, x, numbers, key=None, deepest=None):
        del key
        width = numbers.get("width", stack.width)
        activation = one_of(names, numbers.get("activation", 0))
        return _forward(variables["params"], x, width, activation, deepest), {}

    def layers(stack, numbers):
        return numbers.get("depth", stack.depth)

    def crop(variables, architecture):
        return {"params": _crop(variables["params"], _contain(architecture))}

    def build(values):
        return Transformer(
            outputs,
            length,
            int(values.get("depth", Transformer.depth)),
            int(values.get("width", Transformer.width)),
            str(values.get("activation", names[0])),
        )

    genes = frozenset(("depth", "width", "activation"))
    flops, parameters = partial(_flops, length, outputs), partial(_parameters, length, outputs)
    return Family(
        init, apply, _contain, _cover, flops, parameters, crop, build, genes, None, layers
    )


def _contain(architecture) -> Stack:
    sizes = dict(architecture)
    depth, width = sizes.get("depth", Transformer.depth), sizes.get("width", Transformer.width)
    return Stack(int(depth), int(width))


def _cover(a: Stack, b: Stack) -> Stack:
    return Stack(max(a.depth, b.depth), max(a.width, b.width))


def _flops(length: int, outputs: int, stack: Stack, architecture) -> float:
    depth, width = _contain(architecture).depth, stack.width
    weights = depth * 12 * width**2 + width * outputs
    # Scores of all pairs of tokens, and the mean of values that they weigh.
    attention = depth * 2 * length * width
    return 6.0 * length * (weights + attention)


def _parameters(length: int, outputs: int, stack: Stack) -> int:
    layers = stack.depth * (12 * stack.width + 2) * stack.width
    return layers + (2 * outputs + length + 1) * stack.width


def _check_heads(space: Space) -> None:
    widths = space["width"].options if "width" in space else ()  # pyright: ignore[reportAttributeAccessIssue]
    if any(width % HEAD for width in widths):
        raise InputError(f"gene 'width' must be multiples of {HEAD}, a head's units, got {widths}")


def _init(key, stack, own, length, outputs):
    """Weights of one network of the size `own` in `stack`, zero beyond it."""
    depth, width = stack
    embed, position, head, *matrices = _draw(key, stack, own, length, outputs)
    here = (jnp.arange(depth) < own.depth)[:, None]
    query, keys, value, out, up, down = (
        jnp.where((here & _used(table.shape[1], width, own))[..., None], table, 0.0)
        for table in matrices
    )
    norm = jnp.where(_used(width, width, own), 1.0, 0.0)
    norms = jnp.where(here, norm, 0.0)
    qkv, up = jnp.stack([query, keys, value], axis=2), up.swapaxes(1, 2)
    layers = {"norm_attention": norms, "qkv": qkv, "out": out,
              "norm_mlp": norms, "up": up, "down": down}  # fmt: skip
    return {"embed": embed, "position": position, "layers": layers, "norm": norm[0], "head": head.T}


def _draw(key, stack, own, length, outputs):
    """Tables of token, position and head, and the six matrices of all layers, `[..., width]` each.

    A matrix with more columns than the stream has units is drawn as its transpose.
    """
    depth, width = stack
    ids = [row_ids(place, n) for place, n in enumerate((outputs, length, outputs))]
    places = 3 + np.arange(6 * depth).reshape(depth, 6)
    rows = [width, width, width, width, 4 * width, 4 * width]
    ids += [row_ids(places[:, i], n) for i, n in enumerate(rows)]
    # Tokens have the variance that norms give to what other layers read.
    fans = [1, *[own.width] * 7, 4 * own.width]
    drawn = [lecun(table, fan) for table, fan in zip(draw(key, ids, width), fans, strict=True)]
    return [jnp.where(_used(width, width, own), table, 0.0) for table in drawn]


def _used(rows, width, own):
    """Which of `rows` rows `[1, rows]` of a matrix belong to units that a network has."""
    return (jnp.arange(rows) * width < own.width * rows)[None]


def _forward(params, tokens, width, activation, deepest):
    batch, length = tokens.shape
    x = jnp.take(params["embed"], tokens, axis=0) + params["position"][None, :length]
    layer = partial(_layer, width, activation, length)

    def step(x, numbered):
        i, weights = numbered
        if deepest is None:
            return layer(weights, x), None
        return jax.lax.cond(i < deepest, layer, lambda _, x: x, weights, x), None

    numbered = jnp.arange(len(params["layers"]["out"])), params["layers"]
    x, _ = jax.lax.scan(step, x.reshape(batch * length, -1), numbered, unroll=_UNROLLED)
    logits = _norm(x, params["norm"], width) @ params["head"]
    return logits.reshape(batch, length, -1)


def _layer(width, activation, length, weights, x):
    """One layer on the stream `x` `[B T, W]`."""
    x = x + _attend(weights, length, _norm(x, weights["norm_attention"], width))
    hidden = activation(_norm(x, weights["norm_mlp"], width) @ weights["up"])
    return x + hidden @ weights["down"]


def _norm(x, scale, width):
    """Root mean square norm over the `width` units in use; the others are zero and stay so."""
    square = jnp.sum(x * x, axis=-1, keepdims=True) / width
    return x * (jax.lax.rsqrt(square + _EPSILON) * scale[None])


def _attend(weights, length, x):
    """Causal attention of the tokens of each example in `x` `[B T, W]`."""
    tokens, width = x.shape
    qkv = x @ weights["qkv"].reshape(width, 3 * width)
    heads = qkv.reshape(tokens // length, length, 3, width // HEAD, HEAD)
    query, key, value = heads.transpose(2, 0, 3, 1, 4)
    scores = jnp.einsum("bhtd,bhsd->bhts", query, key) / np.sqrt(HEAD)
    past = np.tri(length, dtype=bool)[None, None]
    shares = jax.nn.softmax(jnp.where(past, scores, jnp.finfo(scores.dtype).min))
    mixed = jnp.einsum("bhts,bhsd->bhtd", shares, value)
    return mixed.swapaxes(1, 2).reshape(tokens, width) @ weights["out"]


def _crop(params, own):
    depth, width = own
    out = {
        "Embed_0": {"embedding": params["embed"][:, :width]},
        "position": params["position"][:, :width],
        "RMSNorm_0": {"scale": params["norm"][:width]},
        "Dense_0": {"kernel": params["head"][:width]},
    }
    for i in range(depth):
        weights = {name: leaf[i] for name, leaf in params["layers"].items()}
        out[f"Block_{i}"] = _crop_block(weights, width)
    return out


def _crop_block(weights, width):
    heads = (width // HEAD, HEAD)
    qkv = weights["qkv"][:width, :, :width].reshape(width, 3, *heads)
    attention = {name: {"kernel": qkv[:, i]} for i, name in enumerate(("query", "key", "value"))}
    attention["out"] = {"kernel": weights["out"][:width, :width].reshape(*heads, width)}
    return {
        "RMSNorm_0": {"scale": weights["norm_attention"][:width]},
        "MultiHeadDotProductAttention_0": attention,
        "RMSNorm_1": {"scale": weights["norm_mlp"][:width]},
        "Dense_0": {"kernel": weights["up"][:width, : 4 * width]},
        "Dense_1": {"kernel": weights["down"][: 4 * width, :width]},
    }
