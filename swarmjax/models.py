"""Families of networks: how a genome becomes a Flax model that the engine can train.

A *container* is a shape into which several architectures fit by zero padding; one compiled program
trains one container. A family is pure functions over one member's variables. The built-in families
are in `families`; `flax_family` makes one from any Linen module, `nnx_family` from any NNX module.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.space import Option, Space
from swarmjax.types import Array, InputError, Key

Variables = dict[str, Any]
Architecture = tuple[tuple[str, Option], ...]
Numbers = Mapping[str, Any]


class Family(NamedTuple):
    """A family of networks.

    Attributes:
        init: `init(key, container, numbers) -> variables`; a member's values do not depend on the
            container it is padded to.
        apply: `apply(container, variables, x, numbers, key, deepest) -> (outputs, extra)`; `key` is
            None outside training, `extra` holds the collections other than `params`. `deepest` is
            None, or the most layers that any member vmapped beside this one has: it is the same for
            all of them, so that a branch on it stays a branch and layers beyond cost nothing.
        contain: `contain(architecture) -> container`, the tightest one.
        cover: `cover(container, container) -> container` that holds both, or None.
        flops: `flops(container, architecture) -> float`, operations of one training step on one
            example by a member of that architecture: padding counts, layers it has not do not.
        parameters: `parameters(container) -> int`, weights of a member, padding and all.
        crop: `crop(variables, architecture) -> variables` without padding, as `build` wants them.
        build: `build(values) -> flax module` of exactly the member's architecture.
        genes: names of the genes the family reads.
        sizes: `sizes(container, numbers) -> Sizes` if `params` are padded dense layers, which
            `resize.resize` understands; else None.
        layers: `layers(container, numbers) -> []`, the layers a member uses, which `apply` wants
            the maximum of as `deepest`; None if `apply` does not care.
        copies: whether training is faster when every member of a chunk has a copy of the batch, not
            one array for all: so it is where inputs go right into a product with weights.
    """

    init: Callable[[Key, Any, Numbers], Variables]
    apply: Callable[..., tuple[jax.Array, Variables]]
    contain: Callable[[Architecture], Any]
    cover: Callable[[Any, Any], Any]
    flops: Callable[[Any, Architecture], float]
    parameters: Callable[[Any], int]
    crop: Callable[[Variables, Architecture], Variables]
    build: Callable[[Mapping[str, Option]], Any]
    genes: frozenset[str]
    sizes: Callable[[Any, Numbers], Sizes] | None
    layers: Callable[[Any, Numbers], Any] | None
    copies: bool = False
    dead: Callable[[Any, Variables, jax.Array, Numbers], jax.Array] | None = None


class Sizes(NamedTuple):
    """One member's dense layers inside their container.

    Attributes:
        depth: `[]` hidden layers in use.
        width: `[]` units in use in each of them.
        idempotent: `[]` bool, the activation applied twice equals itself applied once.
    """

    depth: Any
    width: Any
    idempotent: Any


def flax_family(space: Space, module: Callable[..., nn.Module], example: Array) -> Family:
    """A family from a user's Linen module: one container for each distinct architecture.

    Args:
        space: its structural genes are passed to `module` by name.
        module: a Linen module class, or a function of the structural genes that returns a module.
            Its `__call__(x, ...)` may take `train: bool`, and `genome`, the member's traced genes.
        example: `[1, ...]` one input.

    Raises:
        InputError: a structural gene is not a parameter of `module`.
    """
    if isinstance(module, nn.Module):
        raise InputError(
            f"model must be a module class or a function that returns a module, got an instance of "
            f"{type(module).__name__}; pass the class"
        )
    taken = inspect.signature(module).parameters
    check_parameters(space, name_of(module), taken, {"name", "parent"})

    def make(architecture):
        return module(**dict(architecture))

    def init(key, architecture, numbers):
        keys = {"params": key, "dropout": jax.random.fold_in(key, 1)}
        net = make(architecture)
        return dict(
            net.init(keys, jnp.asarray(example), **call_arguments(net, numbers, train=False))
        )

    def apply(architecture, variables, x, numbers, key=None, deepest=None):
        del deepest
        net = make(architecture)
        if key is None:
            return net.apply(variables, x, **call_arguments(net, numbers, train=False)), {}
        others = [name for name in variables if name != "params"]
        arguments = call_arguments(net, numbers, train=True)
        # Linen serves streams of other names from `params`.
        rngs = {"dropout": key, "params": jax.random.fold_in(key, 1)}
        return net.apply(variables, x, rngs=rngs, mutable=others, **arguments)

    return module_family(space, make, init, apply)  # pyright: ignore[reportArgumentType]


def module_family(
    space: Space,
    make: Callable[[Architecture], Any],
    init: Callable[[Key, Any, Numbers], Variables],
    apply: Callable[..., tuple[jax.Array, Variables]],
) -> Family:
    """A family of networks that are not padded: each architecture is its own container."""

    @cache
    def parameters(architecture):
        numbers = space.numbers({name: np.zeros((), np.int32) for name, _ in space.genes})
        shapes = jax.eval_shape(lambda: init(jax.random.key(0), architecture, numbers)["params"])
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    return Family(
        init=init,
        apply=apply,
        contain=lambda architecture: architecture,
        cover=lambda a, b: a if a == b else None,
        flops=lambda architecture, member: 6.0 * parameters(architecture),
        parameters=parameters,
        crop=lambda variables, architecture: variables,
        build=lambda values: make(architecture_of(space, values)),
        genes=_genes_read(space, make),
        sizes=None,
        layers=None,
    )


def architecture_of(space: Space, values: Mapping[str, Option]) -> Architecture:
    """The structural genes of one member's values, in the order of the space."""
    return tuple((name, values[name]) for name in space.structural)


