"""The page's words as HTML panes; every value that comes from a run is escaped."""

from __future__ import annotations

import html
import math
import time
from pathlib import Path

import panel as pn

from viz import metrics
from viz.history import History
from viz.source import Snapshot

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


# Of a card that was not drawn yet.
DRAWING = '<p class="caption">being drawn ...</p>'


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
    peak = float(metrics.peaks(history).max())
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


def selected(count: int, members: int, wrong: str = "") -> str:
    """How many members are selected, or why what was looked for was not understood."""
    if wrong:
        return f'<p class="found wrong" role="alert">{html.escape(wrong)}</p>'
    return f'<p class="found" role="status">{count:,} of {members:,} selected</p>'
