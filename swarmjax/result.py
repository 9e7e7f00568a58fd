"""The best network of a run as an ordinary Flax model."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict

from swarmjax import models, training
from swarmjax.compiling import QUICK
from swarmjax.experiment import Setup
from swarmjax.members import Network, Recipe
from swarmjax.space import Option
from swarmjax.tasks import Task
from swarmjax.train import LocalTrainer
from swarmjax.types import Frame, InputError


class Best(NamedTuple):
    """The best network of a run.

    Attributes:
        model: a Flax module of exactly its architecture; an NNX module holds its weights, and
            `model(x)` evaluates.
        params: its weights, for `model.apply({"params": params}, x)` of a Linen module.
        variables: `params` together with the other collections the model has.
        genome: its genes as plain values.
        scores: validation metrics, and test metrics where the task has test data.
        member: its slot.
        birth: its birth number.
        round: the round after which it was best.
    """

    model: Any
    params: dict[str, Any]
    variables: dict[str, Any]
    genome: dict[str, Option]
    scores: dict[str, float]
    member: int
    birth: int
    round: int


def main_metric(task: Task) -> str:
    """The validation metric that members are ranked by: see `fitness.default`."""
    return "valid_accuracy" if "accuracy" in task.metrics else "valid_loss"


def describe_best(setup: Setup, frame: Frame, member: int, network: Network) -> Best:
    """The network that `frame` shows in slot `member`, without padding."""
    return _shown(setup.recipe, frame, member, network)


def take_out(trainer: LocalTrainer, frame: Frame, slot: int) -> Best:
    """The network in `slot` of a swarm as an ordinary Flax model, best or not, without padding.

    Args:
        trainer: holds the weights; of a `Result`, or from `replay`.
        frame: the last one, beside it.
        slot: from 0.

    Raises:
        InputError: there is no such slot.
    """
    if not 0 <= slot < len(frame.alive):
        raise InputError(f"slot {slot} is none of the swarm's, 0 to {len(frame.alive) - 1}")
    return _shown(trainer.recipe, frame, slot, trainer.network(slot, frame.genome))


def _shown(recipe: Recipe, frame: Frame, slot: int, network: Network) -> Best:
    scores = {name: float(metric[slot]) for name, metric in frame.metrics.items()}
    origin = slot, int(frame.birth[slot]), int(frame.round)
    return described_best(recipe, network, scores, origin)


def described_best(
    recipe: Recipe, network: Network, scores: dict[str, float], origin: tuple[int, int, int]
) -> Best:
    """A network without padding; `origin` is its slot, birth number and round."""
    genome = {name: np.asarray(value)[None] for name, value in network.genome.items()}
    values = recipe.space.values(genome, 0)
    architecture = models.architecture_of(recipe.space, values)
    variables = jax.tree.map(np.asarray, recipe.family.crop(network.member.variables, architecture))
    model = recipe.family.build(values)
    if not isinstance(model, nn.Module):
        # Imported here: others need not wait for NNX.
        from swarmjax import nnx_family

        nnx_family.load(model, variables).eval()
    return Best(model, variables["params"], variables, values, scores, *origin)


def score_on(setup: Setup, network: Network, split: str) -> dict[str, float]:
    """Loss and metrics on the examples of `valid` or `test`; none where the task lacks them."""
    task = setup.task
    data = getattr(task, split)
    if data is None:
        return {}
    recipe, container = setup.recipe, network.container
    scores, *_ = _evaluate(recipe, task, container, data, network.genome, network.member)
    return {f"{split}_{name}": float(value) for name, value in scores.items()}


_evaluate = jax.jit(training.evaluate, static_argnums=(0, 1, 2), compiler_options=QUICK)


def stored_best(best: Best) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the run directory keeps: path -> array, and genes, scores and origin.

    Parameters go by their own paths, other collections with their name in front.
    """
    others = {name: tree for name, tree in best.variables.items() if name != "params"}
    arrays: dict[str, Any] = dict(flatten_dict(best.params, sep="/"))
    arrays.update(flatten_dict(others, sep="/"))
    kept = ("genome", "scores", "member", "birth", "round")
    record = {name: getattr(best, name) for name in kept}
    # JSON has no NaN.
    scores = {name: v if math.isfinite(v) else None for name, v in best.scores.items()}
    return arrays, record | {"scores": scores}
