"""A Gaussian-process bandit that picks the genes of children."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from swarmjax import fitness
from swarmjax.policy import children, generator
from swarmjax.space import Choice, Gene
from swarmjax.types import Frame, Genome, InputError, Key, Plan, Policy

# A length so long that a kernel does not see the column: time for genes, genes for time.
_UNSEEN = 1e5
# Observations from which its lengths are found: enough for so few, at a tenth of the time.
_FITTED = 100
# Points that are compared, and those of them that children get: both bound the time of a Plan.
_CANDIDATES = 512
_PICKS = 256

Genes = list[tuple[str, Gene]]


class Seen(NamedTuple):
    """What a bandit remembers: observations, the oldest first.

    Attributes:
        before: `[N]` fitness of the network that each slot started from in the last Plan; -inf
            where unknown.
        points: `[M, G]` genes that are not structural, in the unit cube.
        rounds: `[M]` in which they were used.
        gains: `[M]` by how much the fitness changed in that round.
    """

    before: np.ndarray
    points: np.ndarray
    rounds: np.ndarray
    gains: np.ndarray


def bandit(exploration: float = 1.0, window: int = 256, goal: fitness.Goal | None = None) -> Policy:
    """Picks genes for the members that take over another's weights by what made fitness rise.

    A Gaussian process predicts the change of fitness in a round from the genes and the round; old
    rounds count ever less. Children get, one after the other, the genes with the highest upper
    confidence bound, each as if those before had been tried already; beyond 256 children those
    genes are dealt out again in the same order, so that the time stays bounded (covariances of 512
    candidates, a product of 512 x k for the pick k). Structural genes never change.
    Stands after the policies that write `plan.parent`; runs on the host. Source: Parker-Holder et
    al. 2020, Provably Efficient Online Hyperparameter Optimization with Population-Based Bandits,
    arXiv:2002.02518; here choices are genes like others, one-hot, and changes count by their normal
    scores, so that a collapse does not drown all else.

    Args:
        exploration: standard deviations that the bound lies above the mean.
        window: latest observations that are kept; the time of an update grows with its cube.
        goal: fitness, `fitness.default` unless given.
    """
    if not 0 <= exploration < float("inf"):
        raise InputError(f"bandit needs a finite exploration >= 0, got {exploration}")
    if not isinstance(window, int) or not 2 <= window <= 2000:
        raise InputError(f"bandit needs a window from 2 to 2000 observations, got {window!r}")
    measure = goal or fitness.default

    def init(frame: Frame) -> Seen:
        none, genes = np.zeros(0, np.float32), len(_free(frame))
        unknown = np.full(frame.alive.shape, -np.inf, np.float32)
        _score(measure, frame)
        return Seen(unknown, np.zeros((0, genes), np.float32), none, none)

    def update(key: Key, plan: Plan, frame: Frame, state: Seen) -> tuple[Plan, Seen]:
        score, free = _score(measure, frame), _free(frame)
        seen = _observe(score, frame, state, window)
        child, genome = np.flatnonzero(children(plan)), dict(plan.genome)
        if len(child) and free:
            current = _encode(free, genome)[child]
            points = _pick(generator(key), free, seen, current, int(frame.round), exploration)
            for i, (name, gene) in enumerate(free):
                genome[name] = np.array(genome[name])
                genome[name][child] = gene.decode(points[:, i])
        before = np.where(plan.fresh, np.float32(-np.inf), score[plan.parent])
        return plan._replace(genome=genome), seen._replace(before=before)

    shown = "" if goal is None else f", goal={goal.__name__}"
    return Policy(
        init, update, f"bandit({exploration=}, {window=}{shown})", host=True,
        needs=frozenset(("children",)), writes=frozenset(("genome",)),
    )  # fmt: skip


def _free(frame: Frame) -> Genes:
    return [(name, gene) for name, gene in frame.space.genes if not gene.structural]


def _score(measure: fitness.Goal, frame: Frame) -> np.ndarray:
    return np.asarray(fitness.worst_if_dead(measure(frame), frame))


def _encode(free: Genes, genome: Genome) -> np.ndarray:
    columns = [gene.encode(np.asarray(genome[name])) for name, gene in free]
    return np.stack(columns, axis=-1).astype(np.float32)


def _observe(score: np.ndarray, frame: Frame, state: Seen, window: int) -> Seen:
    """The state with what the last round showed of those who trained on."""
    known = np.isfinite(score) & np.isfinite(state.before) & (frame.steps > 0)
    # Weights that did not fit were drawn anew: nothing was there before.
    slots = np.flatnonzero(known & (frame.total_steps > frame.steps))
    if not len(slots) or not state.points.shape[1]:
        return state
    gain = score[slots].astype(np.float64) - state.before[slots]
    gain = np.clip(gain, np.finfo(np.float32).min, np.finfo(np.float32).max)
    points = _encode(_free(frame), frame.genome)[slots]
    rounds = np.full(len(slots), frame.round)
    pairs = zip(state[1:], (points, rounds, gain), strict=True)
    joined = (np.concatenate([old, new.astype(np.float32)])[-window:] for old, new in pairs)
    return Seen(state.before, *joined)


def _pick(
    rng: np.random.Generator,
    free: Genes,
    seen: Seen,
    current: np.ndarray,
    now: int,
    exploration: float,
) -> np.ndarray:
    """New genes `[C, G]` for children that have `current` ones `[C, G]`."""
    candidates = _candidates(rng, free, current, _CANDIDATES)
    tried = np.column_stack([_features(free, seen.points), seen.rounds])
    asked = np.column_stack([_features(free, candidates), np.full(len(candidates), now + 1)])
    mean, covariance, noise = posterior(tried, normal_scores(seen.gains), asked)
    picks = batch(mean, covariance, noise, min(len(current), _PICKS), exploration)
    return candidates[np.resize(picks, len(current))]


def _candidates(
    rng: np.random.Generator, free: Genes, current: np.ndarray, count: int
) -> np.ndarray:
    """Points `[count, G]`: half of them anywhere, half near the current genes of a child."""
    anywhere = rng.random((count, len(free)), np.float32)
    near = current[rng.integers(len(current), size=count)]
    wide = np.array([0.0 if isinstance(gene, Choice) else 0.1 for _, gene in free], np.float32)
    near = np.clip(near + wide * rng.standard_normal(near.shape, np.float32), 0.0, 1.0)
    leaping = rng.random(near.shape) < 0.2
    leaping[: count // 2] = True
    return np.where(leaping, anywhere, near)


def _features(free: Genes, points: np.ndarray) -> np.ndarray:
    """Points `[M, G]` with a column for every option of a choice."""
    columns = []
    for i, (_, gene) in enumerate(free):
        unit = points[:, i]
        choice = isinstance(gene, Choice)
        columns.append(np.eye(len(gene.options))[gene.decode(unit)] if choice else unit)
    return np.column_stack(columns)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Values `[M]` replaced by the quantiles of a normal distribution that have their ranks."""
    # Imported here, as below: it takes longer than all else that a policy needs.
    from scipy import stats

    return stats.norm.ppf((stats.rankdata(values) - 0.5) / max(len(values), 1))


