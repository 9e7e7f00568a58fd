"""The swarms that are timed: the same networks, data, batches and genes for every side."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from swarmjax import cnn, lanes, mlp, optimizers, tasks
from swarmjax.members import Recipe
from swarmjax.models import Architecture, architecture_of
from swarmjax.space import Choice, Space, choice, log_uniform, structure
from swarmjax.tasks import Task
from swarmjax.types import Genome

SEED = 0


class Work(NamedTuple):
    """A swarm and what is to be done with it.

    Attributes:
        recipe: space, family and optimizer.
        task: the data.
        genome: gene -> `[N]`.
        steps: `[N]` training steps of a round, after which every member is validated once.
    """

    recipe: Recipe
    task: Task
    genome: Genome
    steps: np.ndarray

    def values(self, member: int) -> dict[str, Any]:
        """One member's genes as plain values."""
        return dict(self.recipe.space.values(self.genome, member))

    def architecture(self, member: int) -> Architecture:
        """One member's architecture."""
        return architecture_of(self.recipe.space, self.values(member))


def make_work(kind: str, **case: Any) -> Work:
    """The swarm called `kind`: `mlp`, `cnn` or `mixed`."""
    return {"mlp": mlp_work, "cnn": cnn_work, "mixed": mixed_work}[kind](**case)


def mlp_work(members: int, width: int, steps: int = 200) -> Work:
    """MLPs 64-`width`-10 with relu and Adam on digits; only learning rates differ."""
    space = Space(learning_rate=log_uniform(1e-4, 1e-2), depth=structure(1), width=structure(width))
    return _work(space, tasks.digits(), _genome(space, members), np.full(members, steps, np.int32))


def cnn_work(members: int, width: int, steps: int = 40) -> Work:
    """CNNs of two 3 x 3 convolutions of `width` channels, relu and Adam on digits."""
    space = Space(
        learning_rate=log_uniform(1e-4, 1e-2),
        depth=structure(2),
        kernel=structure(3),
        width=structure(width),
    )
    task = tasks.digits()
    family = cnn.cnn(space, task.train.x.shape[1:], task.outputs)
    genome, grants = _genome(space, members), np.full(members, steps, np.int32)
    return Work(Recipe(space, family, optimizers.for_space(space)), task, genome, grants)


def mixed_work(members: int = 256, steps: int = 500) -> Work:
    """MLPs on digits: depth 1-4, width 8-128 log-uniform, 4 activations, 5 optimizers, 2 rates."""
    space = Space(
        learning_rate=log_uniform(1e-4, 1e-2),
        weight_decay=log_uniform(1e-6, 1e-2),
        activation=choice("relu", "tanh", "gelu", "silu"),
        optimizer=choice("sgd", "momentum", "nesterov", "adam", "adamw"),
        depth=structure(1, 2, 3, 4),
        width=structure(*range(8, 129)),
    )
    genome = _genome(space, members)
    width = np.exp(np.random.default_rng(SEED + 1).uniform(np.log(8), np.log(128), members))
    genome["width"] = (np.round(width) - 8).astype(np.int32)
    return _work(space, tasks.digits(), genome, np.full(members, steps, np.int32))


def _genome(space: Space, members: int) -> Genome:
    """Ranges log-uniform. By NumPy: what is timed must not have compiled anything before."""
    draws = np.random.default_rng(SEED).uniform(size=(len(space.genes), members))
    genes = {}
    for (name, gene), draw in zip(space.genes, draws, strict=True):
        if isinstance(gene, Choice):
            genes[name] = (draw * len(gene.options)).astype(np.int32)
        else:
            genes[name] = (gene.low * (gene.high / gene.low) ** draw).astype(np.float32)
    return genes


def _work(space, task, genome, steps):
    family = mlp.mlp(space, int(np.prod(task.train.x.shape[1:])), task.outputs)
    return Work(Recipe(space, family, optimizers.for_space(space)), task, genome, steps)


def batches(task: Task, round: int, steps: int) -> np.ndarray:
    """Example numbers `[steps, batch]` that the engine draws in a round."""
    parts = range(-(-steps // lanes.DECK))
    return np.concatenate([lanes.make_deck(task, SEED, round, part) for part in parts])[:steps]
