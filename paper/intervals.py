"""Aggregates over seeds with bootstrap intervals, after Agarwal et al. 2021 (arXiv:2108.13264)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy import stats

# Resamples of an interval, and the share that it covers.
RESAMPLES, COVERED = 2000, 0.95


class Interval(NamedTuple):
    """A figure and where it may lie."""

    value: float
    low: float
    high: float


def middle_mean(scores: np.ndarray) -> Interval:
    """Interquartile mean of `scores` `[seeds]`, the mean of the middle half, and its interval."""
    scores = np.asarray(scores, np.float64)
    value = float(_middle(scores, axis=0))
    if np.ptp(scores) == 0:
        return Interval(value, value, value)
    found = stats.bootstrap(
        (scores,), _middle, n_resamples=RESAMPLES, confidence_level=COVERED, method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return Interval(value, float(found.low), float(found.high))


def compare(ours: np.ndarray, theirs: np.ndarray) -> Interval:
    """Interquartile mean of the differences `[seeds]`, paired by seed."""
    return middle_mean(np.asarray(ours) - np.asarray(theirs))


def profile(scores: np.ndarray, levels: np.ndarray) -> dict[str, Any]:
    """Performance profile: share of `scores` `[seeds]` at or above each of `levels`, with bands."""
    above = np.asarray(scores)[:, None] >= levels[None]
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(above), (RESAMPLES, len(above)))
    shares = above[draws].mean(axis=1)
    low, high = np.quantile(shares, [(1 - COVERED) / 2, (1 + COVERED) / 2], axis=0)
    return {"share": above.mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}


def _middle(scores: np.ndarray, axis: int) -> np.ndarray:
    return stats.trim_mean(scores, 0.25, axis=axis)
