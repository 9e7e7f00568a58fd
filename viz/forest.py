"""What genes matter: a random forest learns fitness from the genome, and tells."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import holoviews as hv
import numpy as np
import pandas as pd

from swarmjax.space import Choice
from swarmjax.types import Genome
from viz import metrics, scatter
from viz.history import History
from viz.marks import element, overlay
from viz.theme import LIGHT, Look, figure, letters, styled

TREES, MAX_ROWS, FEWEST = 64, 2000, 12


# Who explains no more of the variance has little to say; its bars are faint.
LITTLE = 0.2


class Fit(NamedTuple):
    """What a forest learned of one metric.

    Attributes:
        importance: gene -> share of the explained variance.
        score: coefficient of determination on members that a tree had not seen; NaN if unknown.
        count: members that it learned from.
        model: predicts the scaled metric from `features`, None where there was too little to learn.
    """

    importance: dict[str, float]
    score: float
    count: int
    model: Any


@lru_cache(maxsize=4)
def learn(history: History, metric: str) -> Fit:
    """The forest of one metric in the latest round; importances are mean decreases of impurity.

    Source: Breiman 2001, Random Forests, Machine Learning 45.
    """
    # Here: it takes long to import, and only this view needs it.
    from sklearn.ensemble import RandomForestRegressor

    genes = [name for name, _ in history.space.genes]
    told = metrics.describe(metric, history.space)
    target = metrics.scaled(scatter.values(history, metric), told)
    rows = np.flatnonzero(np.isfinite(target))
    if len(rows) > MAX_ROWS:
        rows = np.random.default_rng(0).choice(rows, MAX_ROWS, replace=False)
    genes = [name for name in genes if name != metric]
    if len(rows) < FEWEST or not genes or np.ptp(target[rows]) == 0:
        return Fit(dict.fromkeys(genes, 0.0), np.nan, len(rows), None)
    columns, owners = features(history, history.genome(), genes)
    model = RandomForestRegressor(
        TREES, min_samples_leaf=3, max_features=0.7, oob_score=True, random_state=0
    )
    model.fit(columns[rows], target[rows])
    shares = np.bincount(owners, model.feature_importances_, len(genes))
    importance = dict(zip(genes, shares.tolist(), strict=True))
    return Fit(importance, float(model.oob_score_), len(rows), model)


def features(history: History, genome: Genome, genes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Columns `[N, F]` for the forest, and the gene `[F]` each belongs to; options one by one."""
    columns, owners = [], []
    for i, name in enumerate(genes):
        gene = history.space[name]
        values = np.asarray(genome[name])
        ordered = not isinstance(gene, Choice) or _numbers(gene)
        if not isinstance(gene, Choice):
            columns.append(np.asarray(gene.encode(values), float)[:, None])
        elif ordered:
            columns.append(values.astype(float)[:, None])
        else:
            columns.append(np.eye(len(gene.options))[values.astype(int)])
        owners += [i] * columns[-1].shape[1]
    return np.concatenate(columns, axis=1), np.array(owners)


def _numbers(gene: Choice) -> bool:
    return all(isinstance(option, int | float) for option in gene.options)


def table(fit: Fit) -> pd.DataFrame:
    """Genes by their importance."""
    rows = sorted(fit.importance.items(), key=lambda item: -item[1])
    return pd.DataFrame(rows, columns=["gene", "importance"])


def plot(fit: Fit, *, look: Look = LIGHT) -> hv.Overlay:
    """A bar per gene, the most important on top, with its share."""
    rows = table(fit).iloc[::-1].reset_index(drop=True)
    at = np.arange(len(rows), dtype=float)
    share = rows.importance.to_numpy(float)
    bars = hv.Rectangles(
        (np.zeros(len(rows)), at - 0.36, share, at + 0.36), ["x0", "y0", "x1", "y1"]
    )
    texts = [(s, a, f" {s:.0%}") for s, a in zip(share, at, strict=True)]
    labels = element(hv.Labels, texts, ["x", "y"], "text")
    alpha = 0.85 if fit.score > LITTLE else 0.25
    parts = [
        styled(bars, color=look.accent, line_alpha=0, fill_alpha=alpha),
        styled(labels, text_color=look.ink, text_align="left", **letters()),
    ]
    return styled(overlay(parts), **_style(list(rows.gene), share))


def _style(genes: list[str], share: np.ndarray) -> dict[str, Any]:
    most = max(float(share.max(initial=0)), 0.05)
    return figure(
        xlabel="share of what the forest explains",
        ylabel="",
        xlim=(0, most * 1.15),
        ylim=(-0.6, len(genes) - 0.4),
        yticks=[(i, gene.replace("_", " ").replace("$", "")) for i, gene in enumerate(genes)],
    )
