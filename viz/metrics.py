"""Which columns can be shown, which way is better, and how values become shades of a colour."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from swarmjax.space import Range, Space
from viz.source import History

_HIDDEN = frozenset("round time member birth lineage parent fresh alive steps".split())
_LOWER = ("loss", "error", "perplexity", "mae", "mse", "rmse")
_LOG = frozenset(("gradient_norm", "cost"))
_LABELS = {
    "step": "training steps",
    "birth": "network",
    "cost": "FLOPs per step",
    "train_loss": "training loss",
}


class Metric(NamedTuple):
    """How a column is shown.

    Attributes:
        name: the column.
        label: words for people.
        better: 1 when high is good, -1 when low is good, 0 when neither.
        log: shown on a logarithmic scale.
    """

    name: str
    label: str
    better: int
    log: bool


def describe(name: str, space: Space) -> Metric:
    """How the column `name` is shown."""
    gene = space[name] if name in space else None
    if gene is not None:
        return Metric(name, name.replace("_", " "), 0, isinstance(gene, Range) and gene.log)
    low = name.endswith(_LOWER)
    better = -1 if low else 1 if name.startswith("valid_") else 0
    label = _LABELS.get(name, name.replace("valid_", "validation ").replace("_", " "))
    # Two dollar signs would make bokeh fetch a typesetter.
    return Metric(name, label.replace("$", ""), better, name in _LOG or low)


def selectable(history: History) -> dict[str, str]:
    """Label -> column for every numeric column worth showing, best known metrics first."""
    names = [name for name in history.names if name not in _HIDDEN]
    numeric = [name for name in names if history.last(name).dtype.kind in "fiu"]
    first = fitness_metric(history)
    numeric.sort(key=lambda name: (name != first, not name.startswith("valid_")))
    return {describe(name, history.space).label: name for name in numeric}


def fitness_metric(history: History) -> str:
    """The column that ranks members: validation accuracy, else validation loss, else training."""
    known = ("valid_accuracy", "valid_loss", "train_loss")
    return next(name for name in known if name in history.names)


def fitness(history: History) -> np.ndarray:
    """Fitness of every member in every round, `[R, N]`; -inf for the dead and unmeasured."""
    name = fitness_metric(history)
    values = history.column(name).astype(float) * (1 if name == "valid_accuracy" else -1)
    usable = history.column("alive") & np.isfinite(values)
    return np.where(usable, values, -np.inf)


def ranking(history: History) -> np.ndarray:
    """Members `[N]` from best to worst in the latest round; the dead last, ties by slot."""
    return np.argsort(-fitness(history)[-1], kind="stable")


def scaled(values: np.ndarray, metric: Metric) -> np.ndarray:
    """Values as floats, or their base-10 logarithms; NaN where there is none."""
    values = np.asarray(values, float)
    if not metric.log:
        return np.where(np.isfinite(values), values, np.nan)
    usable = np.isfinite(values) & (values > 0)
    return np.where(usable, np.log10(np.where(usable, values, 1.0)), np.nan)


def unscaled(value: float, metric: Metric) -> float:
    """Inverse of `scaled` for one number."""
    return 10.0**value if metric.log else value


def limits(values: np.ndarray, metric: Metric) -> tuple[float, float]:
    """Scaled values that get the first and last shade: outliers on the bad side are cut."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (0.05, 1.0) if metric.better > 0 else (0.0, 0.95) if metric.better < 0 else (0, 1)
    bounds = np.quantile(finite, (low, high))
    # Wider than float32 noise, or a swarm of equals would show as a rainbow.
    slack = max(1e-6 * abs(float(bounds[1])), 1e-9)
    if bounds[1] - bounds[0] < slack:
        return float(bounds[0]) - 0.5, float(bounds[1]) + 0.5
    return float(bounds[0]), float(bounds[1])


def shades(values: np.ndarray, bounds: tuple[float, float], metric: Metric) -> np.ndarray:
    """Scaled values as shades in `[0, 1]`, 1 the best (the highest, when neither is better)."""
    unit = np.clip((values - bounds[0]) / (bounds[1] - bounds[0]), 0.0, 1.0)
    return 1.0 - unit if metric.better < 0 else unit


def text(value: float, metric: Metric) -> str:
    """One value of the metric (not scaled) for a person to read."""
    if not np.isfinite(value):
        return "not finite"
    if metric.name == "valid_accuracy":
        return f"{value:.4f}"
    if metric.name in ("step", "steps"):
        return f"{value:,.0f}"
    return f"{value:.3g}"