def architectures(
    space: Space, genome: Mapping[str, Array]
) -> tuple[list[Architecture], np.ndarray]:
    """The distinct architectures of a population, and which of them each member `[N]` has."""
    names = space.structural
    if not names:
        return [()], np.zeros(len(np.asarray(next(iter(genome.values())))), np.intp)
    columns = np.stack([np.asarray(genome[name]) for name in names], axis=1)
    distinct, index = np.unique(columns, axis=0, return_inverse=True)
    options = [space[name].options for name in names]  # pyright: ignore[reportAttributeAccessIssue]
    rows = [[gene[int(i)] for gene, i in zip(options, row, strict=True)] for row in distinct]
    return [tuple(zip(names, row, strict=True)) for row in rows], index


def is_nnx(module: Callable[..., Any]) -> bool:
    """Whether a model is an NNX module class, or a function that takes `rngs` as one does."""
    # Looked up, since NNX takes a third of a second to import: who has such a module has it too.
    nnx: Any = sys.modules.get("flax.nnx")
    kind = module if isinstance(module, type) else type(module)
    if nnx is not None and issubclass(kind, nnx.Module):
        return True
    try:
        return "rngs" in inspect.signature(module).parameters
    except (TypeError, ValueError):
        return False


def name_of(module: Callable[..., Any]) -> str:
    """How a module class or function is called."""
    return getattr(module, "__name__", type(module).__name__)


def first_architecture(space: Space) -> Architecture:
    """The architecture of the first options."""
    return tuple((name, space[name].options[0]) for name in space.structural)  # pyright: ignore[reportAttributeAccessIssue]


def check_parameters(
    space: Space, name: str, taken: Mapping[str, inspect.Parameter], others: set[str]
) -> None:
    """Raises InputError if model `name` does not take every structural gene; `others` are none."""
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values()):
        return
    accepted = set(taken) - others
    for gene in space.structural:
        if gene not in accepted:
            raise InputError(
                f"structural gene {gene!r} is not a parameter of {name}, which takes "
                f"{', '.join(sorted(accepted)) or 'none'}; make it a choice or rename it"
            )


def call_arguments(net: Any, numbers: Numbers, train: bool) -> dict[str, Any]:
    """What the module's `__call__` wants to know besides its input."""
    wanted = inspect.signature(net.__call__).parameters
    offered = {"train": train, "genome": dict(numbers)}
    return {name: value for name, value in offered.items() if name in wanted}


def _genes_read(space: Space, make: Callable[[Architecture], Any]) -> frozenset[str]:
    """All genes if the module's `__call__` takes `genome`, else those that shape it."""
    try:
        wanted = "genome" in call_arguments(make(first_architecture(space)), {}, train=False)
    except Exception as error:
        line = next(iter(str(error).splitlines()), "")
        raise InputError(f"the model cannot be made: {type(error).__name__}: {line}") from error
    return frozenset(dict(space.genes)) if wanted else frozenset(space.structural)
