"""Which columns can be shown, which way is better, and how values become shades of a colour."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from swarmjax.space import Range, Space
from viz.history import Columns, History

_HIDDEN = frozenset("round time member birth lineage parent mate fresh alive alarm".split())
_LOWER = ("loss", "error", "perplexity", "bits_per_character", "mae", "mse", "rmse")
_LOG = frozenset(("gradient_norm",))
# Of what a network costs, less is better, if that is asked.
COSTS = ("cost", "parameters", "bytes", "seconds", "spent")
KNOTS = 5
MANY = 100_000
_LABELS = {
    "step": "training steps",
    "steps": "steps granted",
    "birth": "network",
    "cost": "FLOPs per step",
    "seconds": "seconds per step",
    "bytes": "bytes of memory",
    "parameters": "weights",
    "spent": "FLOPs spent",
    "gain": "gain of the network",
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


class Scale(NamedTuple):
    """How scaled values become shades: linearly between `[K]` ascending knots.

    Attributes:
        knots: scaled values, from the lowest to the highest; one where all are the same.
        shades: their shades, from 0 to 1; one half where all are the same.
    """

    knots: tuple[float, ...]
    shades: tuple[float, ...]


def describe(name: str, space: Space) -> Metric:
    """How the column `name` is shown."""
    gene = space[name] if name in space else None
    if gene is not None:
        return Metric(name, name.replace("_", " "), 0, isinstance(gene, Range) and gene.log)
    low = name.endswith(_LOWER)
    better = -1 if low else 1 if name.startswith("valid_") else 0
    better = -1 if name in COSTS else better
    label = _LABELS.get(name, name.replace("valid_", "validation ").replace("_", " "))
    # Two dollar signs would make bokeh fetch a typesetter.
    return Metric(name, label.replace("$", ""), better, name in _LOG or name in COSTS or low)


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
    return history.each(("fitness", name), lambda frame: _fitness(frame, name))


def _fitness(frame: Columns, name: str) -> np.ndarray:
    values = frame[name].astype(float) * (1 if name == "valid_accuracy" else -1)
    return np.where(frame["alive"] & np.isfinite(values), values, -np.inf)


def peaks(history: History) -> np.ndarray:
    """The best fitness `[R]` that any living member had in each round, -inf for none."""
    name = fitness_metric(history)
    return history.each(("peaks", name), lambda frame: _fitness(frame, name).max())


def ranking(history: History) -> np.ndarray:
    """Members `[N]` from best to worst in the latest round; the dead last.

    Of equals those of lower validation loss come first, then those of lower slot.
    """
    frame, name = history.frames[-1], fitness_metric(history)
    loss = (frame["valid_loss"] if "valid_loss" in frame else 0 * frame["member"]).astype(float)
    return np.lexsort((np.where(np.isfinite(loss), loss, np.inf), -_fitness(frame, name)))


def best_ever(history: History) -> tuple[int, int, float] | None:
    """Round, slot and value of the best that a living member was measured at; None before one was.

    It is the first of equals.
    """
    metric = describe(fitness_metric(history), history.space)
    found = ends(history, metric) * metric.better
    if not np.isfinite(found).any():
        return None
    r = int(np.nanargmax(np.fmax(found[:, 0], found[:, 1])))
    slot = int(np.nanargmax(scaled_column(history, metric)[r] * metric.better))
    return int(history.rounds[r]), slot, float(history.frames[r][metric.name][slot])


def scaled_column(history: History, metric: Metric) -> np.ndarray:
    """The scaled metric `[R, N]` float32, NaN where the member was dead."""
    return history.each(
        ("scaled", metric.name, metric.log),
        lambda frame: np.where(
            frame["alive"], scaled(frame[metric.name], metric), np.nan
        ).astype(np.float32),
    )  # fmt: skip


def sample(history: History, metric: Metric) -> np.ndarray:
    """Scaled values that stand for all in the history: about `MANY`, and each round's ends."""
    grid = scaled_column(history, metric)
    places = np.random.default_rng(0).integers(0, grid.size, MANY)
    some = grid.ravel() if grid.size <= MANY else grid.ravel()[places]
    return np.concatenate([some, ends(history, metric).ravel()])


def ends(history: History, metric: Metric) -> np.ndarray:
    """Each round's least and largest scaled value of a living member, `[R, 2]`."""
    return history.each(
        ("ends", metric.name, metric.log),
        lambda frame: _ends(scaled(frame[metric.name], metric)[frame["alive"]]),
    )


def _ends(values: np.ndarray) -> np.ndarray:
    known = values[np.isfinite(values)]
    return np.array([known.min(), known.max()] if known.size else [np.nan] * 2)


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


def scale(values: np.ndarray) -> Scale:
    """A scale on which both the whole range of the values and their bulk can be told apart."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Scale((np.nan,), (0.5,))
    knots = np.quantile(finite, np.linspace(0, 1, KNOTS))
    low, high = float(knots[0]), float(knots[-1])
    # Of float32 noise, a swarm of equals would show as a rainbow.
    if high - low < max(1e-6 * abs(high), 1e-9):
        return Scale((low,), (0.5,))
    straight, even = (knots - low) / (high - low), np.linspace(0, 1, KNOTS)
    inner = (np.diff(straight, append=2.0) > 1e-3) & (straight > 1e-3)
    apart = inner | (even == 0)
    # Linear in the value alone, the first rounds would use up all shades; linear in the rank
    # alone, noise would get as many as they.
    shades = np.where(even < 1, (straight + even) / 2, 1.0)
    return Scale(tuple(knots[apart].tolist()), tuple(shades[apart].tolist()))


def shades(values: np.ndarray, told: Scale, metric: Metric) -> np.ndarray:
    """Scaled values as shades in `[0, 1]`, 1 the best (the highest, when neither is better)."""
    unit = np.where(np.isfinite(values), np.interp(values, told.knots, told.shades), np.nan)
    return 1.0 - unit if metric.better < 0 else unit


def text(value: float, metric: Metric) -> str:
    """One value of the metric (not scaled) for a person to read."""
    if not np.isfinite(value):
        return "not finite"
    if metric.name == "valid_accuracy":
        return f"{value:.4f}"
    if metric.name in ("step", "steps", "parameters"):
        return f"{value:,.0f}"
    return f"{value:.3g}"
