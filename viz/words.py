"""The page's words as HTML panes; every value that comes from a run is escaped."""

from __future__ import annotations

import html
import math
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import panel as pn

from viz import graph, heatmap, members, metrics, trajectories
from viz.layout import Layout
from viz.source import History, Snapshot
from viz.theme import Look

STATES = {
    "waiting": ("Waiting for first round", "muted"),
    "running": ("Running", "accent"),
    "paused": ("Paused", "muted"),
    "finished": ("Finished", "good"),
    "stopped": ("Stopped", "muted"),
    "failed": ("Failed", "bad"),
    "silent": ("Trainer gone", "bad"),
    "unreadable": ("Cannot read the run", "bad"),
}


# How many events a page tells while it waits.
EVENTS = 8

CSS = Path(__file__).with_name("page.css").read_text(encoding="utf-8")


def pane() -> pn.pane.HTML:
    """An empty pane for the words of this module."""
    return pn.pane.HTML("", margin=0, sizing_mode="stretch_width", stylesheets=[CSS])


def header(name: str, snapshot: Snapshot) -> str:
    """Run name, state and progress."""
    label, tone = STATES.get(snapshot.state, (snapshot.state, "muted"))
    return (
        f'<div class="bar"><div class="run"><span class="mark" aria-hidden="true"></span>'
        f"<h1>{html.escape(name)}</h1>"
        f'<span class="chip {tone}" role="status">{html.escape(label)}</span></div>'
        f"{_progress(snapshot)}</div>"
    )


def _progress(snapshot: Snapshot) -> str:
    status, history = snapshot.status, snapshot.history
    if status is None:
        return ""
    share = min(1.0, status.done / max(1, status.budget))
    best = _best(history) if history else ("Best", "–")
    facts = [
        ("Round", f"{status.round:,}"),
        ("Member-steps", f"{status.done:,} <small>of {status.budget:,}</small>"),
        (html.escape(best[0]), html.escape(best[1])),
        ("Alive", f"{status.alive:,} <small>of {status.members:,}</small>"),
    ]
    cells = "".join(f"<div><dt>{term}</dt><dd>{value}</dd></div>" for term, value in facts)
    return (
        f'<dl>{cells}</dl><div class="meter" role="progressbar" aria-label="budget used" '
        f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share * 100:.0f}">'
        f'<i style="width:{share * 100:.2f}%"></i></div>'
    )


def _best(history: History) -> tuple[str, str]:
    """Label and value of the best fitness metric any living member ever had."""
    metric = metrics.describe(metrics.fitness_metric(history), history.space)
    peak = float(metrics.fitness(history).max())
    if not math.isfinite(peak):
        return f"Best {metric.label}", "–"
    return f"Best {metric.label}", metrics.text(abs(peak), metric)


def note(snapshot: Snapshot) -> str:
    """One sentence on trouble; empty when all is well."""
    if not snapshot.note:
        return ""
    return f'<p class="note" role="alert">{html.escape(snapshot.note)}</p>'


def failure(what: str, error: Exception) -> str:
    """One sentence on what could not be shown."""
    text = f"{what}: {type(error).__name__}: {error}"
    return f'<p class="note" role="alert">{html.escape(text[:300])}</p>'


def waiting(snapshot: Snapshot) -> str:
    """What stands in place of the views before the first round."""
    told = {
        "waiting": ("Waiting for the first round", "The views appear as soon as it is stored."),
        "failed": ("The run failed before its first round", "Nothing was stored to look at."),
        "silent": ("The trainer is gone", "It stopped before the first round was stored."),
        "unreadable": ("The run cannot be read", "This page goes on trying."),
    }
    title, hint = told.get(snapshot.state, ("The run has no round", "There is nothing to look at."))
    pulse = '<span class="pulse"></span>' if snapshot.state == "waiting" else ""
    return f'<div class="empty">{pulse}<h2>{title}</h2><p>{hint}</p>{_events(snapshot)}</div>'


def _events(snapshot: Snapshot) -> str:
    """The latest things the trainer said, newest last."""
    lines = [
        f"<li><time>{time.strftime('%H:%M:%S', time.localtime(event.time))}</time>"
        f"{html.escape(event.text)}</li>"
        for event in snapshot.events[-EVENTS:]
    ]
    return f'<ol role="log">{"".join(lines)}</ol>' if lines else ""


def heading(text: str) -> str:
    """Heading of a card."""
    return f"<h2>{html.escape(text)}</h2>"


def scale(history: History, name: str, look: Look, *, whole: bool) -> str:
    """Legend of a shaded metric: the ramp between values of `whole` history or the latest round."""
    metric = metrics.describe(name, history.space)
    if whole:
        values = heatmap.values(history, metric)
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
    cut = f"{min(edges, graph.MAX_EDGES):,} of {edges:,} edges shown" if edges else "no edges"
    metric = metrics.describe(color, history.space)
    return _caption(
        scale(history, color, look, whole=False)
        + _text(f"{metric.label}{_direction(metric)}")
        + _dead(dead, look)
        + _alarmed(alarmed, look)
        + _text(f"{_count(history.members, 'member')} joined to the nearest by {kind}; {cut}")
    )


def heatmap_caption(history: History, name: str, look: Look) -> str:
    """What the heatmap shows, in words."""
    metric = metrics.describe(name, history.space)
    averaged = heatmap.cells(history) > heatmap.MAX_CELLS
    died, raised = len(heatmap.deaths(history)), len(heatmap.alarms(history))
    most = heatmap.MAX_MARKS
    marks = "".join(
        f"; {most} of {count:,} {what} marked"
        for what, count in (("deaths", died), ("alarms", raised))
        if count > most
    )
    shape = f"{_count(history.members, 'member')} × {_count(len(history.rounds), 'round')}"
    return _caption(
        scale(history, name, look, whole=True)
        + _text(f"{metric.label}{_direction(metric)}")
        + _dead(died, look)
        + _alarmed(raised, look)
        + _text(shape + (", averaged to the pixels" if averaged else "") + marks)
    )


def trajectory_caption(
    history: History, picked: tuple[int, ...], look: Look, names: tuple[str, ...] = ()
) -> str:
    """What the trajectories show, in words."""
    drawn = len(trajectories.shown(history, picked, look))
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
    """How many members the table shows, and how many columns, of which some need scrolling."""
    shown = min(members.LIMIT, history.members)
    columns = len(members.table(history).columns)
    return _caption(_text(f"{shown:,} of {history.members:,} members shown in {columns} columns"))


def selected(count: int, members: int, wrong: str = "") -> str:
    """How many members are selected, or why what was looked for was not understood."""
    if wrong:
        return f'<p class="found wrong" role="alert">{html.escape(wrong)}</p>'
    return f'<p class="found" role="status">{count:,} of {members:,} selected</p>'


def _caption(inner: str) -> str:
    return f'<p class="caption">{inner}</p>'


def _text(text: str) -> str:
    return f"<span>{html.escape(text)}</span>"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + "s" * (number != 1)


def _dead(count: int, look: Look) -> str:
    return f'<span style="color:{look.dead}">✕ {count:,} dead</span>' if count else ""


def _alarmed(count: int, look: Look) -> str:
    return f'<span style="color:{look.alarm}">▲ {_count(count, "alarm")}</span>' if count else ""


def _direction(metric: metrics.Metric) -> str:
    return {1: ", higher is better", -1: ", lower is better", 0: ""}[metric.better]
