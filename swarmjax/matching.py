"""Which hidden units of one MLP correspond to those of another: weight matching.

Source: Ainsworth et al. 2023, Git Re-Basin (arXiv:2209.04836), by linear assignment, layer after
layer until nothing moves. Parameters are those of an MLP without padding, `Dense_0` to `Dense_k`
with `kernel` `[in, out]` and `bias` `[out]`, as `Family.crop` gives them; the last is the output.
Everything here runs on the host.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from swarmjax.types import InputError

Params = dict[str, Any]
Permutations = dict[str, np.ndarray]

# Rounds over all layers; a pair takes about five.
_ROUNDS = 100


def match_units(a: Params, b: Params) -> Permutations:
    """For every hidden layer the order `[H]` of the units of `b` that fits `a` best.

    Unit `i` of `a` corresponds to unit `permutations[layer][i]` of `b`. The inner product of `a`
    with the reordered `b` is at a local maximum and no smaller than without reordering.

    Raises:
        InputError: the two are not MLPs of one architecture.
    """
    # Here: it takes long to import, and a run needs it rarely.
    from scipy.optimize import linear_sum_assignment

    hidden = _hidden(a, b)
    found = {name: np.arange(len(a[name]["bias"])) for name in hidden}
    for _ in range(_ROUNDS):
        moved = False
        for name in hidden:
            gain = _similarity(a, b, found, name)
            order = linear_sum_assignment(gain, maximize=True)[1]
            better = _total(gain, order) > _total(gain, found[name]) + 1e-9 * np.abs(gain).max()
            if better:
                found[name], moved = order, True
        if not moved:
            break
    return found


def permute(params: Params, permutations: Permutations) -> Params:
    """The same function with the hidden units of every layer in the given order.

    Equal up to the order in which floats are added.
    """
    out, before = dict(params), None
    for name in layers(params):
        after = permutations.get(name)
        kernel, bias = np.asarray(params[name]["kernel"]), np.asarray(params[name]["bias"])
        kernel = kernel if before is None else kernel[before]
        if after is not None:
            kernel, bias = kernel[:, after], bias[after]
        out[name] = {"kernel": kernel, "bias": bias}
        before = after
    return out


def layers(params: Params) -> list[str]:
    """Names of the dense layers in their order; InputError if there are others or none."""
    numbers = {name: re.fullmatch(r"Dense_(\d+)", name) for name in params}
    odd = [name for name, match in numbers.items() if match is None]
    if odd or not numbers:
        raise InputError(
            f"only MLPs of layers Dense_0, Dense_1, ... can be matched, got {odd or 'no layer'}"
        )
    return sorted(params, key=lambda name: int(name.removeprefix("Dense_")))


def _hidden(a: Params, b: Params) -> list[str]:
    shapes = [
        {name: np.shape(params[name]["kernel"]) for name in layers(params)} for params in (a, b)
    ]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"only networks of one architecture can be matched, got layers {shapes[0]} and "
            f"{shapes[1]}; resize one of them first"
        )
    return layers(a)[:-1]


def _similarity(a: Params, b: Params, found: Permutations, name: str) -> np.ndarray:
    """Inner products `[H, H]` of the weights into and out of each unit of `a` and each of `b`."""
    names = layers(a)
    place = names.index(name)
    before = found[names[place - 1]] if place else slice(None)
    follower = names[place + 1]
    after = found.get(follower, slice(None))
    into = _kernel(a, name).T @ _kernel(b, name)[before]
    out = _kernel(a, follower) @ _kernel(b, follower)[:, after].T
    return into + np.outer(_double(a[name]["bias"]), _double(b[name]["bias"])) + out


def _total(gain: np.ndarray, order: np.ndarray) -> float:
    return float(gain[np.arange(len(order)), order].sum())


def _kernel(params: Params, name: str) -> np.ndarray:
    return _double(params[name]["kernel"])


def _double(values: Any) -> np.ndarray:
    return np.asarray(values, np.float64)
