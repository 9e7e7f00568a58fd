"""One network in PyTorch, trained as PyTorch's tutorials train one; all peers that use PyTorch do.

One thread a process: networks this small train fastest so, and there is a process for each core.
"""

# The peer lies in an environment of its own.
# pyright: reportMissingImports=false

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from paper import peer_protocol as protocol
from paper.peer_protocol import Experiment

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    # As elsewhere in this benchmark, by tanh.
    "gelu": partial(nn.GELU, approximate="tanh"),
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}

# The fused optimizers are the fastest that PyTorch has.
_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": partial(torch.optim.SGD, fused=True),
    "momentum": partial(torch.optim.SGD, momentum=0.9, fused=True),
    "adam": partial(torch.optim.Adam, fused=True),
    "adamw": partial(torch.optim.AdamW, fused=True),
}


class Trainee:
    """A network in training, and the best validation accuracy that it had."""

    def __init__(self, experiment: Experiment, genes: Mapping[str, Any], seed: int):
        """A fresh network."""
        torch.set_num_threads(1)
        self._experiment, self.genes = experiment, dict(genes)
        self._rng, self._best = np.random.default_rng([experiment.seed, seed]), -1.0
        self._train, self._valid = (
            tuple(map(torch.from_numpy, protocol.split(experiment.data, name)))
            for name in ("train", "valid")
        )
        self.net = self._make_net()
        rates = {"lr": genes["learning_rate"], "weight_decay": genes.get("weight_decay", 0.0)}
        make = _OPTIMIZERS[genes.get("optimizer", "adam")]
        self.optimizer = make(self.net.parameters(), **rates)

    def _make_net(self) -> nn.Sequential:
        layers: list[nn.Module] = []
        drawn = protocol.draw_layers(self._rng, protocol.sizes(self._experiment, self.genes))
        for kernel, bias in drawn:
            linear = nn.Linear(*kernel.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(kernel.T))
                linear.bias.copy_(torch.from_numpy(bias))
            layers += [linear, _ACTIVATIONS[self.genes.get("activation", "relu")]()]
        return nn.Sequential(*layers[:-1])

    def set_rates(self) -> None:
        """Lets the optimizer use this network's own rates, after it took over another's state."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.genes["learning_rate"]
            group["weight_decay"] = self.genes.get("weight_decay", 0.0)

    def train(self, steps: int) -> float:
        """Trains for so many steps; the validation accuracy after them."""
        x, y = self._train
        rows = protocol.batches(self._rng, len(y), self._experiment.batch, steps)
        for batch in torch.from_numpy(rows):
            self.optimizer.zero_grad()
            cross_entropy(self.net(x[batch]), y[batch]).backward()
            self.optimizer.step()
        x, y = self._valid
        with torch.no_grad():
            return float((self.net(x).argmax(1) == y).float().mean())

    def keep(self, valid: float, path: Path) -> str | None:
        """Writes the network if it is the best that this one has been: the path, else None."""
        if valid <= self._best:
            return None
        self._best = valid
        linear = [layer for layer in self.net if isinstance(layer, nn.Linear)]
        layers = [
            (layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in linear
        ]
        network = protocol.Network(self.genes.get("activation", "relu"), layers)
        protocol.save_network(path, network)
        return str(path)
