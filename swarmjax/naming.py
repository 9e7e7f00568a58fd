"""Trees as arrays by name, which is how they are kept on disk, and back again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.errors import InputError

Named = dict[str, np.ndarray]


def named(tree: Any, prefix: str = "") -> Named:
    """A copy on the host of every leaf, by `prefix` and its path in the tree."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {prefix + jax.tree_util.keystr(path): _on_host(leaf) for path, leaf in leaves}


def weak(tree: Any, prefix: str = "") -> list[str]:
    """Names of the leaves whose type gives way to others, as that of a Python number does."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [
        prefix + jax.tree_util.keystr(path)
        for path, leaf in leaves
        if getattr(leaf, "weak_type", isinstance(leaf, bool | int | float))
    ]


def rebuilt(like: Any, arrays: Mapping[str, np.ndarray], prefix: str = "", weak=()) -> Any:
    """The tree of the structure of `like` whose leaves are among `arrays`.

    Args:
        like: only its structure counts, and which leaves are keys of random numbers.
        arrays: from `named`, perhaps with others.
        prefix: as given to `named`.
        weak: from `weak`.

    Raises:
        InputError: there are others of that prefix, or some are missing.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [prefix + jax.tree_util.keystr(path) for path, _ in paths]
    held = {name for name in arrays if name.startswith(prefix)}
    if odd := sorted(held ^ set(names)):
        raise InputError(f"{odd[0]} is not in both what was saved and what this version keeps")
    leaves = [
        _as_before(arrays[name], leaf, name in weak)
        for name, (_, leaf) in zip(names, paths, strict=True)
    ]
    return jax.tree.unflatten(structure, leaves)


def digest(parts: Iterable[tuple[str, np.ndarray]]) -> bytes:
    """16 bytes that tell these arrays, with their names, types and shapes, from all others."""
    made = hashlib.blake2b(digest_size=16)
    for name, array in parts:
        made.update(f"{name} {array.dtype} {array.shape};".encode())
        made.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return made.digest()


def _on_host(leaf: Any) -> np.ndarray:
    # A copy: what is on a CPU device would be seen through, and changes with the next round.
    return np.array(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _as_before(array: np.ndarray, like: Any, gives_way: bool) -> Any:
    if _is_key(like):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    return jnp.asarray(array.item()) if gives_way and array.ndim == 0 else array


def _is_key(leaf: Any) -> bool:
    kind = getattr(leaf, "dtype", None)
    return kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key)
