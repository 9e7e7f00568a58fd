"""What a swarm is worth together: a greedy ensemble of its networks, and a soup of a lineage.

Both are chosen on validation examples among the networks that live after the last round.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import fitness, training
from swarmjax.compiling import QUICK
from swarmjax.data import Data
from swarmjax.experiment import Setup
from swarmjax.members import Network
from swarmjax.models import architecture_of
from swarmjax.result import Best, describe_best, main_metric, score_on
from swarmjax.tasks import Task, measure, output_shape
from swarmjax.types import Array, Frame, Genome

# Networks that an ensemble is chosen from, the best first, and that a soup may have.
CANDIDATES, INGREDIENTS = 64, 16

# Bytes of predictions held at a time: fewer candidates where each has many.
VOTES = 2**26


class Networks(Protocol):
    """Whoever copies networks out of a swarm, such as a trainer."""

    def networks(self, slots: Sequence[int], genome: Genome) -> Iterator[tuple[int, Network]]:
        """Every one of `slots` with its network."""
        ...


class Ensemble(NamedTuple):
    """Networks whose predictions are averaged: probabilities, or outputs of a regression.

    Attributes:
        members: slots, one for each vote; a network may have several.
        networks: slot -> the network.
        scores: validation metrics, and test metrics where the task has test data.
        parameters: weights of all its networks together.
        cost: operations of one prediction over those of the best network of the last round.
    """

    members: tuple[int, ...]
    networks: dict[int, Best]
    scores: dict[str, float]
    parameters: int
    cost: float

    def __str__(self) -> str:
        """Votes, networks and their slots, cost and scores, in a line."""
        votes = f"{len(self.members)} votes of {len(self.networks)} networks"
        slots = ", ".join(map(str, self.networks))
        cost = f"{self.cost:.2g} x the cost of its best alone"
        return f"{votes} ({slots}), {cost}: {_listed(self.scores)}"


class Soup(NamedTuple):
    """One network whose weights are the mean of those of a lineage.

    Attributes:
        members: slots of those networks, the best first.
        variables: Flax collections, without padding, for the model of `members[0]`.
        scores: validation metrics, and test metrics where the task has test data.
    """

    members: tuple[int, ...]
    variables: dict[str, Any]
    scores: dict[str, float]

    def __str__(self) -> str:
        """As in `mean of 3 networks (4, 8, 1): test_accuracy 0.9600`."""
        slots = ", ".join(map(str, self.members))
        if len(self.members) == 1:
            return f"no relative improves member {slots}: {_listed(self.scores)}"
        return f"mean of {len(self.members)} networks ({slots}): {_listed(self.scores)}"


def choose_ensemble(setup: Setup, trainer: Networks, frame: Frame, size: int) -> Ensemble:
    """The best ensemble of up to `size` votes that greedy selection finds, with replacement.

    Source: Caruana et al. 2004, Ensemble Selection from Libraries of Models, ICML.
    """
    task, slots = setup.task, ranked(setup, frame)
    votes = _votes(setup, trainer, frame, slots[:CANDIDATES])
    chosen = [slots[i] for i in select(task, votes, size)]
    distinct = sorted(set(chosen), key=chosen.index)
    networks = dict(trainer.networks(distinct, frame.genome))
    scores = {}
    for name, data in (("valid", task.valid), ("test", task.test)):
        if data is not None:
            each = {slot: predict(setup, networks[slot], data.x) for slot in distinct}
            scores |= _scores(task, name, np.mean([each[slot] for slot in chosen], axis=0), data)
    return Ensemble(
        members=tuple(chosen),
        networks={slot: describe_best(setup, frame, slot, networks[slot]) for slot in distinct},
        scores=scores,
        parameters=int(frame.parameters[distinct].sum()),
        cost=float(frame.cost[distinct].sum() / frame.cost[slots[0]]),
    )


def select(task: Task, votes: Sequence[np.ndarray], size: int) -> list[int]:
    """Which candidates vote, by greedy selection with replacement.

    The one whose vote improves the validation score most comes next; the first so many whose score
    is the best are kept. Ties go to the earlier candidate.

    Args:
        task: tells the score: `valid_accuracy` where there is one, else the loss.
        votes: M predictions `[n, ...]` of the candidates on the validation examples.
        size: most votes.
    """
    chosen, total, best = [], np.zeros_like(votes[0]), (-np.inf, 0)
    for count in range(1, size + 1):
        scores = [float(_judge(task, total + vote, np.float32(count))) for vote in votes]
        chosen.append(int(np.argmax(scores)))
        total = total + votes[chosen[-1]]
        best = max(best, (max(scores), count), key=lambda found: found[0])
    return chosen[: best[1]]


def choose_soup(setup: Setup, trainer: Networks, frame: Frame) -> Soup:
    """The mean of networks of the best one's lineage and architecture, while validation gains.

    Source: greedy soup of Wortsman et al. 2022, arXiv:2203.05482.
    """
    relatives = _relatives(setup, frame)[:INGREDIENTS]
    taken = dict(trainer.networks(relatives, frame.genome))
    networks = [taken[slot] for slot in relatives]
    kept, mean = [0], networks[0]
    score = _value(setup, mean)
    for i, other in enumerate(networks[1:], 1):
        mixed = _mixed(mean, other, len(kept))
        value = _value(setup, mixed)
        if value >= score:
            kept, mean, score = [*kept, i], mixed, value
    members = tuple(relatives[i] for i in kept)
    scores = score_on(setup, mean, "valid") | score_on(setup, mean, "test")
    return Soup(members, describe_best(setup, frame, members[0], mean).variables, scores)


def _votes(setup: Setup, trainer: Networks, frame: Frame, slots: list[int]):
    """Predictions of the first of `slots`, as many as may be held."""
    x = setup.task.valid.x
    each = 4 * math.prod(output_shape(setup.task, len(x)))
    held = slots[: max(1, VOTES // each)]
    networks = trainer.networks(held, frame.genome)
    votes = {slot: predict(setup, network, x) for slot, network in networks}
    return [votes[slot] for slot in held]


def ranked(setup: Setup, frame: Frame) -> list[int]:
    """Slots of the living whose quality is known, the best first.

    Only those within the limits of the goal, if there are any.
    """
    score = np.asarray(fitness.worst_if_dead(fitness.default(frame), frame))
    within = fitness.feasible(setup.goal, frame) & (score > -np.inf)
    order = np.argsort(-score, kind="stable")
    return [int(i) for i in order if score[i] > -np.inf and (within[i] or not within.any())]


def _relatives(setup: Setup, frame: Frame) -> list[int]:
    """Slots of the best network and of those of its lineage and architecture, the best first."""
    order, space = ranked(setup, frame), setup.recipe.space
    shape = partial(architecture_of, space)
    first = order[0]
    wanted = shape(space.values(frame.genome, first))
    return [
        slot
        for slot in order
        if frame.lineage[slot] == frame.lineage[first]
        and shape(space.values(frame.genome, slot)) == wanted
    ]


def predict(setup: Setup, network: Network, x: Array) -> np.ndarray:
    """Probabilities `[n, ..., k]` of classes or tokens, or the outputs of a regression."""
    variables, genome = network.member.variables, network.genome
    return np.asarray(
        _prediction(setup.recipe, setup.task, network.container, x, genome, variables)
    )


@partial(jax.jit, static_argnums=(0, 1, 2), compiler_options=QUICK)
def _prediction(recipe, task: Task, container, x, genome, variables) -> jax.Array:
    numbers = recipe.space.numbers(genome)

    def outputs(x):
        made = recipe.family.apply(container, variables, x, numbers)[0]
        return made if task.valid.kind == "numbers" else jax.nn.softmax(made, axis=-1)

    return training.in_parts(outputs, x, training.EVALUATED * task.batch)


def _as_outputs(task: Task, prediction: Array) -> jax.Array:
    """What a network would have to return to predict that."""
    if task.valid.kind == "numbers":
        return jnp.asarray(prediction)
    return jnp.log(jnp.maximum(prediction, jnp.finfo(jnp.float32).tiny))


def _scores(task: Task, split: str, prediction: Array, data: Data) -> dict[str, float]:
    found = measure(task, _as_outputs(task, prediction), data.y)  # pyright: ignore[reportArgumentType]
    return {f"{split}_{name}": float(value) for name, value in found.items()}


@partial(jax.jit, static_argnums=0, compiler_options=QUICK)
def _judge(task: Task, total, count) -> jax.Array:
    """The score `[]` of the mean of `count` votes, whose sum is `total`."""
    return _worth(task, measure(task, _as_outputs(task, total / count), task.valid.y))


def _worth(task: Task, scores: dict[str, Any]) -> Any:
    """As in `fitness.default`: accuracy, ties broken by the loss; without accuracy the loss."""
    loss = scores["loss"]
    if main_metric(task) == "valid_loss":
        return -loss
    return scores["accuracy"] - 1e-4 * loss / (1.0 + abs(loss))


def _value(setup: Setup, network: Network) -> float:
    found = score_on(setup, network, "valid")
    value = _worth(setup.task, {k.removeprefix("valid_"): v for k, v in found.items()})
    return value if np.isfinite(value) else -np.inf


def _mixed(mean: Network, other: Network, count: int) -> Network:
    """The mean of `count` networks, with one more; counters and the like stay."""

    def mix(a, b):
        inexact = np.issubdtype(np.asarray(a).dtype, np.inexact)
        return (a + (b - a) / (count + 1)).astype(a.dtype) if inexact else a

    variables = jax.tree.map(mix, mean.member.variables, other.member.variables)
    return mean._replace(member=mean.member._replace(variables=variables))


def _listed(scores: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in sorted(scores.items()))
