"""What a network is made of: its layers, their types and sizes, and which feeds which.

The layers are the innermost modules of an ordinary Flax model. What goes from one to another is
read off the program that the model is traced to, so that branches and residuals are told apart from
a chain; operations between layers, such as activations, belong to none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from swarmjax.members import Recipe
from swarmjax.models import Architecture, architectures, call_arguments
from swarmjax.types import Array, Genome

# New architectures that are described in a round: each takes some hundredths of a second.
_AT_ONCE = 4

# Programs within programs that are looked into: what they compute is as if written out.
_INLINE = ("pjit", "jit", "closed_call", "remat2", "checkpoint")


class Layer(NamedTuple):
    """One layer.

    Attributes:
        name: its path in the model.
        kind: its type.
        sizes: features that go in and come out.
        inputs: places of the layers that feed it; none for the first.
    """

    name: str
    kind: str
    sizes: tuple[int, ...]
    inputs: tuple[int, ...]


class Describer:
    """Describes the architectures of a run as they turn up, each once, and few in a round.

    Called with genes `[N]`, it returns what is new: the architecture in words, such as
    `depth=2, width=64`, and its layers; none if its model cannot be traced.
    """

    def __init__(self, recipe: Recipe, x: Array, members: int, known: Iterable[str] = ()):
        """Of the first `members`, who take inputs like `x` `[1, ...]`; `known` is told already."""
        self._recipe, self._x, self._members, self._known = recipe, x, members, set(known)

    def __call__(self, genome: Genome) -> list[tuple[str, list[Layer]]]:
        """What is new."""
        space = self._recipe.space
        mine = {name: np.asarray(values)[: self._members] for name, values in genome.items()}
        found, index = architectures(space, mine)
        named = {in_words(architecture): i for i, architecture in enumerate(found)}
        fresh = [text for text in named if text not in self._known][:_AT_ONCE]
        self._known.update(fresh)
        return [(text, self._layers(mine, int(np.argmax(index == named[text])))) for text in fresh]

    def _layers(self, genome: Mapping[str, np.ndarray], slot: int) -> list[Layer]:
        space = self._recipe.space
        one: Genome = {name: values[slot] for name, values in genome.items()}
        # A run goes on, whatever its user's model does where it is only looked at.
        with contextlib.suppress(Exception):
            model = self._recipe.family.build(space.values(genome, slot))
            return layers(model, space.numbers(one), self._x)
        return []


def in_words(architecture: Architecture) -> str:
    """An architecture such as `depth=2, width=64`; empty where all networks have the same."""
    return ", ".join(f"{name}={value}" for name, value in architecture)


def layers(model: Any, numbers: Mapping[str, Any], x: Any) -> list[Layer]:
    """The layers of a model that `Family.build` made, in the order in which they are called.

    Args:
        model: Linen or NNX. Of NNX modules inputs are not known, and sizes are of the weights.
        numbers: genes of one member, for models that want them.
        x: `[1, ...]` one input.
    """
    if not isinstance(model, nn.Module):
        from swarmjax import nnx_family

        return [Layer(*part, ()) for part in nnx_family.parts(model)]
    kinds, sizes, program = _traced(model, call_arguments(model, numbers, train=False), x)
    inner = {path for path in kinds if not any(other.startswith(f"{path}/") for other in kinds)}
    # Of a model without modules inside there is one layer: itself.
    names = [path for path in kinds if path in inner and path] or [""]
    edges: set[tuple[str, str]] = set()
    _follow(program.jaxpr, [frozenset()] * len(program.jaxpr.invars), set(names), edges)
    place = {name: i for i, name in enumerate(names)}
    return [
        Layer(
            name or kinds[name], kinds[name], sizes[name],
            tuple(sorted(place[a] for a, b in edges if b == name)),
        )
        for name in names
    ]  # fmt: skip


def _traced(model: nn.Module, given: Mapping[str, Any], x: Any):
    """Types and sizes by path, in the order of calls, and the program of a whole call."""
    kinds: dict[str, str] = {}
    sizes: dict[str, tuple[int, ...]] = {}

    def note(call, args, kwargs, context):
        path = "/".join(context.module.path)
        if context.method_name == "__call__":
            # In the order in which they begin: a module is entered before those inside it.
            kinds.setdefault(path, type(context.module).__name__)
        out = call(*args, **kwargs)
        if context.method_name == "__call__":
            ends = [np.shape(value)[-1:] for value in (*args[:1], out) if hasattr(value, "shape")]
            sizes.setdefault(path, tuple(int(size) for end in ends for size in end))
        return out

    def called(x):
        # Made here, keys are traced as well, and nothing is computed.
        return model.init_with_output(jax.random.key(0), x, **given)[0]

    with nn.intercept_methods(note):
        program = jax.make_jaxpr(called)(x)
    return kinds, sizes, program


def _follow(
    program: Any,
    given: Sequence[frozenset[str]],
    names: set[str],
    edges: set[tuple[str, str]],
    around: tuple[str, ...] = (),
) -> list[frozenset[str]]:
    """Adds what feeds what to `edges`; the layers that the results come from.

    Args:
        program: whose equations are gone through.
        given: the layers that each of its inputs comes from.
        names: of all layers.
        edges: pairs of layers, from and to.
        around: scopes in which the program stands.
    """
    source: dict[Any, frozenset[str]] = dict(zip(program.invars, given, strict=True))

    def origin(variable: Any) -> frozenset[str]:
        # Constants have no name, and come from nowhere.
        return frozenset() if hasattr(variable, "val") else source.get(variable, frozenset())

    for equation in program.eqns:
        scopes = *around, *filter(None, str(equation.source_info.name_stack).split("/"))
        inputs, layer = [origin(v) for v in equation.invars], _layer_of(scopes, names)
        inside = equation.params.get("jaxpr") if equation.primitive.name in _INLINE else None
        if layer is not None:
            edges |= {(a, layer) for some in inputs for a in some if a != layer}
            made = [frozenset([layer])] * len(equation.outvars)
        elif inside is not None:
            made = _follow(getattr(inside, "jaxpr", inside), inputs, names, edges, scopes)
        else:
            made = [frozenset().union(*inputs)] * len(equation.outvars)
        source.update(zip(equation.outvars, made, strict=True))
    return [origin(variable) for variable in program.outvars]


def _layer_of(scopes: Sequence[str], names: set[str]) -> str | None:
    """The layer that an equation belongs to, by the scopes that Flax names."""
    # The first scope is the model; methods other than the call follow a point.
    path = [scope.partition(".")[0] for scope in scopes[1:]]
    return next((name for name in _prefixes(path) if name in names), None)


def _prefixes(scopes: Sequence[str]) -> Iterator[str]:
    for end in range(len(scopes), -1, -1):
        yield "/".join(scopes[:end])
