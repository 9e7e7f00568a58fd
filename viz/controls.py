"""Steering from the page: buttons that ask something of the run, and what became of it.

A page without the write token has none of them, so that no event can ask anything; whatever is
asked is checked again here, and by the trainer.
"""

from __future__ import annotations

import contextlib
import html
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import panel as pn
import panel_material_ui as pmui

from swarmjax import ledger, steerable, steering, store, stored
from swarmjax.space import Choice, Option, Space
from swarmjax.steering import Directive, Member
from swarmjax.types import InputError
from viz import asked, words
from viz.selection import Selection
from viz.source import Snapshot

# So many members at a time: whoever selects more hardly means every one of them.
MOST = 100
CSS = Path(__file__).with_name("controls.css").read_text(encoding="utf-8")
log = logging.getLogger(__name__)


class Controls:
    """The panel of one page that may steer.

    Args:
        directory: of the run.
        selection: of the page; buttons for members mean those.
        snapshot: what the page shows, so that a click hits the networks that the person sees.
    """

    def __init__(self, directory: Path, selection: Selection, snapshot: Callable[[], Snapshot]):
        self.directory, self.selection, self._snapshot = directory, selection, snapshot
        self.said, self.chosen, self.log = _pane(), _pane(), _pane()
        self._sure = ""
        self._make_fields()
        # What is said stays in sight, however far down the button is.
        self.said.styles = {
            "position": "sticky", "top": "0", "z-index": "2", "background": "var(--viz-paper)"
        }  # fmt: skip
        self.body = pn.Column(
            self.said, _heading("The run"), self._row("Pause", "Resume", "Stop"),
            _heading("Selected members"), self.chosen,
            self._row("Kill", "Freeze", "Thaw"), self._row("Pin", "Unpin", "Boost ×2", "No boost"),
            self._row("Clone", "Breed"),
            self._line(self.gene, self.value, "Set"),
            _heading("Goals and policies"), self._line(self.dial, self.number, "Turn"),
            _heading("Fresh networks"), self._line(self.count, "Add"),
            _heading("Note"), self._line(self.text, "Note"),
            _heading("Asked for"), self.who, self._line(self.undone, "Undo"), self.log,
            sizing_mode="stretch_width", margin=(0, 14),
        )  # fmt: skip
        selection.param.watch(lambda _event: self._choose(), "members")
        self._choose()

    def update(self, snapshot: Snapshot) -> None:
        """Shows what became of what was asked, and offers what can be."""
        self.log.object = asked.recorded(snapshot.directives)
        done = [entry.id for entry in snapshot.directives if asked.open_to_undo(entry)]
        self.undone.options = [str(number) for number in done[::-1]]
        if not self.gene.options and snapshot.history is not None:
            self.gene.options = [name for name, _ in snapshot.history.space.genes]
            try:
                self.dial.options = list(self._look().dials)
            except InputError as error:
                self._say(f"this run cannot be steered: {error}", wrong=True)

    def _make_fields(self) -> None:
        self.gene, self.value = _select("Gene"), _text("Value")
        self.dial, self.number = _select("Number"), _text("Value, or default")
        self.count, self.text, self.who = _text("How many"), _text("Text"), _text("Your name")
        self.count.value, self.who.value = "1", "dashboard"
        self.undone = _select("Directive")

    def _row(self, *names: str) -> pn.Row:
        buttons = [self._button(name) for name in names]
        return pn.Row(*buttons, margin=(0, 0, 6, 0), styles={"flex-wrap": "wrap", "gap": "6px"})

    def _line(self, *parts: Any) -> pn.Row:
        made = [self._button(part) if isinstance(part, str) else part for part in parts]
        return pn.Row(*made, margin=0, styles={"align-items": "center", "gap": "6px"})

    def _button(self, name: str) -> pmui.Button:
        color = "error" if name in ("Kill", "Stop") else "primary"
        button = pmui.Button(
            label=name, variant="outlined", size="small", margin=0, color=color, align="center"
        )
        button.on_click(lambda _event: self._clicked(name))
        return button

    def _clicked(self, name: str) -> None:
        # What cannot be undone takes a second click.
        sure, self._sure = self._sure == name, ""
        if name in ("Kill", "Stop") and not sure:
            self._sure = name
            self._say(f"{name} cannot be undone; click {name} again if you mean it")
            return
        try:
            self._ask(self._wanted(name))
        except InputError as error:
            self._say(str(error), wrong=True)
        except Exception as error:  # The page stays, whatever a forged event holds.
            log.exception("a directive failed: %s", name)
            self._say(f"{type(error).__name__}: {error}", wrong=True)

    def _wanted(self, name: str) -> list[Directive]:
        """What the button of that name asks for."""
        match name:
            case "Pause":
                return [steering.Pause()]
            case "Resume":
                return [steering.Resume()]
            case "Stop":
                return [steering.Stop()]
            case "Turn":
                text = str(self.number.value).strip()
                value = None if text == "default" else _number(text)
                return [steering.Turn({str(self.dial.value): value})]
            case "Add":
                return [steering.Add(_whole(self.count.value))]
            case "Undo":
                return [steering.Undo(_whole(self.undone.value))]
            case "Note":
                members = self._members(needed=0)
                text = str(self.text.value)
                return [steering.Note(text, member) for member in members or [None]]
            case "Breed":
                members = self._members(needed=2)
                if len(members) > 2:
                    raise InputError(f"{len(members)} members are selected; select the two parents")
                return [steering.Breed(members[0], members[1])]
            case "Set":
                gene, text = str(self.gene.value), str(self.value.value).strip()
                genes = {gene: _option(self._look().space, gene, text)}
                return [steering.Set(member, genes) for member in self._members()]
        rule = _SINGLE[name]
        return [rule(member) for member in self._members()]

    def _members(self, needed: int = 1) -> list[Member]:
        """The networks that are shown in the selected slots."""
        history, slots = self._snapshot().history, self.selection.members
        if history is None or len(slots) < needed:
            raise InputError(f"select {'two members' if needed == 2 else 'a member'} first")
        if len(slots) > MOST:
            raise InputError(f"{len(slots):,} members are selected; at most {MOST} at a time")
        birth = history.last("birth")
        return [Member(slot, int(birth[slot])) for slot in slots]

    def _ask(self, directives: list[Directive]) -> None:
        scene = self._look()
        for directive in directives:
            steerable.check(directive, scene)
        database = self.directory / store.DATABASE
        numbers = ledger.queue(database, str(self.who.value), directives)
        self._say(f"queued as {', '.join(f'#{number}' for number in numbers)}")

    def _look(self) -> steerable.Scene:
        with contextlib.closing(stored.open_run(self.directory)) as reader:
            return reader.scene()

    def _choose(self) -> None:
        self._sure, slots = "", self.selection.members
        named = ", ".join(map(str, slots[:8])) + (", …" if len(slots) > 8 else "")
        told = f"{len(slots):,} selected: {named}" if slots else "none; select some in a view"
        self.chosen.object = f'<p class="chosen">{html.escape(told)}</p>'

    def _say(self, text: str, wrong: bool = False) -> None:
        role = "alert" if wrong else "status"
        self.said.object = f'<p class="said {role}" role="{role}">{html.escape(text[:400])}</p>'