def posterior(
    tried: np.ndarray, values: np.ndarray, asked: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean `[C]` and covariance `[C, C]` of a Gaussian process at `asked`, and the noise variance.

    The kernel is a squared exponential in the genes times an exponential decay with time, as in
    PB2; its lengths and the noise are those of a high marginal likelihood.

    Args:
        tried: `[M, F + 1]` features and, last, time; M may be 0.
        values: `[M]` of mean 0 and variance 1.
        asked: `[C, F + 1]`.
    """
    kernel = _kernel(tried.shape[1] - 1)
    kernel = _fitted(kernel, tried, values) if len(values) else kernel
    model = _process(kernel)
    if len(values):
        model.fit(tried, values)
    mean, covariance = model.predict(asked, return_cov=True)
    noise = float(kernel.k2.noise_level)
    return mean, covariance - noise * np.eye(len(asked)), noise


def _kernel(features: int) -> Any:
    from sklearn.gaussian_process import kernels

    of: Any = kernels
    unseen = (_UNSEEN, _UNSEEN)
    genes = of.RBF([0.5] * features + [_UNSEEN], [(0.1, 10.0)] * features + [unseen])
    time = of.Matern([_UNSEEN] * features + [10.0], [unseen] * features + [(1.0, 100.0)], nu=0.5)
    return genes * time + of.WhiteKernel(0.5, (0.01, 2.0))


def _process(kernel: Any) -> Any:
    from sklearn import gaussian_process

    of: Any = gaussian_process
    return of.GaussianProcessRegressor(kernel, optimizer=None)


def _fitted(kernel: Any, tried: np.ndarray, values: np.ndarray) -> Any:
    """The kernel with the lengths and the noise that make a part of the values likeliest."""
    from scipy.optimize import minimize

    part = slice(None, None, -(-len(values) // _FITTED))
    model = _process(kernel).fit(tried[part], values[part])

    def cost(theta: np.ndarray) -> tuple[Any, Any]:
        value, slope = model.log_marginal_likelihood(theta, eval_gradient=True)
        return -value, -slope

    # Not by the model's own search, which warns whenever a length ends at its bound.
    best = minimize(
        cost, kernel.theta, jac=True, method="L-BFGS-B", bounds=kernel.bounds,
        options={"maxiter": 30},
    )  # fmt: skip
    return kernel.clone_with_theta(best.x)


def batch(
    mean: np.ndarray, covariance: np.ndarray, noise: float, count: int, exploration: float
) -> np.ndarray:
    """Indices `[count]` of the highest upper confidence bounds, each after those before are tried.

    What a trial would show is not known, but by how much it would narrow the others is (Desautels
    et al. 2014, Parallelizing Exploration-Exploitation Tradeoffs, JMLR 15). None is chosen twice.
    The covariance left is `covariance - factor @ factor.T`, of which only a column is formed.
    """
    chosen, free = np.zeros(count, int), np.ones(len(mean), bool)
    factor, variance = np.zeros((len(mean), count)), np.diagonal(covariance).copy()
    for k in range(count):
        deviation = np.sqrt(np.maximum(variance, 0.0))
        best = int(np.argmax(np.where(free, mean + exploration * deviation, -np.inf)))
        column = covariance[:, best] - factor[:, :k] @ factor[best, :k]
        factor[:, k] = column / np.sqrt(column[best] + noise)
        variance -= factor[:, k] ** 2
        chosen[k], free[best] = best, False
    return chosen
