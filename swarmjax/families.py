"""The built-in families of networks by name, made to fit a task's examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from swarmjax.cnn import cnn
from swarmjax.mlp import mlp
from swarmjax.models import Family
from swarmjax.space import Space, choice, log_uniform, structure
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
    _check_known(name)
    return FAMILIES[name](space, example, outputs)


def usual_space(name: str) -> Space:
    """Genes of networks of many sizes, optimizers and activations of the built-in family `name`."""
    _check_known(name)
    return _SPACES[name]


def _check_known(name: str) -> None:
    if name not in FAMILIES:
        raise InputError(f"model {name!r} is unknown; built-in ones are {', '.join(FAMILIES)}")


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

_SPACES = {
    "mlp": Space(
        learning_rate=log_uniform(1e-4, 1e-1),
        weight_decay=log_uniform(1e-6, 1e-2),
        activation=choice("relu", "gelu", "silu", "tanh"),
        optimizer=choice("sgd", "momentum", "adam", "adamw"),
        depth=structure(1, 2, 3),
        width=structure(16, 32, 64, 128),
    ),
    "cnn": Space(
        learning_rate=log_uniform(3e-4, 3e-2),
        weight_decay=log_uniform(1e-6, 1e-2),
        activation=choice("relu", "gelu", "silu", "tanh"),
        optimizer=choice("momentum", "adam", "adamw"),
        depth=structure(1, 2, 3),
        width=structure(8, 16, 32),
        kernel=structure(3, 5),
    ),
    "transformer": Space(
        learning_rate=log_uniform(1e-4, 1e-2),
        weight_decay=log_uniform(1e-6, 1e-2),
        activation=choice("relu", "gelu", "silu"),
        optimizer=choice("adam", "adamw"),
        depth=structure(1, 2, 3),
        width=structure(32, 64),
    ),
}
