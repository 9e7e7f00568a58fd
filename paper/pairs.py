"""What tells beforehand that networks are worth more together: their genes or what they predict.

Looked at are all pairs of the best networks of a swarm by validation. Two vote by the mean of their
probabilities; what that gains over the mean of both is, for squares of errors, the ambiguity of
Krogh and Vedelsby 1995, Neural Network Ensembles, Cross Validation, and Active Learning. Distances
are from genes and validation examples, gains from test examples.
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
from scipy import stats

from paper.intervals import COVERED, RESAMPLES, Interval
from swarmjax import ensemble, similarity
from swarmjax.experiment import Setup
from swarmjax.types import Frame, Genome

# The best networks of a swarm, of which all pairs are looked at.
BEST = 16


class Pairs(NamedTuple):
    """All pairs of the best networks of one swarm.

    Attributes:
        disagreement: mean share of validation examples that two put into different classes.
        genome: mean Gower distance of two.
        gain: mean test accuracy of two together, less the mean of theirs alone.
        by_disagreement: rank correlation over pairs of disagreement and gain, 0 if one is constant.
        by_genome: that of Gower distance and gain.
        better_by_disagreement: as `by_disagreement`, of the gain over the better of the two.
        better_by_genome: as `by_genome`, of the gain over the better of the two.
    """

    disagreement: float
    genome: float
    gain: float
    by_disagreement: float
    by_genome: float
    better_by_disagreement: float
    better_by_genome: float


def look(setup: Setup, networks: ensemble.Networks, frame: Frame) -> Pairs | None:
    """The best pairs of a swarm; None without classes, test data or two living networks."""
    task, slots = setup.task, ensemble.ranked(setup, frame)[:BEST]
    if task.test is None or task.valid.kind == "numbers" or len(slots) < 2:
        return None
    taken = dict(networks.networks(slots, frame.genome))
    valid, test = (
        np.stack([ensemble.predict(setup, taken[slot], data.x) for slot in slots])
        for data in (task.valid, task.test)
    )
    genome: Genome = {name: np.asarray(values)[slots] for name, values in frame.genome.items()}
    apart = np.asarray(similarity.genome_distance(setup.recipe.space, genome))
    return weigh(valid.argmax(-1), apart, test, np.asarray(task.test.y))


def weigh(labels: np.ndarray, apart: np.ndarray, test: np.ndarray, truth: np.ndarray) -> Pairs:
    """What the pairs of M networks show.

    Args:
        labels: `[M, n]` classes that each predicts of the validation examples.
        apart: `[M, M]` distances of their genes.
        test: `[M, t, k]` probabilities of the test examples.
        truth: `[t]` their classes.
    """
    unlike = np.asarray(similarity.disagreement(labels.reshape(len(labels), -1)))
    alone = (test.argmax(-1) == truth).mean(axis=1)
    first, second = np.asarray(list(combinations(range(len(test)), 2))).T
    together = np.asarray([
        ((test[i] + test[j]).argmax(-1) == truth).mean()
        for i, j in zip(first, second, strict=True)
    ])  # fmt: skip
    distances = unlike[first, second], apart[first, second]
    over_mean = together - (alone[first] + alone[second]) / 2
    over_better = together - np.maximum(alone[first], alone[second])
    return Pairs(
        *(float(each.mean()) for each in (*distances, over_mean)),
        *(correlation(distance, over_mean) for distance in distances),
        *(correlation(distance, over_better) for distance in distances),
    )


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's rank correlation; 0 where one of both says nothing, being constant."""
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])


def across(predictors: dict[str, np.ndarray], gain: np.ndarray) -> dict[str, Interval]:
    """How each predictor goes with the gain over all swarms, and by how much the first does more.

    Args:
        predictors: name -> `[policies, seeds]`, two of them.
        gain: `[policies, seeds]`.

    Returns:
        Name -> Spearman correlation and its bootstrap interval over seeds; `difference` of both.
    """
    seeds = gain.shape[1]
    rng = np.random.default_rng(0)

    def found(drawn: np.ndarray) -> list[float]:
        each = [
            correlation(x[:, drawn].ravel(), gain[:, drawn].ravel()) for x in predictors.values()
        ]
        return [*each, each[0] - each[1]]

    values = found(np.arange(seeds))
    draws = np.asarray([found(drawn) for drawn in rng.integers(0, seeds, (RESAMPLES, seeds))])
    low, high = np.quantile(draws, [(1 - COVERED) / 2, (1 + COVERED) / 2], axis=0)
    bounds = zip(values, low.tolist(), high.tolist(), strict=True)
    return dict(zip([*predictors, "difference"], (Interval(*each) for each in bounds), strict=True))
