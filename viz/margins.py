"""Room around what a figure shows, and between the names in it."""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression

from viz import metrics

# Share of the members, the worst, that may lie beside a figure.
TAIL = 0.03


def near(values: np.ndarray, metric: metrics.Metric) -> np.ndarray:
    """The values that the figure shows at first: without the worst few if these are far off.

    At most `TAIL` of all are left out, and only if the others would have a third of the room.
    """
    scaled = metrics.scaled(values, metric) * (metric.better or 1)
    known = np.isfinite(scaled)
    if not metric.better or not known.any():
        return values[known]
    least = np.quantile(scaled[known], TAIL)
    whole, rest = np.ptp(scaled[known]), scaled[known].max() - least
    return values[known & (scaled >= least)] if whole > 3 * rest else values[known]


def room(drawn: np.ndarray, metric: metrics.Metric) -> tuple[float, float]:
    """A range around the values, with a margin of one twentieth."""
    scaled = metrics.scaled(drawn, metric)
    scaled = scaled[np.isfinite(scaled)]
    if not scaled.size:
        return (0.1, 1.0) if metric.log else (0.0, 1.0)
    low, high = float(scaled.min()), float(scaled.max())
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.5
    return metrics.unscaled(low - margin, metric), metrics.unscaled(high + margin, metric)


def spaced(wished: dict[int, float], bottom: float, top: float, *, gap: float) -> dict[int, float]:
    """Heights as near the wished ones as `gap` allows, between bottom and top where they fit."""
    ascending = sorted(wished, key=lambda key: wished[key])
    steps = gap * np.arange(len(ascending))
    # Less its steps, a sequence with gaps is just one that does not fall.
    free = isotonic_regression(np.array([wished[key] for key in ascending]) - steps).x
    heights = np.clip(free, bottom, max(bottom, top - gap * (len(ascending) - 1))) + steps
    return dict(zip(ascending, heights.tolist(), strict=True))
