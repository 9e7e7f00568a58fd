"""PyTorch on the CPU: `python -m paper.side_torch eager|vmap`, spoken to by a Worker.

`eager` is the training loop of PyTorch's tutorials, one network after the other. `vmap` is its
tutorial on model ensembling: stacked parameters, `torch.func.vmap` over `grad` of
`functional_call`, and Adam on the stacks, since `torch.optim` has one learning rate for all of a
stack. Either tries one thread and all cores for a few steps, and eager also the fused optimizer,
and takes what was fastest.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from paper.swarms import Work, batches, make_work
from paper.workers import serve

# Steps of a trial of threads and optimizers.
_TRIAL = 30


class Data:
    """The task's examples as tensors."""

    def __init__(self, work: Work):
        train, valid = work.task.train, work.task.valid
        self.x, self.y = torch.tensor(train.x), torch.tensor(train.y, dtype=torch.long)
        self.valid = torch.tensor(valid.x), torch.tensor(valid.y, dtype=torch.long)


def prepare(side: str, **case: Any) -> Callable[[], Any]:
    """A round with the settings that were fastest in a short trial."""
    work = make_work(**case)
    make = {"eager": eager, "vmap": stacked}[side]
    threads = sorted({1, os.cpu_count() or 1})
    settings = list(product(threads, (False, True) if side == "eager" else (False,)))
    best = min(settings, key=lambda setting: trial(make, work, *setting))
    torch.set_num_threads(best[0])
    round = make(work, best[1])

    def timed() -> dict[str, Any]:
        return round(work.steps[0]) | {"threads": best[0], "fused": best[1]}

    return timed


def trial(make: Callable[..., Any], work: Work, threads: int, fused: bool) -> float:
    """Seconds of the second of two short rounds."""
    torch.set_num_threads(threads)
    few = work if make is stacked else work._replace(steps=work.steps[:4])
    round = make(few, fused)
    round(_TRIAL)
    start = time.perf_counter()
    round(_TRIAL)
    return time.perf_counter() - start


def make_net(work: Work, member: int) -> nn.Sequential:
    """One relu network with LeCun-uniform kernels and zero biases, as the other sides begin."""
    values = work.values(member)
    sizes = [work.task.train.x[0].size] + [values["width"]] * values["depth"]
    layers: list[nn.Module] = []
    for rows, columns in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(rows, columns), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(sizes[-1], work.task.outputs))
    torch.manual_seed(member)
    for layer in net:
        if isinstance(layer, nn.Linear):
            edge = (3.0 / layer.in_features) ** 0.5
            nn.init.uniform_(layer.weight, -edge, edge)
            nn.init.zeros_(layer.bias)
    return net


def eager(work: Work, fused: bool) -> Callable[[int], dict[str, float]]:
    """The plain loop over networks and steps."""
    data, rates, count = Data(work), work.genome["learning_rate"], 0
    nets = [make_net(work, member) for member in range(len(work.steps))]
    adams = [
        torch.optim.Adam(net.parameters(), lr=float(rate), fused=fused)
        for net, rate in zip(nets, rates, strict=False)
    ]

    def round(steps: int) -> dict[str, float]:
        nonlocal count
        decks, count = torch.tensor(batches(work.task, count, steps), dtype=torch.long), count + 1
        losses = []
        for net, adam in zip(nets, adams, strict=True):
            for rows in decks:
                adam.zero_grad()
                cross_entropy(net(data.x[rows]), data.y[rows]).backward()
                adam.step()
            with torch.no_grad():
                losses.append(_scores(net(data.valid[0]), data.valid[1]))
        return _means(losses)

    return round


def stacked(work: Work, fused: bool) -> Callable[[int], dict[str, float]]:
    """All networks at once, by vmap."""
    del fused
    data, count = Data(work), 0
    nets = [make_net(work, member) for member in range(len(work.steps))]
    params, _ = stack_module_state(nets)  # pyright: ignore[reportArgumentType]
    params = {name: value.detach() for name, value in params.items()}
    first = {name: torch.zeros_like(value) for name, value in params.items()}
    second = {name: torch.zeros_like(value) for name, value in params.items()}
    rates = torch.tensor(np.asarray(work.genome["learning_rate"]))
    taken = 0

    def outputs(params, x):
        return functional_call(nets[0], params, (x,))

    def loss(params, x, y):
        return cross_entropy(outputs(params, x), y)

    gradients = vmap(grad(loss), in_dims=(0, None, None))

    def round(steps: int) -> dict[str, float]:
        nonlocal count, taken
        decks, count = torch.tensor(batches(work.task, count, steps), dtype=torch.long), count + 1
        for rows in decks:
            taken += 1
            adam(params, first, second, gradients(params, data.x[rows], data.y[rows]), rates, taken)
        logits = vmap(outputs, in_dims=(0, None))(params, data.valid[0])
        return _means([_scores(each, data.valid[1]) for each in logits])

    return round


@torch.no_grad()
def adam(params, first, second, gradients, rates, step: int) -> None:
    """Adam (Kingma & Ba 2015), in place, on stacked parameters, with `rates` `[N]`."""
    scale = rates / (1 - 0.9**step)
    for name, gradient in gradients.items():
        each = scale.reshape(-1, *[1] * (gradient.ndim - 1))
        first[name].lerp_(gradient, 0.1)
        second[name].mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        root = second[name].div(1 - 0.999**step).sqrt_().add_(1e-8)
        params[name].sub_(first[name].div(root).mul_(each))


def _scores(logits, y) -> tuple[float, float]:
    right = (logits.argmax(1) == y).float().mean()
    return float(cross_entropy(logits, y)), float(right)


def _means(scores: list[tuple[float, float]]) -> dict[str, float]:
    loss, accuracy = np.mean(scores, axis=0).tolist()
    return {"valid_loss": loss, "valid_accuracy": accuracy}


if __name__ == "__main__":
    side = sys.argv[1]
    serve(lambda **case: prepare(side, **case))
