"""What every program of the peers' benchmark shares: it needs Python and NumPy, nothing else.

A program is started as `python -m paper.peer_NAME ... FILE`, where FILE holds the experiment, JSON.
It trains as its library advises, and prints JSON lines: one when a search begins, one when its best
validation accuracy improves or a second has passed, and one with the test accuracy at its end.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Genes that are numbers of the optimizer; all others shape the network or its training.
RATES = ("learning_rate", "weight_decay")

# A sign of life is given when nothing was said for so many seconds.
_SILENCE = 1.0


class Experiment(NamedTuple):
    """What is to be searched, and with how much.

    Attributes:
        data: `.npz` file of `train_x`, `train_y`, `valid_x` and so on.
        folder: empty, for whatever a program writes.
        members: networks of a search.
        steps: training steps of each, if all get equally many; whole rounds.
        round_steps: training steps between two validations of a network.
        batch: examples in a step.
        outputs: classes.
        space: gene -> `["log_uniform", low, high]`, `["choice", ...]` or `["structure", ...]`.
        seed: of everything random.
        searches: how often the search is made, one after the other in the same process.
        cores: processors that may be used.
    """

    data: str
    folder: str
    members: int
    steps: int
    round_steps: int
    batch: int
    outputs: int
    space: Mapping[str, Sequence[Any]]
    seed: int
    searches: int
    cores: int

    @property
    def budget(self) -> int:
        """Member-steps of a search."""
        return self.members * self.steps

    @property
    def rounds(self) -> int:
        """Validations of a network that is trained to its end."""
        return self.steps // self.round_steps


class Split(NamedTuple):
    """Examples `x` `[n, features]` float32 and classes `y` `[n]` int64."""

    x: np.ndarray
    y: np.ndarray


class Network(NamedTuple):
    """A trained MLP: the activation's name, and `(kernel [in, out], bias [out])` of each layer."""

    activation: str
    layers: list[tuple[np.ndarray, np.ndarray]]


# Where a network is kept: see `Report.tell`.
Kept = str | Callable[[], Network] | None


def read(path: str) -> Experiment:
    """The experiment in a file."""
    return Experiment(**json.loads(Path(path).read_text()))


@cache
def split(data: str, name: str) -> Split:
    """The part called `train`, `valid` or `test` of a data file."""
    with np.load(data) as arrays:
        x, y = arrays[f"{name}_x"], arrays[f"{name}_y"]
    return Split(x.reshape(len(x), -1).astype(np.float32), y.astype(np.int64))


def batches(rng: np.random.Generator, examples: int, batch: int, steps: int) -> np.ndarray:
    """Example numbers `[steps, batch]`, shuffled epoch by epoch."""
    epochs = [rng.permutation(examples) for _ in range(-(-steps * batch // examples))]
    return np.concatenate(epochs)[: steps * batch].reshape(steps, batch)


def draw_genes(rng: np.random.Generator, space: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Genes of one network at random."""
    genes = {}
    for name, (kind, *rest) in space.items():
        if kind == "log_uniform":
            genes[name] = float(np.exp(rng.uniform(*np.log(rest))))
        else:
            genes[name] = rest[rng.integers(len(rest))]
    return genes


def sizes(experiment: Experiment, genes: Mapping[str, Any]) -> list[int]:
    """Units of every layer of an MLP with these genes, from the inputs to the outputs."""
    features = split(experiment.data, "train").x.shape[1]
    return [features] + [genes["width"]] * genes["depth"] + [experiment.outputs]


def draw_layers(
    rng: np.random.Generator, units: Sequence[int]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernels uniform with variance 1 / fan-in (LeCun), biases zero."""
    layers = []
    for rows, columns in zip(units, units[1:], strict=False):
        edge = np.sqrt(3.0 / rows)
        kernel = rng.uniform(-edge, edge, (rows, columns)).astype(np.float32)
        layers.append((kernel, np.zeros(columns, np.float32)))
    return layers


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0.0),
    "gelu": lambda x: 0.5 * x * (1.0 + np.tanh(0.7978845608 * (x + 0.044715 * x**3))),
    "silu": lambda x: x * (0.5 * np.tanh(0.5 * x) + 0.5),
    "tanh": np.tanh,
}


def accuracy(network: Network, data: Split) -> float:
    """Share of examples that a network classifies rightly."""
    x = data.x
    for kernel, bias in network.layers[:-1]:
        x = ACTIVATIONS[network.activation](x @ kernel + bias)
    kernel, bias = network.layers[-1]
    return float(np.mean(np.argmax(x @ kernel + bias, axis=1) == data.y))


def save_network(path: Path, network: Network) -> None:
    """Writes a network, whole or not at all."""
    arrays: dict[str, Any] = {f"kernel{i}": k for i, (k, _) in enumerate(network.layers)}
    arrays |= {f"bias{i}": bias for i, (_, bias) in enumerate(network.layers)}
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.savez(file, activation=np.asarray(network.activation), **arrays)
    part.replace(path)


def load_network(path: Path | str) -> Network:
    """The network that `save_network` wrote."""
    with np.load(path) as arrays:
        count = sum(name.startswith("kernel") for name in arrays)
        layers = [(arrays[f"kernel{i}"], arrays[f"bias{i}"]) for i in range(count)]
        return Network(str(arrays["activation"]), layers)


class Report:
    """Prints how the searches stand; whatever else is printed goes to the standard error."""

    def __init__(self, experiment: Experiment):
        """Takes the standard output for itself."""
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        self._experiment, self._search = experiment, -1

    def begin(self) -> None:
        """A search begins."""
        self._search, self._start = self._search + 1, time.perf_counter()
        self._taken, self._best, self._network = 0, None, None
        self._print()

    def tell(self, steps: int, valid: float, network: Kept = None) -> None:
        """Networks took so many steps more, and one of them was validated.

        Args:
            steps: member-steps since this was called last.
            valid: validation accuracy.
            network: copies the validated one, or is the file that it lies in; None if it cannot be
                the best, or is kept elsewhere.
        """
        self._taken += steps
        better = self._best is None or valid > self._best
        if better:
            self._best, self._network = valid, network() if callable(network) else network
        if better or time.perf_counter() - self._said > _SILENCE:
            self._print()

    @property
    def spent(self) -> bool:
        """Whether the budget of this search is used up."""
        return self._taken >= self._experiment.budget

    def end(self, test: float | None = None) -> None:
        """The search is over; `test` is the best network's accuracy if it is known already."""
        if test is None:
            assert self._network is not None, "nothing was validated"
            found = self._network
            found = found if isinstance(found, Network) else load_network(found)
            test = accuracy(found, split(self._experiment.data, "test"))
        self._print(test=test)

    def _print(self, **more: float) -> None:
        self._said = time.perf_counter()
        line = {
            "search": self._search, "seconds": self._said - self._start,
            "member_steps": self._taken, "valid": self._best, **more,
        }  # fmt: skip
        print(json.dumps(line), file=self._out, flush=True)
