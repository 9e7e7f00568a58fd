"""One network of the whole programs in PyTorch, as PyTorch's tutorials train one."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from paper import whole_data as search


class Trainee:
    """A network in training."""

    def __init__(self, rate: float, seed: int = 0):
        """A fresh network whose learning rate is `rate`."""
        # Networks this small train fastest on one thread each.
        torch.set_num_threads(1)
        torch.manual_seed(seed)
        train, valid = search.make_data()
        self.train = tuple(map(torch.from_numpy, train))
        self.valid = tuple(map(torch.from_numpy, valid))
        self.net = nn.Sequential(
            nn.Linear(search.FEATURES, search.WIDTH),
            nn.ReLU(),
            nn.Linear(search.WIDTH, search.CLASSES),
        )
        self.adam = torch.optim.Adam(self.net.parameters(), lr=rate)

    def steps(self, count: int) -> float:
        """Trains for `count` steps on random batches and returns the validation accuracy."""
        x, y = self.train
        for rows in torch.randint(0, len(y), (count, search.BATCH)):
            self.adam.zero_grad()
            cross_entropy(self.net(x[rows]), y[rows]).backward()
            self.adam.step()
        x, y = self.valid
        with torch.no_grad():
            return float((self.net(x).argmax(1) == y).float().mean())
