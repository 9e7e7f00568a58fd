"""What families of zero-padded networks share: initial draws and checks of their genes.

A draw is made for a row of a weight matrix by the row's own number, so that a network starts with
the same weights in every container.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.activations import ACTIVATIONS
from swarmjax.space import Choice, Space
from swarmjax.types import Array, InputError, Key

# Place of the last layer, the same however many layers come before it.
HEAD = 2**15


def row_ids(places: int | np.ndarray, rows: int) -> np.ndarray:
    """Numbers `[..., rows]` of the rows of the matrices at `places` `[...]`."""
    ids = np.asarray(places)[..., None] * 2**16 + np.arange(rows)
    return ids.astype(np.uint32)


def layer_ids(rows: Sequence[int]) -> list[np.ndarray]:
    """Numbers of the rows of layers one after another, of `rows` rows each, the head last."""
    places = [*range(len(rows) - 1), HEAD]
    return [row_ids(place, n) for place, n in zip(places, rows, strict=True)]


def draw(key: Key, ids: Sequence[np.ndarray], columns: int) -> list[jax.Array]:
    """Uniform draws in `[-1, 1)`, `[..., columns]` for each array of row numbers `[...]`.

    One key per row, and only exact arithmetic on its bits: an entry's value then does not depend,
    to the last bit, on how far a kernel is padded.
    """
    flat = np.concatenate([each.reshape(-1) for each in ids])
    # One generator for all layers, since each one in a program costs a second to compile.
    keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, flat)
    draws = jax.vmap(lambda k: jax.random.uniform(k, (columns,), minval=-1.0, maxval=1.0))(keys)
    parts = jnp.split(draws, np.cumsum([each.size for each in ids])[:-1])
    return [part.reshape(*each.shape, columns) for part, each in zip(parts, ids, strict=True)]


def lecun(draws: jax.Array, fan_in: Array | int) -> jax.Array:
    """Uniform draws in `[-1, 1)` scaled to variance `1 / fan_in`, which may be traced."""
    return draws * jnp.sqrt(3.0 / jnp.asarray(fan_in, jnp.float32))


def activation_names(space: Space) -> tuple[str, ...]:
    """Options of the gene `activation`, relu alone without it; InputError if one is unknown."""
    gene = space["activation"] if "activation" in space else Choice(("relu",))
    options = gene.options if isinstance(gene, Choice) else ()
    names = tuple(str(option) for option in options)
    if not names or any(name not in ACTIVATIONS for name in names):
        raise InputError(
            f"gene 'activation' must choose among {', '.join(ACTIVATIONS)}; "
            f"got {', '.join(names) or 'a range'}"
        )
    return names


def check_sizes(space: Space, name: str, allowed: Sequence[int] | None = None) -> None:
    """Raises InputError if gene `name` is not a structure of sizes >= 1, or of `allowed` ones."""
    if name not in space:
        return
    gene = space[name]
    sizes = gene.options if isinstance(gene, Choice) and gene.structural else ()
    wanted = ">= 1" if allowed is None else f"among {', '.join(map(str, allowed))}"
    fits = [type(n) is int and (n >= 1 if allowed is None else n in allowed) for n in sizes]  # pyright: ignore[reportOperatorIssue]
    if not fits or not all(fits):
        raise InputError(
            f"gene {name!r} must be structure(...) of whole numbers {wanted}, got {gene}"
        )