def _whole(text: Any) -> int:
    if not str(text).isdecimal() or len(str(text)) > 9:
        raise InputError(f"{str(text)[:60]!r} is no whole number")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text[:60]!r} is no number") from None


def _option(space: Space, name: str, text: str) -> Option:
    gene = space[name] if name in space else None
    if isinstance(gene, Choice):
        return next((option for option in gene.options if str(option) == text), text[:256])
    return _number(text)


def _pane() -> pn.pane.HTML:
    pane = words.pane()
    pane.stylesheets = [*pane.stylesheets, CSS]
    return pane


def _heading(text: str) -> pn.pane.HTML:
    pane = _pane()
    pane.object = words.heading(text)
    return pane


def _text(label: str) -> pmui.TextInput:
    return pmui.TextInput(label=label, size="small", margin=(6, 0), width=140)


def _select(label: str) -> pmui.Select:
    return pmui.Select(label=label, options=[], size="small", margin=(6, 0), width=140)


_SINGLE: dict[str, Callable[[Member], Directive]] = {
    "Kill": steering.Kill, "Freeze": steering.Freeze, "Thaw": steering.Thaw, "Pin": steering.Pin,
    "Unpin": steering.Unpin, "Clone": steering.Clone, "Boost ×2": steering.Boost,
    "No boost": lambda member: steering.Boost(member, 1.0),
}  # fmt: skip
