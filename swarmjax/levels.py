"""Windows made coarser, and quantiles over the swarm: what is kept where all would be too much."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from swarmjax import ipc

# Neighbouring windows that become one at the coarser level.
FACTOR = 8
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

_LOWEST, _HIGHEST = ("train_loss_min",), ("train_loss_max",)
_MEANS, _SUMS, _OWN = ("train_loss", "gradient_norm"), ("steps",), ("member", "birth")


def coarsen(windows: pa.Table, factor: int = FACTOR) -> pa.Table:
    """Every `factor` neighbouring windows of a network as one, by member and then time.

    What belongs to a moment, such as `step`, is that of the last of them; `steps` says how long the
    new window is.
    """
    columns = {name: ipc.numbers(windows[name]) for name in windows.column_names}
    order = np.lexsort((columns["step"], columns["round"], columns["member"]))
    columns = {name: values[order] for name, values in columns.items()}
    starts = _starts(columns["member"], columns["birth"], factor)
    ends = np.append(starts[1:], len(order))[: len(starts)] - 1
    made = {name: _merged(name, columns, starts, ends) for name in columns}
    return pa.table({name: ipc.column(values) for name, values in made.items()})


def _starts(member: np.ndarray, birth: np.ndarray, factor: int) -> np.ndarray:
    """Where each of the new windows begins among the old ones, which are in order."""
    place = np.arange(len(member))
    other = np.ones(len(member), bool)
    other[1:] = (member[1:] != member[:-1]) | (birth[1:] != birth[:-1])
    # Counted from the first window of each network.
    since = place - np.maximum.accumulate(np.where(other, place, 0))
    return np.flatnonzero(since % factor == 0)


def _merged(name: str, columns, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    values, steps = columns[name], columns["steps"]
    if not len(starts):
        return values
    if name in _LOWEST or name in _HIGHEST:
        return (np.minimum if name in _LOWEST else np.maximum).reduceat(values, starts)
    if name in _SUMS:
        return np.add.reduceat(values, starts, dtype=values.dtype)
    if name in _MEANS:
        with np.errstate(invalid="ignore", over="ignore"):
            total = np.add.reduceat(values.astype(np.float64) * steps, starts)
            return (total / np.add.reduceat(steps, starts)).astype(values.dtype)
    return values[starts if name in _OWN else ends]


def quantiles(frame: pa.Table, metrics: Iterable[str]) -> pa.Table:
    """One row per metric of a round: how its finite values spread over the living members."""
    alive = ipc.numbers(frame["alive"])
    round = ipc.numbers(frame["round"])[:1]
    names, rows, counts = list(metrics), [], []
    for name in names:
        values = ipc.numbers(frame[name])[alive]
        values = values[np.isfinite(values)]
        counts.append(len(values))
        rows.append(np.quantile(values, QUANTILES) if len(values) else np.full(7, np.nan))
    spread = np.asarray(rows, np.float32).reshape(-1, len(QUANTILES))
    named = {f"q{round_percent(q):02d}": spread[:, i] for i, q in enumerate(QUANTILES)}
    columns = {
        "round": np.repeat(round, len(names)), "metric": ipc.texts(names),
        "members": np.asarray(counts, np.int32), **named,
    }  # fmt: skip
    return pa.table({name: ipc.column(values) for name, values in columns.items()})


def round_percent(quantile: float) -> int:
    """A quantile in percent, as columns are called by it: 5 for `q05`."""
    return round(100 * quantile)
