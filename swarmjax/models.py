"""Flax families: how a genome becomes a network, and how several shapes share one program.

A *container* is a shape into which several architectures fit by zero padding; one compiled program
trains one container. A family is pure functions over one member's variables.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swarmjax.activations import ACTIVATIONS, activate, coefficients
from swarmjax.space import Choice, Option, Space
from swarmjax.types import Array, InputError, Key

# Key of the last layer, the same however many hidden layers come before it.
_HEAD = 2**31

Variables = dict[str, Any]
Architecture = tuple[tuple[str, Option], ...]
Numbers = Mapping[str, Any]


class Family(NamedTuple):
    """A family of networks.

    Attributes:
        init: `init(key, container, numbers) -> variables`; a member's values do not depend on the
            container it is padded to.
        apply: `apply(container, variables, x, numbers, key) -> (outputs, extra)`; `key` is None
            outside training, `extra` holds the collections other than `params`.
        contain: `contain(architecture) -> container`, the tightest one.
        cover: `cover(container, container) -> container` that holds both, or None.
        flops: `flops(container) -> float`, operations of one training step on one example.
        crop: `crop(variables, architecture) -> variables` without padding, as `build` wants them.
        build: `build(values) -> flax module` of exactly the member's architecture.
        genes: names of the genes the family reads.
        sizes: `sizes(container, numbers) -> Sizes` if `params` are padded dense layers, which
            `breed.resize` understands; else None.
    """

    init: Callable[[Key, Any, Numbers], Variables]
    apply: Callable[..., tuple[jax.Array, Variables]]
    contain: Callable[[Architecture], Any]
    cover: Callable[[Any, Any], Any]
    flops: Callable[[Any], float]
    crop: Callable[[Variables, Architecture], Variables]
    build: Callable[[Mapping[str, Option]], nn.Module]
    genes: frozenset[str]
    sizes: Callable[[Any, Numbers], Sizes] | None


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


class MLP(nn.Module):
    """A multilayer perceptron: `depth` hidden layers of `width` units, then `outputs` numbers."""

    outputs: int
    depth: int = 2
    width: int = 64
    activation: str = "relu"

    @nn.compact
    def __call__(self, x):
        """Maps `x` `[B, ...]` to `[B, outputs]`."""
        x = x.reshape(x.shape[0], -1)
        for _ in range(self.depth):
            x = ACTIVATIONS[self.activation](nn.Dense(self.width)(x))
        return nn.Dense(self.outputs)(x)


class Box(NamedTuple):
    """Container of MLPs: at most `depth` hidden layers of at most `width` units."""

    depth: int
    width: int


@cache
def mlp(space: Space, features: int, outputs: int) -> Family:
    """The family of MLPs whose depth, width and activation are genes of `space` where it has them.

    Raises:
        InputError: an activation is unknown, or depth or width is not a positive whole number.
    """
    names = _activations(space)
    for gene in ("depth", "width"):
        _check_sizes(space, gene)
    table = coefficients(names)
    idempotent = np.asarray([name == "relu" for name in names])

    def contain(architecture):
        sizes = dict(architecture)
        return Box(int(sizes.get("depth", MLP.depth)), int(sizes.get("width", MLP.width)))

    def sizes(box, numbers):
        depth, width = numbers.get("depth", box.depth), numbers.get("width", box.width)
        return Sizes(depth, width, jnp.asarray(idempotent)[numbers.get("activation", 0)])

    def init(key, box, numbers):
        return {"params": _init_dense(key, box, features, outputs, sizes(box, numbers))}

    def apply(box, variables, x, numbers, key=None):
        del key
        coefficient = jnp.asarray(table)[numbers.get("activation", 0)]
        return _forward(variables["params"], x, box, sizes(box, numbers).depth, coefficient), {}

    def flops(box):
        hidden = features * box.width + (box.depth - 1) * box.width**2 + box.width * outputs
        return 6.0 * hidden

    def crop(variables, architecture):
        return {"params": _crop_dense(variables["params"], contain(architecture))}

    def build(values):
        return MLP(
            outputs,
            int(values.get("depth", MLP.depth)),
            int(values.get("width", MLP.width)),
            str(values.get("activation", names[0])),
        )

    def cover(a, b):
        return Box(max(a.depth, b.depth), max(a.width, b.width))

    genes = frozenset(("depth", "width", "activation"))
    return Family(init, apply, contain, cover, flops, crop, build, genes, sizes)


def flax_family(space: Space, module: Callable[..., nn.Module], example: Array) -> Family:
    """A family from a user's Flax module: one container for each distinct architecture.

    Args:
        space: its structural genes that are parameters of `module` are passed to it.
        module: a Linen module class, or a function of structural genes that returns a module. Its
            `__call__(x, ...)` may take `train: bool`, and `genome`, the member's traced genes.
        example: `[1, ...]` one input.

    Raises:
        InputError: a structural gene is not a parameter of `module`.
    """
    accepted = _parameters(module)
    for gene in space.structural:
        if accepted is not None and gene not in accepted:
            raise InputError(
                f"structural gene {gene!r} is not a parameter of {name_of(module)}; "
                f"it takes {', '.join(sorted(accepted)) or 'none'}"
            )

    def make(architecture):
        return module(**dict(architecture))

    def call(net, variables, x, numbers, train, **options):
        wanted = _parameters(net.__call__) or ()
        extra = {"train": train, "genome": dict(numbers)}
        given = {name: value for name, value in extra.items() if name in wanted}
        return net.apply(variables, x, **given, **options)

    def init(key, architecture, numbers):
        net = make(architecture)
        keys = {"params": key, "dropout": jax.random.fold_in(key, 1)}
        wanted = _parameters(net.__call__) or ()
        options = {"train": False} if "train" in wanted else {}
        if "genome" in wanted:
            options["genome"] = dict(numbers)
        return dict(net.init(keys, jnp.asarray(example), **options))

    def apply(architecture, variables, x, numbers, key=None):
        net = make(architecture)
        if key is None:
            return call(net, variables, x, numbers, False), {}
        mutable = [name for name in variables if name != "params"]
        return call(net, variables, x, numbers, True, rngs={"dropout": key}, mutable=mutable)

    def build(values):
        return make(tuple((name, values[name]) for name in space.structural))

    def flops(architecture):
        shapes = jax.eval_shape(lambda: init(jax.random.key(0), architecture, _zeros(space)))
        return 6.0 * sum(float(leaf.size) for leaf in jax.tree.leaves(shapes["params"]))

    genes = frozenset(space.structural)
    return Family(
        init,
        apply,
        lambda a: a,
        lambda a, b: None,
        flops,
        lambda v, a: v,
        build,
        genes,
        dense=False,
    )


def architecture_of(space: Space, values: Mapping[str, Option]) -> Architecture:
    """The structural genes of one member's values, in the order of the space."""
    return tuple((name, values[name]) for name in space.structural)


