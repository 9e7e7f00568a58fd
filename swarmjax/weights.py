"""Values of chosen parameters of chosen members and their statistics, as columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from swarmjax.members import Recipe
from swarmjax.models import architecture_of
from swarmjax.windows import summary

# Values that are kept of one parameter, evenly spaced among all it has.
MOST_VALUES = 256

Row = dict[str, Any]


def parameter_rows(
    recipe: Recipe, networks: Iterable[tuple[int, Any]], patterns: Sequence[str]
) -> Iterator[Row]:
    """A row for each parameter whose path fits a pattern, of each slot and `members.Network`.

    The paths are those of the Flax module that `result.take_out` makes, without padding.
    """
    for slot, network in networks:
        genes = {name: np.asarray(value)[None] for name, value in network.genome.items()}
        architecture = architecture_of(recipe.space, recipe.space.values(genes, 0))
        own = recipe.family.crop(network.member.variables, architecture)["params"]
        for path, array in sorted(chosen(own, patterns).items()):
            values = np.asarray(array, np.float32).ravel()
            yield {
                "member": slot, "parameter": path, "size": values.size, **summary(values),
                "values": values[places(values.size)],
            }  # fmt: skip


def chosen(params: Mapping[str, Any], patterns: Sequence[str]) -> dict[str, Any]:
    """Path -> array of every parameter that is not empty and whose path fits a pattern."""
    flat: dict[str, Any] = dict(flatten_dict(dict(params), sep="/"))
    return {
        path: array
        for path, array in flat.items()
        if np.size(array) and any(fnmatchcase(path, pattern) for pattern in patterns)
    }


def places(size: int) -> np.ndarray:
    """Which of so many values of a parameter are kept, by number in the flat array."""
    return np.unique(np.linspace(0, size - 1, min(size, MOST_VALUES)).round().astype(np.int64))
