"""What a training node says of itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from swarmjax.errors import InputError
from swarmjax.records import Layer

Arrays = Mapping[str, np.ndarray]
# Parameters whose statistics one table of windows can hold.
MOST_WATCHED = 180


@dataclass(frozen=True)
class Profile:
    """What a node says of itself when it joins.

    Attributes:
        genes: name -> value that it has now; names and values of the swarm's space.
        weights: path -> array as it has them now; empty: it neither gives nor takes weights.
        obeys: genes that it changes when told to; None for all of them.
        framework: such as "pytorch 2.7".
        layers: its architecture.
        connections: pairs of places in `layers`, from and to; None: one after the other.
        step: training steps behind the weights.
        cost: floating-point operations of one training step, 0 if unknown.
    """

    genes: Mapping[str, Any]
    weights: Arrays = field(default_factory=dict)
    obeys: Sequence[str] | None = None
    framework: str = ""
    layers: Sequence[Layer] = ()
    connections: Sequence[tuple[int, int]] | None = None
    step: int = 0
    cost: float = 0.0

    def fields(self) -> dict[str, Any]:
        """The fields of a `records.Announce`."""
        chain = [(i, i + 1) for i in range(len(self.layers) - 1)]
        arrays = [np.asarray(array) for array in self.weights.values()]
        return {
            "framework": self.framework, "layers": tuple(self.layers),
            "connections": tuple(chain if self.connections is None else self.connections),
            "weights": {path: np.shape(array) for path, array in self.weights.items()},
            "genes": dict(self.genes), "step": self.step, "cost": float(self.cost),
            "obeys": tuple(self.genes if self.obeys is None else self.obeys),
            "parameters": sum(array.size for array in arrays),
            "bytes": float(sum(array.nbytes for array in arrays)),
        }  # fmt: skip

    def check_watched(self, patterns: Sequence[str]) -> None:
        """Raises InputError if more parameters fit the patterns than a table has columns for."""
        watched = sum(any(fnmatchcase(p, pattern) for pattern in patterns) for p in self.weights)
        if watched > MOST_WATCHED:
            raise InputError(
                f"{watched} parameters are watched, at most {MOST_WATCHED} can be; name fewer"
            )
