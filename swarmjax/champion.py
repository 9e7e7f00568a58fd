"""The best network that a run has seen, kept apart from the swarm, in which it may not last."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from swarmjax import fitness
from swarmjax.containers import recognised
from swarmjax.experiment import Setup
from swarmjax.members import Network
from swarmjax.naming import Named, named
from swarmjax.result import Best, describe_best, described_best
from swarmjax.types import Frame, Genome

_PREFIX = "best"


class Champion(NamedTuple):
    """The best network so far.

    Attributes:
        worth: whether it keeps within the limits of the goal, and its score.
        network: with padding.
        best: without.
    """

    worth: tuple[bool, float]
    network: Network
    best: Best


def challenge(
    champion: Champion | None, setup: Setup, trainer: Any, frame: Frame, held: Frame
) -> Champion | None:
    """The champion after a round, a copy of the best living network if that beats the one before.

    Whoever keeps within the limits of the goal comes before everyone who does not.

    Args:
        champion: the one before.
        setup: of the run.
        trainer: holds the networks.
        frame: of the round.
        held: the same, with those dead whom the trainer does not hold.
    """
    scores = np.asarray(fitness.worst_if_dead(fitness.default(held), held))
    within = fitness.feasible(setup.goal, held) & np.isfinite(scores)
    member = int(np.where(within | ~within.any(), scores, -np.inf).argmax())
    worth = bool(within[member]), float(scores[member])
    if not np.isfinite(scores[member]) or (champion is not None and worth <= champion.worth):
        return champion
    network = trainer.network(member, frame.genome)
    return Champion(worth, network, describe_best(setup, frame, member, network))


def kept(champion: Champion | None) -> tuple[Named, dict[str, Any]]:
    """What a checkpoint keeps of it: arrays by name, and facts."""
    if champion is None:
        return {}, {}
    best, (within, score) = champion.best, champion.worth
    facts = {
        "within": within, "score": score, "scores": {n: repr(v) for n, v in best.scores.items()},
        "origin": [best.member, best.birth, best.round],
    }  # fmt: skip
    held = champion.network.member, champion.network.genome
    return named(held, _PREFIX), facts


def found_again(
    setup: Setup, trainer: Any, arrays: Named, facts: dict[str, Any]
) -> Champion | None:
    """The champion that `kept` was given; None where there was none.

    Raises:
        InputError: it is no network of this run.
    """
    if not facts:
        return None
    genes: Genome = {
        name: np.asarray(arrays[f"{_PREFIX}[1]['{name}']"]) for name, _ in setup.recipe.space.genes
    }
    boxes = trainer.boxes(genes)
    container, member = recognised(setup.recipe, boxes, arrays, f"{_PREFIX}[0]")
    network = Network(container, jax.tree.map(np.asarray, member), genes)
    scores = {name: float(value) for name, value in facts["scores"].items()}
    best = described_best(setup.recipe, network, scores, tuple(facts["origin"]))
    return Champion((facts["within"], facts["score"]), network, best)
