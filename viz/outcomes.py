"""How a search went: the best so far and the distribution of scores, of one or several runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from viz import metrics
from viz.history import History

AXES = {"member-steps": "steps", "round": "round", "seconds": "seconds"}
CURVES = 4


class Outcome(NamedTuple):
    """What one run has come to.

    Attributes:
        rounds: `[R]` numbers of the rounds.
        steps: `[R]` member-steps taken by the end of each.
        seconds: `[R]` wall seconds since the end of the first.
        best: `[R]` best score any living member has had so far, NaN before the first.
        scores: `[R, N]` scores of the living, NaN for others.
        metric: what is scored.
        members: of the swarm.
    """

    rounds: np.ndarray
    steps: np.ndarray
    seconds: np.ndarray
    best: np.ndarray
    scores: np.ndarray
    metric: metrics.Metric
    members: int


def outcome(history: History, name: str = "") -> Outcome:
    """What a run has come to by a metric, the one that ranks its members if none is named."""
    metric = metrics.describe(name or metrics.fitness_metric(history), history.space)
    sign = -1 if metric.better < 0 else 1
    raw = history.column(metric.name).astype(float)
    scores = np.where(history.column("alive") & np.isfinite(raw), raw, np.nan)
    each = np.where(np.isfinite(scores), scores * sign, -np.inf).max(axis=1)
    best = np.maximum.accumulate(each) * sign
    times = history.each("time", lambda frame: frame["time"][0])
    return Outcome(
        history.rounds, history.column("steps").sum(axis=1, dtype=np.int64).cumsum(),
        times - times[0], np.where(np.isfinite(best), best, np.nan), scores, metric,
        history.members,
    )  # fmt: skip


def distribution(runs: Mapping[str, Outcome]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Curve name -> scores from worst to best, and the share of members up to each."""
    if len(runs) == 1:
        run = next(iter(runs.values()))
        which = np.unique(np.linspace(0, len(run.rounds) - 1, CURVES).astype(int))
        rows = {f"round {run.rounds[r]}": (run.scores[r], run) for r in which}
    else:
        rows = {name: (run.scores[-1], run) for name, run in runs.items()}
    found = {}
    for name, (scores, run) in rows.items():
        usable = np.isfinite(metrics.scaled(scores, run.metric))
        ordered = np.sort(scores[usable])
        if run.metric.better < 0:
            ordered = ordered[::-1]
        # The dead and the unmeasured are worse than all.
        missing = run.members - len(ordered)
        found[name] = ordered, (missing + np.arange(len(ordered)) + 1) / run.members
    return found


def table(runs: Mapping[str, Outcome]) -> pd.DataFrame:
    """One row per run: size, what it spent, its best score and what its members came to."""
    rows = []
    for name, run in runs.items():
        low, middle, high = quantiles(run.scores[-1])
        rows.append(
            {
                "run": name,
                "members": run.members,
                "alive": int(np.isfinite(run.scores[-1]).sum()),
                "rounds": len(run.rounds),
                "member-steps": int(run.steps[-1]),
                "seconds": float(run.seconds[-1]),
                "metric": run.metric.label,
                "best": float(run.best[-1]),
                "median member": middle,
                "lowest tenth": low,
                "highest tenth": high,
            }
        )
    return pd.DataFrame(rows)


def by_round(runs: Mapping[str, Outcome]) -> pd.DataFrame:
    """One row per run and round: steps, seconds, best so far and median, the latest first."""
    parts = [
        pd.DataFrame(
            {
                "run": name, "round": run.rounds, "member-steps": run.steps,
                "seconds": run.seconds, "best so far": run.best,
                "median member": [quantiles(row)[1] for row in run.scores],
            }
        ).iloc[::-1]
        for name, run in runs.items()
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def shares_table(runs: Mapping[str, Outcome]) -> pd.DataFrame:
    """The distribution in numbers: what each tenth of the members reached."""
    tenths = np.linspace(0.1, 1, 10)
    columns: dict[str, Any] = {"share of members": tenths}
    for name, (x, y) in distribution(runs).items():
        columns[name] = np.interp(tenths, y, x, left=np.nan) if x.size else np.full(10, np.nan)
    return pd.DataFrame(columns)


def at(run: Outcome, axis: str) -> np.ndarray:
    """Where each round stands on an axis of `AXES`."""
    return {"steps": run.steps, "round": run.rounds, "seconds": run.seconds}[axis].astype(float)


def quantiles(scores: np.ndarray) -> tuple[float, float, float]:
    """What a tenth, a half and nine tenths of the finite scores do not exceed, NaN of none."""
    known = scores[np.isfinite(scores)]
    low, middle, high = np.quantile(known, (0.1, 0.5, 0.9)) if known.size else (np.nan,) * 3
    return float(low), float(middle), float(high)
