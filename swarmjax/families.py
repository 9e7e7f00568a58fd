"""The built-in families of networks by name, made to fit a task's examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from swarmjax.cnn import cnn
from swarmjax.mlp import mlp
from swarmjax.models import Family
from swarmjax.space import Space
from swarmjax.transformer import transformer
from swarmjax.types import Array, InputError

Maker = Callable[[Space, Array, int], Family]


def make_family(name: str, space: Space, example: Array, outputs: int) -> Family:
    """The built-in family `name`.

    Args:
        name: one of `FAMILIES`.
        space: the genes; every family says which it reads.
        example: `[1, ...]` one input.
        outputs: numbers to return for one example, or for each token of it.

    Raises:
        InputError: the name is unknown, or a gene or the example does not fit the family.
    """
    if name not in FAMILIES:
        raise InputError(f"model {name!r} is unknown; built-in ones are {', '.join(FAMILIES)}")
    return FAMILIES[name](space, example, outputs)


def _mlp(space: Space, example: Array, outputs: int) -> Family:
    return mlp(space, int(np.prod(example.shape[1:])), outputs)


def _cnn(space: Space, example: Array, outputs: int) -> Family:
    return cnn(space, example.shape[1:], outputs)


def _transformer(space: Space, example: Array, outputs: int) -> Family:
    if example.ndim != 2 or example.dtype != np.int32:
        raise InputError(
            f"a transformer needs tokens [n, T], whole numbers, got inputs of shape "
            f"{example.shape[1:]}, {example.dtype}; use another model"
        )
    return transformer(space, example.shape[1], outputs)


FAMILIES: dict[str, Maker] = {"mlp": _mlp, "cnn": _cnn, "transformer": _transformer}

# What a task is learned by, unless a model is named, for each kind of its targets.
USUAL = {"classes": "mlp", "numbers": "mlp", "tokens": "transformer"}
