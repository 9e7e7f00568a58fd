"""The words above each view as HTML: what it shows, how many of how many, and in which shades."""

from __future__ import annotations

import html
from itertools import pairwise

import numpy as np

from viz import courses, graph, heatmap, members, metrics, neighbours, pixels, trajectories
from viz.history import History
from viz.layout import Layout
from viz.theme import Look


def scale(history: History, name: str, look: Look, *, whole: bool) -> str:
    """Legend of a shaded metric: the ramp between values of `whole` history or the latest round."""
    metric = metrics.describe(name, history.space)
    if whole:
        values = metrics.sample(history, metric)
    else:
        values = _living(history, name, metric)
    return legend(values, metric, look)


def legend(values: np.ndarray, metric: metrics.Metric, look: Look) -> str:
    """Legend of scaled values in shades."""
    told = metrics.scale(values)
    texts = [html.escape(metrics.text(metrics.unscaled(v, metric), metric)) for v in told.knots]
    spans = list(pairwise(told.shades)) or [(0.5, 0.5)]
    pieces = [
        f"<i {_gradient(ends, metric, look)}></i><b>{text}</b>"
        for ends, text in zip(spans, texts[1:] or [""], strict=True)
    ]
    return f'<span class="scale"><b>{texts[0]}</b>{"".join(pieces)}</span>'


def _gradient(ends: tuple[float, float], metric: metrics.Metric, look: Look) -> str:
    """Style of a piece of a legend, as long as it has shades."""
    shades = np.linspace(*ends, 7)
    shades = 1 - shades if metric.better < 0 else shades
    colors = ",".join(look.ramp[round(255 * shade)] for shade in shades)
    width = 120 * (ends[1] - ends[0]) or 20
    return f'style="background:linear-gradient(90deg,{colors});width:{width:.0f}px"'


def _living(history: History, name: str, metric: metrics.Metric) -> np.ndarray:
    """Scaled values of the latest round, the living only."""
    return metrics.scaled(history.last(name)[history.last("alive")], metric)


def shaded(values: np.ndarray, metric: metrics.Metric, look: Look, *texts: str) -> str:
    """A caption of scaled values in shades, and more sentences."""
    return _caption(
        legend(values, metric, look)
        + _text(f"{metric.label}{_direction(metric)}")
        + "".join(_text(text) for text in texts if text)
    )


def caption(*texts: str) -> str:
    """A caption of sentences."""
    return _caption("".join(_text(text) for text in texts if text))


def graph_caption(history: History, placed: Layout, kind: str, color: str, look: Look) -> str:
    """What the graph shows, in words."""
    dead = int((~history.last("alive")).sum())
    alarmed = int((history.last("alive") & (history.last("alarm") != 0)).sum())
    edges = len(placed.edges)
    nodes = graph.drawn(history)
    kept = len(graph.joined(placed, nodes))
    cut = f"{kept:,} of {edges:,} edges shown" if edges else "no edges"
    if not nodes.all():
        cut = f"{nodes.sum():,} of {history.members:,} nodes and {cut}"
    cut += f", as of round {placed.linked:,}" if placed.linked != placed.round else ""
    metric = metrics.describe(color, history.space)
    near = "near ones" if history.members > neighbours.MANY else "the nearest"
    return _caption(
        scale(history, color, look, whole=False)
        + _text(f"{metric.label}{_direction(metric)}")
        + _dead(dead, look)
        + _alarmed(alarmed, "member", look)
        + _text(f"{counted(history.members, 'member')} joined to {near} by {kind}; {cut}")
    )


def heatmap_caption(history: History, name: str, look: Look) -> str:
    """What the heatmap shows, in words."""
    metric = metrics.describe(name, history.space)
    averaged = pixels.cells(history) > pixels.MAX_CELLS
    died, raised = len(heatmap.deaths(history)), len(heatmap.alarms(history))
    most = heatmap.MAX_MARKS
    marks = "".join(
        f"; {most} of {count:,} {what} marked"
        for what, count in (("deaths", died), ("alarms", raised))
        if count > most
    )
    shape = f"{counted(history.members, 'member')} × {counted(len(history.rounds), 'round')}"
    return _caption(
        scale(history, name, look, whole=True)
        + _text(f"{metric.label}{_direction(metric)}")
        + _dead(died, look)
        + _alarmed(raised, "cell", look)
        + _text(shape + (", averaged to the pixels" if averaged else "") + marks)
    )


def trajectory_caption(
    history: History, picked: tuple[int, ...], look: Look, names: tuple[str, ...] = ()
) -> str:
    """What the trajectories show, in words."""
    drawn = len(courses.shown(history, picked, look))
    lines = (
        f"{drawn} of {len(picked)} selected shown" if picked else f"best {drawn} (none selected)"
    )
    labels = [metrics.describe(name, history.space).label for name in names]
    dashes = zip(trajectories.DASHES, labels, strict=False)
    kinds = ", ".join(f"{dash}: {label}" for dash, label in dashes) if len(names) > 1 else ""
    return _caption(
        (_text(f"{kinds}; each over its own range") if kinds else "")
        + _text(f"lines: {lines}; dot: took over another member's weights")
        + '<span class="swatch band"></span>'
        + _text("middle 80 % and median of the swarm")
    )


def table_caption(history: History, picked: tuple[int, ...]) -> str:
    """How many members and columns the table shows, and who was the best ever."""
    shown = min(members.LIMIT, history.members)
    # Beside them rank, member and alarms.
    columns, best = len(members.columns(history)) + 3, metrics.best_ever(history)
    texts = [f"as of the latest round; {shown:,} of {history.members:,} members shown"]
    texts.append(f"{columns} columns")
    if best is not None:
        label = metrics.describe(metrics.fitness_metric(history), history.space).label
        texts.append(f"best ever: member {best[1]} in round {best[0]:,}, {label} {best[2]:.4f}")
    return _caption("".join(map(_text, texts)))


def _caption(inner: str) -> str:
    return f'<p class="caption">{inner}</p>'


def _text(text: str) -> str:
    return f"<span>{html.escape(text)}</span>"


def counted(number: int, noun: str) -> str:
    """So many, in words."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def _dead(count: int, look: Look) -> str:
    return f'<span style="color:{look.dead}">✕ {count:,} dead</span>' if count else ""


def _alarmed(count: int, noun: str, look: Look) -> str:
    """So many of something show an alarm."""
    told = f"▲ {counted(count, noun)} with an alarm"
    return f'<span style="color:{look.alarm}">{told}</span>' if count else ""


def _direction(metric: metrics.Metric) -> str:
    return {1: ", higher is better", -1: ", lower is better", 0: ""}[metric.better]
