"""How a child's weights come from one parent or two: pure functions over parameter pytrees.

`breed(operator, key, a, b)` equals `a` for every operator that takes two parents where both are
`a`, except for the last bit of averages. Both have one architecture; `resize` makes it so.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from optax.assignment import hungarian_algorithm

from swarmjax.models import Sizes
from swarmjax.types import Array, Key

Params = dict[str, Any]

# Of the weights that shrinking keeps, and of fresh ones that perturbing adds.
SHRINK, PERTURB = 0.8, 0.2

# Standard deviation of mutation, as a share of the root mean square of a leaf.
NOISE = 0.1

# Passes over all layers when units are matched; pairs of MLPs settle after about five.
_SWEEPS = 5


def clone(key: Key, a: Params, b: Params) -> Params:
    """The first parent."""
    del key, b
    return a


def uniform(key: Key, a: Params, b: Params) -> Params:
    """Each weight from either parent, by a fair coin."""
    return _by_coin(key, a, b, lambda leaf: leaf.shape)


def neuron(key: Key, a: Params, b: Params) -> Params:
    """Each unit, its incoming weights and its bias, from either parent."""
    return _by_coin(key, a, b, lambda leaf: leaf.shape[-1:])


def layer(key: Key, a: Params, b: Params) -> Params:
    """Each layer from either parent."""
    return _by_coin(key, a, b, lambda leaf: ())


def average(key: Key, a: Params, b: Params) -> Params:
    """The mean of both parents, as in a soup of models (Wortsman et al. 2022, arXiv:2203.05482)."""
    del key
    return jax.tree.map(lambda x, y: (0.5 * (x + y)).astype(x.dtype), a, b)


def shrink(key: Key, a: Params, b: Params) -> Params:
    """The first parent's weights times `SHRINK`: the control of every averaging."""
    del key, b
    return jax.tree.map(lambda x: (SHRINK * x).astype(x.dtype), a)


def noise(key: Key, a: Params, b: Params) -> Params:
    """The first parent's weights with Gaussian noise in proportion to each leaf; zeros stay."""
    del b
    leaves, structure = jax.tree.flatten(a)
    keys = jax.random.split(key, len(leaves))

    def mutate(key, x):
        used = x != 0
        size = jnp.sqrt(jnp.sum(x * x) / jnp.maximum(jnp.sum(used), 1))
        return (x + used * NOISE * size * jax.random.normal(key, x.shape)).astype(x.dtype)

    return jax.tree.unflatten(structure, [mutate(*pair) for pair in zip(keys, leaves, strict=True)])


# Every operator by its place in a Plan; the last ones need weights beside the two parents'.
SIMPLE: dict[str, Callable[[Key, Params, Params], Params]] = {
    "clone": clone,
    "uniform": uniform,
    "neuron": neuron,
    "layer": layer,
    "average": average,
    "shrink": shrink,
    "noise": noise,
}
OPERATORS = (*SIMPLE, "perturb", "aligned", "union")

# They know what a unit is, so the family must have `sizes`.
OF_UNITS = frozenset(("aligned", "union"))

# They read a second parent.
OF_TWO = frozenset(("uniform", "neuron", "layer", "average", "aligned", "union"))


def combine(operator: Array, key: Key, a: Params, b: Params, units: Sizes | None) -> Params:
    """The child of `a` and `b` by the operator of that number, all of one architecture.

    Args:
        operator: `[]` index into `OPERATORS`; `union`, whose child is wider, and `perturb`, which
            needs fresh weights, give `a` here.
        key: of coins and noise.
        a: the first parent.
        b: the second.
        units: of padded dense layers; None for other networks, which `aligned` takes as they are.
    """
    simple = [partial(rule, key, a, b) for rule in SIMPLE.values()]

    def aligned():
        return average(key, a, b if units is None else align(a, b, units))

    return jax.lax.switch(operator, [*simple, lambda: a, aligned, lambda: a])


def perturb(params: Params, fresh: Params) -> Params:
    """Shrink and perturb (Ash & Adams 2020, arXiv:1910.08475)."""
    return jax.tree.map(lambda x, y: (SHRINK * x + PERTURB * y).astype(x.dtype), params, fresh)


def align(a: Params, b: Params, sizes: Sizes) -> Params:
    """The function of `b` with the hidden units of every layer in the order that fits `a` best.

    Weight matching by linear assignment, layer after layer, after Ainsworth et al. 2023 (Git
    Re-Basin, arXiv:2209.04836). Units that pad stay where they are.

    Args:
        a: padded dense layers.
        b: others of the same sizes.
        sizes: of both.
    """

    def sweep(_, b):
        for i in range(len(b) - 1):
            b = _reorder(a, b, i, sizes)
        return b

    return jax.lax.fori_loop(0, _SWEEPS, sweep, b)


