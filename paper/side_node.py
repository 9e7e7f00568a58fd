"""A training node that takes turns with others: a small NumPy network that reports, or does not.

`python -m paper.side_node`, asked by `workers.Worker`: prepared with a bus and a folder for its
spool; a round is so many training steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_digits

from paper.workers import serve
from swarmjax.nodes import Node, Profile

WIDTH, BATCH, RATE = 64, 64, 0.1


class Net:
    """A hidden layer of `WIDTH` units on handwritten digits, trained by plain SGD."""

    def __init__(self):
        """Random weights."""
        x, y = map(np.asarray, load_digits(return_X_y=True))
        self._x, self._y = (x / 16).astype(np.float32), np.eye(10, dtype=np.float32)[y]
        self._random = np.random.default_rng(0)
        sizes = {"w": (64, WIDTH), "v": (WIDTH, 10)}
        self.arrays = {
            name: self._random.normal(0, 0.1, size).astype(np.float32)
            for name, size in sizes.items()
        }

    def step(self) -> float:
        """One step; its loss."""
        chosen = self._random.integers(len(self._x), size=BATCH)
        x, y, w, v = self._x[chosen], self._y[chosen], self.arrays["w"], self.arrays["v"]
        hidden = np.maximum(x @ w, 0)
        logits = hidden @ v
        shifted = np.exp(logits - logits.max(1, keepdims=True))
        found = shifted / shifted.sum(1, keepdims=True)
        error = (found - y) / BATCH
        w -= RATE * (x.T @ (error @ v.T * (hidden > 0)))
        v -= RATE * (hidden.T @ error)
        return float(-np.log((found * y).sum(1) + 1e-9).mean())


def prepare(bus: str | None, folder: str) -> Callable[..., Any]:
    """A round of training; `bus` None: nobody is told of it."""
    net = Net()
    node = None
    if bus is not None:
        profile = Profile({"learning_rate": RATE}, net.arrays)
        node = Node(bus, "bench", "numpy-0", Path(folder) / "spool", profile, window=10)

    def round(steps: int) -> dict[str, float]:
        losses = []
        for _ in range(steps):
            losses.append(net.step())
            if node is not None:
                node.step(losses[-1])
        if node is not None:
            node.report({"valid_loss": losses[-1]}, net.arrays)
        return {"loss": float(np.mean(losses))}

    return round


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve(prepare)
