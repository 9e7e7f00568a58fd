"""A family from a user's NNX module, which holds its weights, seen as functions of the weights.

The module is made anew wherever it is traced, and its weights are replaced by the member's; the
weights that it made itself are then never computed. So nothing that NNX keeps inside a module can
leak from one trace or member to another, its random streams least of all.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from swarmjax.models import (
    Family,
    Variables,
    call_arguments,
    check_parameters,
    first_architecture,
    module_family,
    name_of,
)
from swarmjax.space import Space
from swarmjax.types import InputError


def nnx_family(space: Space, module: Callable[..., nnx.Module]) -> Family:
    """A family from a user's NNX module: one container for each distinct architecture.

    Args:
        space: its structural genes are passed to `module` by name.
        module: an NNX module class, or a function that returns a module; called with the structural
            genes and `rngs`. Its mode is set by `train()` and `eval()`; its `__call__(x, ...)` may
            also take `train: bool`, and `genome`, the member's traced genes.

    Raises:
        InputError: `module` does not take `rngs` or a structural gene, cannot be made, or makes
            something else or a module with arrays that are no variables.
    """
    _check(space, module)

    def make(architecture, key=None):
        key = jax.random.key(0) if key is None else key
        return module(**dict(architecture), rngs=nnx.Rngs(key))

    def init(key, architecture, numbers):
        del numbers
        return variables_of(make(architecture, key))

    def apply(architecture, variables, x, numbers, key=None, deepest=None):
        del deepest
        net = make(architecture, key)
        load(net, variables)
        if key is None:
            net.eval()
            return net(x, **call_arguments(net, numbers, train=False)), {}
        net.train()
        outputs = net(x, **call_arguments(net, numbers, train=True))
        after = variables_of(net)
        # What a module only tells of its last call was not there at first.
        return outputs, {name: after[name] for name in variables if name != "params"}

    _check_made(make, first_architecture(space))
    return module_family(space, make, init, apply)


def variables_of(net: nnx.Module) -> Variables:
    """All variables of a module but its random streams: collection -> nested dict of arrays.

    Parameters are the collection `params`; others go by the name of their type.
    """
    found: dict[str, dict[tuple[str, ...], Any]] = {"params": {}}
    for path, variable in _variables(net):
        collection = "params" if isinstance(variable, nnx.Param) else type(variable).__name__
        found.setdefault(collection, {})[tuple(map(str, path))] = variable.get_value()
    return {name: unflatten_dict(flat) for name, flat in found.items()}


def load(net: nnx.Module, variables: Variables) -> nnx.Module:
    """The module with its variables replaced by those that `variables` holds."""
    paths = {tuple(map(str, path)): path for path, _ in _variables(net)}
    flat = [pair for tree in variables.values() for pair in flatten_dict(tree).items()]
    # A module could not change an array of NumPy's.
    state = [(paths[path], jnp.asarray(leaf)) for path, leaf in flat]
    nnx.update(net, nnx.from_flat_state(state))
    return net


def parts(net: nnx.Module) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Path, type and sizes of every module that holds weights itself, in the order it is held.

    Sizes are the last two of its largest weight.
    """
    for path, module in nnx.iter_modules(net):
        own = [v.get_value() for v in vars(module).values() if isinstance(v, nnx.Param)]
        if own:
            largest = max(own, key=jnp.size)
            name = "/".join(map(str, path)) or type(module).__name__
            yield name, type(module).__name__, tuple(jnp.shape(largest)[-2:])


def _variables(net: nnx.Module) -> list[tuple[Any, Any]]:
    state = nnx.state(net, nnx.Not(nnx.RngState))
    return [(p, v) for p, v in nnx.to_flat_state(state) if isinstance(v, nnx.Variable)]


def _check(space: Space, module: Callable[..., Any]) -> None:
    if isinstance(module, nnx.Module):
        raise InputError(
            f"model must be a module class or a function that returns a module, got an instance of "
            f"{type(module).__name__}; pass the class"
        )
    # The signature of an NNX class itself is that of its metaclass.
    init = module.__init__ if isinstance(module, type) else module
    taken = dict(inspect.signature(init).parameters)
    check_parameters(space, name_of(module), taken, {"rngs", "self"})
    wild = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in taken.values())
    if "rngs" not in taken and not wild:
        raise InputError(f"{name_of(module)} must take rngs, the random streams of an NNX module")


def _check_made(make: Callable[..., Any], architecture: Any) -> None:
    """A module, whose state is in variables: other arrays would not be the member's own."""

    def made():
        net = make(architecture)
        if not isinstance(net, nnx.Module):
            raise InputError(f"the model must return an NNX module, got {type(net).__name__}")
        for path, part in nnx.iter_modules(net):
            for name, value in vars(part).items():
                if isinstance(value, jax.Array):
                    where = ".".join((*map(str, path), name))
                    raise InputError(f"{where} is a plain array; wrap it in nnx.Variable")

    try:
        jax.eval_shape(made)
    except InputError:
        raise
    except Exception as error:
        line = next(iter(str(error).splitlines()), "")
        raise InputError(f"the model cannot be made: {type(error).__name__}: {line}") from error