def union(a: Params, b: Params, width: Array) -> Params:
    """Both networks side by side, twice as wide: its outputs are the mean of theirs.

    So they are where both have one activation.

    Args:
        a: padded dense layers of `width` units, in a container `[W]`.
        b: others of the same depth, perhaps in a wider or narrower container.
        width: `[]` units of `a`; those of `b` follow them.
    """
    room = a["head"]["kernel"].shape[0] + b["head"]["kernel"].shape[0]
    out = {}
    for name in a:
        left, right = a[name], b.get(name, jax.tree.map(jnp.zeros_like, a[name]))
        rows, columns = name != "Dense_0", name != "head"
        share = 1.0 if columns else 0.5
        kernels = (
            _widened(left["kernel"], room, rows, columns, 0)
            + _widened(right["kernel"], room, rows, columns, width)
        )  # fmt: skip
        biases = (
            _widened(left["bias"][None], room, False, columns, 0)
            + _widened(right["bias"][None], room, False, columns, width)
        )[0]  # fmt: skip
        out[name] = {"kernel": share * kernels, "bias": share * biases}
    return out


def _by_coin(key: Key, a: Params, b: Params, shape: Callable[[Any], tuple[int, ...]]) -> Params:
    """Leaves of both, by coins of a shape; leaves of one layer and one shape share their coins."""
    paths, structure = jax.tree.flatten_with_path(a)
    layers = list(dict.fromkeys(str(path[:-1]) for path, _ in paths))
    chosen = []
    for (path, x), y in zip(paths, jax.tree.leaves(b), strict=True):
        own = jax.random.fold_in(key, layers.index(str(path[:-1])))
        coins = jax.random.bernoulli(own, 0.5, shape(x))
        chosen.append(jnp.where(coins, x, y))
    return jax.tree.unflatten(structure, chosen)


def _reorder(a: Params, b: Params, i: int, sizes: Sizes) -> Params:
    """`b` with the units of hidden layer `i` in the order that fits those of `a`."""
    last = len(b) - 2
    name, after = f"Dense_{i}", f"Dense_{i + 1}" if i < last else "head"
    # The last layer in use is followed by the head, whatever the container has between them.
    at_end = i + 1 >= sizes.depth
    into = a[name]["kernel"].T @ b[name]["kernel"]
    into = into + a[name]["bias"][:, None] * b[name]["bias"][None]
    head = a["head"]["kernel"] @ b["head"]["kernel"].T
    onward = head if after == "head" else a[after]["kernel"] @ b[after]["kernel"].T
    gain = into + jnp.where(at_end, head, onward)
    order = _assign(gain, jnp.where(i < sizes.depth, sizes.width, 0))
    out = {layer: dict(parts) for layer, parts in b.items()}
    out[name] = {"kernel": b[name]["kernel"][:, order], "bias": b[name]["bias"][order]}
    if after != "head":
        out[after]["kernel"] = jnp.where(at_end, out[after]["kernel"], out[after]["kernel"][order])
    rows = out["head"]["kernel"]
    out["head"]["kernel"] = jnp.where(at_end & (i < sizes.depth), rows[order], rows)
    return out


def _assign(gain: jax.Array, width: Array) -> jax.Array:
    """For each unit of one network `[W]` the unit of the other, for the largest sum of `gain`."""
    slots = jnp.arange(len(gain))
    used = slots < width
    both, pads = used[:, None] & used[None], ~used[:, None] & ~used[None]
    # Real units must go to real ones, and padding to itself.
    apart = 1.0 + 2.0 * jnp.sum(jnp.abs(jnp.where(both, gain, 0.0)))
    same = pads & (slots[:, None] == slots[None])
    cost = jnp.where(both, -gain, jnp.where(same, -apart, apart))
    rows, columns = hungarian_algorithm(cost)
    return jnp.zeros_like(slots).at[rows].set(columns)


def _widened(matrix, room: int, rows: bool, columns: bool, offset: Any):
    """The matrix in one with `room` rows and columns, moved by `offset` along both where asked."""
    for axis, asked in ((0, rows), (1, columns)):
        if asked:
            extra = [(0, 0), (0, 0)]
            extra[axis] = (0, room - matrix.shape[axis])
            matrix = jnp.roll(jnp.pad(matrix, extra), offset, axis)
    return matrix
