"""How a metric went: of every member, and the spread of the swarm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from viz import metrics
from viz.history import Columns, History
from viz.theme import Look

TOP = 5
EVERY = slice(None)
BINS = 60
SHARES = (0.1, 0.5, 0.9)
AXES = {"round": "round", "training steps": "step"}


class Band(NamedTuple):
    """Spread of the living swarm: `[B]` positions and the 10, 50 and 90 % quantiles there."""

    at: np.ndarray
    low: np.ndarray
    middle: np.ndarray
    high: np.ndarray


def shown(history: History, members: tuple[int, ...], look: Look) -> tuple[int, ...]:
    """The members drawn: of the selected as many as there are colours, else the top five."""
    chosen = members or tuple(int(member) for member in metrics.ranking(history)[:TOP])
    return chosen[: len(look.picks)]


def over_own_range(
    history: History, name: str, members: Sequence[int] | slice = EVERY
) -> np.ndarray:
    """The metric of some members `[R, K]` from 0, its least value in the run, to 1, its largest."""
    metric = metrics.describe(name, history.space)
    values = metrics.scaled_column(history, metric)[:, members].astype(float)
    ends = metrics.ends(history, metric)
    if not np.isfinite(ends).any():
        return values
    low, high = np.nanmin(ends), np.nanmax(ends)
    return (values - low) / (high - low) if high > low else values * 0 + 0.5


def times(history: History, axis: str) -> np.ndarray:
    """Where each measurement stands, `[R, N]`: its round, or the steps behind its weights."""
    if axis == "round":
        return np.broadcast_to(history.rounds[:, None], (len(history.rounds), history.members))
    return history.column("step")


def measured(
    history: History, metric: metrics.Metric, members: Sequence[int] | slice = EVERY
) -> np.ndarray:
    """The metric of some members `[R, K]`.

    NaN where it is not finite, the member dead, or a logarithm undone.
    """
    values = metrics.scaled_column(history, metric)[:, members].astype(float)
    return 10.0**values if metric.log else values


def _measured(frame: Columns, metric: metrics.Metric) -> np.ndarray:
    raw = frame[metric.name].astype(float)
    usable = frame["alive"] & np.isfinite(raw)
    return np.where(usable & ((raw > 0) | (not metric.log)), raw, np.nan)


def moves(history: History) -> np.ndarray:
    """Rounds (as positions) and slots `[K, 2]` that took over the weights of another."""

    def taken(r: int) -> np.ndarray:
        frame = history.frames[r]
        return np.flatnonzero(frame["parent"] != frame["member"])

    return history.places("moves", taken)


def quantiles(history: History, metric: metrics.Metric) -> Band:
    """The spread of the swarm in every round in which anyone was measured."""
    found = quantile_rows(history, metric)
    known = np.isfinite(found).all(axis=1)
    return Band(history.rounds[known], *found[known].T)


def quantile_rows(history: History, metric: metrics.Metric) -> np.ndarray:
    """The quantiles `[R, 3]` at `SHARES` over the living, NaN where nobody was measured."""

    def of_round(frame: Columns) -> np.ndarray:
        values = _measured(frame, metric)
        values = values[np.isfinite(values)]
        return np.quantile(values, SHARES) if values.size else np.full(len(SHARES), np.nan)

    return history.each(("quantiles", metric.name, metric.log), of_round)


def spread(x: np.ndarray, y: np.ndarray) -> Band:
    """Quantiles of `y` over the members, by position in at most `BINS` bins."""
    distinct = np.unique(x)
    if len(distinct) > BINS:
        edges = np.linspace(distinct[0], distinct[-1], BINS + 1)
        bins = np.clip(np.digitize(x, edges) - 1, 0, BINS - 1)
        distinct = (edges[:-1] + edges[1:]) / 2
    else:
        bins = np.searchsorted(distinct, x)
    usable = np.isfinite(y)
    groups = [y[(bins == i) & usable] for i in range(len(distinct))]
    filled = [i for i, group in enumerate(groups) if group.size]
    quantiles = np.array([np.quantile(groups[i], SHARES) for i in filled]).reshape(-1, 3)
    return Band(distinct[filled], *quantiles.T)


def widened(band: Band) -> Band:
    """The band itself, or a stub that can be seen where there is but one position."""
    if len(band.at) != 1:
        return band
    at = band.at[0]
    return Band(np.array([at - 0.2, at + 0.2]), *(np.repeat(part, 2) for part in band[1:]))
