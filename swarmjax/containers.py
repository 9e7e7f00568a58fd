"""In which container networks were when they were saved: their shapes tell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from swarmjax.errors import InputError
from swarmjax.following import Homes, home
from swarmjax.members import Member, Recipe, shapes
from swarmjax.models import Architecture, architectures
from swarmjax.naming import Named, rebuilt
from swarmjax.types import Genome


def candidates(recipe: Recipe, homes: Homes, architecture: Architecture) -> list[Any]:
    """Containers in which networks of an architecture may have been, the likeliest first."""
    family = recipe.family
    own = family.contain(architecture)
    others = (box for box in homes.known if family.cover(box, own) == box)
    return list(dict.fromkeys((home(family, homes, architecture), *others, own)))


def candidates_of(recipe: Recipe, homes: Homes, genes: Genome) -> list[Any]:
    """The same for a network of these scalar `genes`."""
    one = {name: np.asarray(value)[None] for name, value in genes.items()}
    ((architecture,), _) = architectures(recipe.space, one)
    return candidates(recipe, homes, architecture)


def recognised(
    recipe: Recipe, boxes: Sequence[Any], arrays: Named, prefix: str, count: int | None = None
) -> tuple[Any, Member]:
    """The container of saved members, and these members.

    Args:
        recipe: what all members share.
        boxes: candidates.
        arrays: from `naming.named`, perhaps with others.
        prefix: of their names.
        count: how many they are, stacked; None: one.

    Raises:
        InputError: they were in none of the boxes.
    """
    mine = {name: leaf for name, leaf in arrays.items() if name.startswith(f"{prefix}.")}
    error = None
    for box in boxes:
        try:
            return box, _members(shapes(recipe, box), box, mine, prefix, count)
        except InputError as wrong:
            error = error or wrong
    raise error or InputError(f"{prefix} was in no container")


def _members(like: Member, box: Any, arrays: Named, prefix: str, count: int | None) -> Member:
    members, front = rebuilt(like, arrays, prefix), () if count is None else (count,)
    for leaf, one in zip(jax.tree.leaves(members), jax.tree.leaves(like), strict=True):
        if (leaf.shape, leaf.dtype) != ((*front, *one.shape), one.dtype):
            raise InputError(
                f"members of {box} were saved as {leaf.dtype}{leaf.shape[len(front) :]}, "
                f"not as {one.dtype}{one.shape}"
            )
    return members
