"""What was asked of the run and what became of it, as HTML; every text in it is escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

from swarmjax import ledger, steering
from swarmjax.types import InputError

SHOWN = 12


def recorded(entries: Iterable[ledger.Entry]) -> str:
    """The latest directives and what became of them, newest first."""
    entries = list(entries)
    if not entries:
        return '<p class="chosen">nothing was asked of this run yet</p>'
    items = "".join(map(_item, entries[: -SHOWN - 1 : -1]))
    count = f"{min(SHOWN, len(entries))} of {len(entries):,} shown"
    return f'<ol class="asked" role="log">{items}</ol><p class="chosen">{count}</p>'


def _item(entry: ledger.Entry) -> str:
    try:
        what = steering.describe(steering.decode(entry.body))
    except InputError:
        what = "unreadable"
    round = "" if entry.round is None else f" in round {entry.round}"
    state = html.escape(entry.state)
    told = f'<div class="told">{html.escape(entry.told)}</div>' if entry.told else ""
    return (
        f'<li class="{_tone(entry.state)}"><b>#{entry.id} {html.escape(what)}</b> '
        f"<span>{state}{round}</span> <small>{html.escape(entry.who)}</small>{told}</li>"
    )


def _tone(state: str) -> str:
    return state if state in ("queued", "applied", "refused", "withdrawn") else "unknown"


def open_to_undo(entry: ledger.Entry) -> bool:
    """Whether it can be taken back."""
    return entry.state == "queued" or (entry.state == "applied" and entry.inverse is not None)
