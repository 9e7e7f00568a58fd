"""Changes of one member's weights: pure functions over its parameter pytree.

`resize` moves padded dense layers to another depth and width. Its rule:

- wider: new units get fresh incoming and zero outgoing weights; the function is unchanged;
- narrower: the units of largest importance (norm in x norm out) stay;
- deeper, where the activation is idempotent (relu): identity layers; the function is unchanged;
- any other change of depth: fresh weights.

`repad` moves them to another container, as they are.

Widening and deepening after Chen et al. 2016 (Net2Net, arXiv:1511.05641), with zero-out units.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.mlp import Box
from swarmjax.models import Sizes

Params = dict[str, Any]


def resize(params: Params, fresh: Params, old: Sizes, new: Sizes, box: Box) -> tuple[Params, Any]:
    """Weights for the size `new`, and whether they were inherited rather than fresh.

    Args:
        params: padded dense layers of size `old`, in their own container.
        fresh: new weights of size `new` in the container `box`.
        old: sizes of `params`.
        new: sizes wanted; must fit `box`.
        box: the container of the result.
    """
    depth = sum(name != "head" for name in params)
    moved = _narrow(params, depth, old, new)
    moved = _fit(moved, fresh)
    moved = _widen(moved, fresh, old, new)
    moved = _deepen(moved, box, old, new)
    kept = (new.depth == old.depth) | ((new.depth > old.depth) & old.idempotent & new.idempotent)
    return jax.tree.map(lambda a, b: jnp.where(kept, a, b), moved, fresh), kept


def _narrow(params: Params, depth: int, old: Sizes, new: Sizes) -> Params:
    """Orders the units of every hidden layer by importance if there are too many."""
    head = params["head"]
    out = {name: dict(layer) for name, layer in params.items()}
    rows = head["kernel"]
    for i in range(depth):
        layer, follower = params[f"Dense_{i}"], params.get(f"Dense_{i + 1}", head)
        last = i + 1 >= old.depth
        outgoing = jnp.where(last, _row_norm(head["kernel"]), _row_norm(follower["kernel"]))
        importance = _row_norm(layer["kernel"].T) * outgoing
        slots = jnp.arange(len(importance))
        order = jnp.argsort(jnp.where(slots < old.width, -importance, jnp.inf), stable=True)
        order = jnp.where((new.width < old.width) & (i < old.depth), order, slots)
        out[f"Dense_{i}"]["kernel"] = out[f"Dense_{i}"]["kernel"][:, order]
        out[f"Dense_{i}"]["bias"] = layer["bias"][order]
        if i + 1 < depth:
            out[f"Dense_{i + 1}"]["kernel"] = out[f"Dense_{i + 1}"]["kernel"][order]
        rows = jnp.where(i + 1 == old.depth, head["kernel"][order], rows)
    out["head"]["kernel"] = rows
    return out


def _fit(params: Params, like: Params) -> Params:
    """Pads with zeros or cuts every layer to the shapes of `like`."""
    return {
        name: {part: _pad(params.get(name, {}).get(part), leaf) for part, leaf in layer.items()}
        for name, layer in like.items()
    }


def _pad(array, like):
    if array is None:
        return jnp.zeros_like(like)
    array = array[tuple(slice(0, size) for size in like.shape)]
    extra = [(0, size - have) for size, have in zip(like.shape, array.shape, strict=True)]
    return jnp.pad(array, extra)


def _widen(params: Params, fresh: Params, old: Sizes, new: Sizes) -> Params:
    """Zeroes units beyond the new width; units beyond the old one become fresh in, zero out."""
    out = {}
    for name, layer in params.items():
        kernel, bias = layer["kernel"], layer["bias"]
        rows = jnp.arange(kernel.shape[0])[:, None]
        if name != "Dense_0":
            kernel = jnp.where(rows < jnp.minimum(old.width, new.width), kernel, 0.0)
        if name != "head":
            columns = jnp.arange(kernel.shape[1])
            added = (columns >= old.width) & (columns < new.width)
            gone = columns >= new.width
            kernel = jnp.where(gone[None], 0.0, kernel)
            kernel = jnp.where(added[None], fresh[name]["kernel"], kernel)
            bias = jnp.where(gone | added, 0.0, bias)
        out[name] = {"kernel": kernel, "bias": bias}
    return out


def _deepen(params: Params, box: Box, old: Sizes, new: Sizes) -> Params:
    """Puts identity layers between the old last hidden layer and the new one."""
    out = dict(params)
    for i in range(1, box.depth):
        layer = params[f"Dense_{i}"]
        size = layer["bias"].shape[0]
        identity = jnp.where(jnp.arange(size) < new.width, 1.0, 0.0)[:, None] * jnp.eye(size)
        added = (i >= old.depth) & (i < new.depth)
        out[f"Dense_{i}"] = {
            "kernel": jnp.where(added, identity, layer["kernel"]),
            "bias": jnp.where(added, 0.0, layer["bias"]),
        }
    return out


def repad(state: Any, blank: Any, held: Params, room: Params) -> Any:
    """What belongs to weights of one container, padded as those of another.

    Args:
        state: the weights, or optimizer state of any kind: leaves shaped like weights, or vectors
            of all of them.
        blank: the same of weights of zero in the other container.
        held: the weights, in their own container.
        room: weights of zero in the other container.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(blank)
    found = dict(jax.tree_util.tree_leaves_with_path(state))

    def moved(path, like):
        leaf = found.get(path)
        if leaf is None or leaf.shape == like.shape:
            return like if leaf is None else leaf
        every = leaf.shape == (_count(held),) and like.shape == (_count(room),)
        return _repad_vector(leaf, held, room) if every else _pad(leaf, like)

    return jax.tree.unflatten(structure, [moved(path, like) for path, like in leaves])


def _repad_vector(vector, held: Params, room: Params):
    """`vector` has one number for each of all weights `held`, one leaf after the other."""
    leaves, structure = jax.tree.flatten(held)
    parts = jnp.split(vector, np.cumsum([leaf.size for leaf in leaves])[:-1])
    shaped = [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]
    moved = _fit(jax.tree.unflatten(structure, shaped), room)
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(moved)])


def _count(params: Params) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def _row_norm(kernel):
    return jnp.sqrt(jnp.sum(kernel * kernel, axis=1))