def _init_dense(key, box, features, outputs, sizes):
    depth, width, _ = sizes
    shapes = [(features, features)] + [(box.width, width)] * box.depth
    params = {}
    for i, (rows, fan_in) in enumerate(shapes):
        last = i == box.depth
        columns, fan_out = (outputs, outputs) if last else (box.width, width)
        used = last | (i < depth)
        kernel = _kernel(jax.random.fold_in(key, _HEAD if last else i), rows, columns, fan_in)
        mask = (jnp.arange(rows)[:, None] < fan_in) & (jnp.arange(columns) < fan_out)[None] & used
        name = "head" if last else f"Dense_{i}"
        params[name] = {"kernel": jnp.where(mask, kernel, 0.0), "bias": jnp.zeros(columns)}
    return params


def _kernel(key, rows, columns, fan_in):
    # One key per row and only exact arithmetic on its bits (uniform, of variance 1 / fan_in):
    # an entry's value then does not depend on how far the kernel is padded, to the last bit.
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(rows))
    draw = jax.vmap(lambda k: jax.random.uniform(k, (columns,), minval=-1.0, maxval=1.0))(keys)
    return draw * jnp.sqrt(3.0 / jnp.asarray(fan_in, jnp.float32))


def _forward(params, x, box, depth, coefficient):
    x = x.reshape(x.shape[0], -1)
    for i in range(box.depth):
        layer = params[f"Dense_{i}"]
        hidden = activate(x @ layer["kernel"] + layer["bias"][None], coefficient)
        x = hidden if i == 0 else jnp.where(i < depth, hidden, x)
    return x @ params["head"]["kernel"] + params["head"]["bias"][None]


def _crop_dense(params, box):
    out = {}
    for i in range(box.depth):
        layer = params[f"Dense_{i}"]
        rows = layer["kernel"].shape[0] if i == 0 else box.width
        out[f"Dense_{i}"] = {
            "kernel": layer["kernel"][:rows, : box.width],
            "bias": layer["bias"][: box.width],
        }
    head = params["head"]
    out[f"Dense_{box.depth}"] = {"kernel": head["kernel"][: box.width], "bias": head["bias"]}
    return out


def _activations(space: Space) -> tuple[str, ...]:
    gene = space["activation"] if "activation" in space else Choice(("relu",))
    options = gene.options if isinstance(gene, Choice) else ()
    names = tuple(str(option) for option in options)
    if not names or any(name not in ACTIVATIONS for name in names):
        raise InputError(
            f"gene 'activation' must choose among {', '.join(ACTIVATIONS)}; "
            f"got {', '.join(names) or 'a range'}"
        )
    return names


def _check_sizes(space: Space, name: str) -> None:
    if name not in space:
        return
    gene = space[name]
    sizes = gene.options if isinstance(gene, Choice) and gene.structural else ()
    if not sizes or any(type(size) is not int or size < 1 for size in sizes):
        raise InputError(f"gene {name!r} must be structure(...) of whole numbers >= 1, got {gene}")


def _parameters(function: Callable[..., Any]) -> set[str] | None:
    """Names a function takes, or None if it takes any."""
    parameters = inspect.signature(function).parameters.values()
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        return None
    return {p.name for p in parameters}


def name_of(module: Callable[..., Any]) -> str:
    """How a module class or function is called."""
    return getattr(module, "__name__", type(module).__name__)


def _zeros(space: Space) -> Numbers:
    return space.numbers({name: np.int32(0) for name, _ in space.genes})
