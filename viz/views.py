"""The body of the page: a bar to find members and choose a tab, and the cards of that tab."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import panel as pn
import panel_material_ui as pmui

from swarmjax.types import InputError
from viz import catalog, query, theme, words
from viz.cards import Card
from viz.history import History
from viz.made import Made
from viz.others import SHOWN, Others
from viz.scene import Scene, View
from viz.selection import Selection
from viz.source import Snapshot

# Panel puts a button of its own among the cards, which would take a row.
ONLY = ".scroll-button { display: none; }"
GRID = {
    "display": "grid",
    "gap": "12px",
    "grid-template-columns": "repeat(auto-fit, minmax(min(100%, 560px), 1fr))",
    "grid-auto-rows": "minmax(360px, 1fr)",
    "flex": "1 0 auto",
    # Or it would be as high as the page, with the bar above it.
    "height": "auto",
}
# As many selected members go into the address of the page.
LINKED = 64


class Views:
    """All tabs of one page, under one selection; only the cards of the chosen tab are drawn.

    They are empty until `draw`, which is called once they are on the page: what fails then is
    told in place of the one view that failed.

    Args:
        snapshot: what to show.
        selection: of this page.
        dark: the theme.
        others: runs beside this one.
        name: of the run.
        changed: told that `state` is another.
        windows: as in `scene.Scene`.
        made: likewise, of all pages.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        selection: Selection,
        dark: bool,
        others: Others,
        name: str,
        changed: Callable[[], None] = lambda: None,
        windows: Callable[[tuple[int, ...]], pd.DataFrame] | None = None,
        made: Made | None = None,
    ):
        assert snapshot.history is not None
        self.snapshot, self.selection, self.look = snapshot, selection, theme.look(dark)
        self.others, self.name, self.beside = others, name, ()
        self._changed, self._cards, self._windows = changed, {}, windows
        self._made = made
        selection.size = snapshot.history.members
        self.tab = next(iter(catalog.TABS))
        self.grid = pn.Column(styles=GRID, stylesheets=[ONLY], sizing_mode="stretch_both", margin=0)
        self._make_bar()
        self.body = pn.Column(self.bar, self.grid, sizing_mode="stretch_both", margin=0)
        self._open()
        selection.param.watch(lambda _event: self._selected(), "members")

    @property
    def history(self) -> History:
        """The rounds shown."""
        assert self.snapshot.history is not None
        return self.snapshot.history

    @property
    def scene(self) -> Scene:
        """What the cards show."""
        return Scene(
            self.history, self.snapshot.derived, self.selection.members, self.look,
            self.snapshot.events, self.others, self.beside, self.name, self.snapshot.islands,
            self.snapshot.layers, self._windows, self._made,
        )  # fmt: skip

    @property
    def cards(self) -> list[Card]:
        """The cards of the chosen tab."""
        scene = self.scene
        return [self._card(view) for view in catalog.TABS[self.tab] if view.when(scene)]

    @property
    def captions(self) -> dict[str, pn.pane.HTML]:
        """The words of each card of the chosen tab."""
        return {card.view.name: card.caption for card in self.cards}

    def update(self, snapshot: Snapshot) -> None:
        """Shows a newer snapshot."""
        old, self.snapshot = self.snapshot, snapshot
        if snapshot.history is not old.history:
            self.draw()
        elif snapshot.events is not old.events:
            for card in (card for card in self.cards if card.view.hears):
                card.draw()

    def repaint(self, dark: bool) -> None:
        """Shows the same in the colours of the other theme."""
        self.look = theme.look(dark)
        self.draw()

    def draw(self) -> None:
        """Draws the cards of the chosen tab."""
        for card in self.cards:
            card.draw()
        self._tell()

    @property
    def state(self) -> dict[str, str]:
        """What the page shows, as far as it is not what it shows at first; see `restore`."""
        told = {"tab": self.tab} if self.tab != next(iter(catalog.TABS)) else {}
        members = self.selection.members
        if self.find.value:
            told["find"] = self.find.value
        elif members and len(members) <= LINKED:
            told["members"] = ",".join(map(str, members))
        if self.beside:
            told["beside"] = "\n".join(self.beside)
        for card in self._cards.values():
            first = {c.name: c.value for c in card.view.controls(self.scene)}
            for name, value in card.choices.items():
                if value != first[name]:
                    told[f"{card.view.name}.{name}"] = value
            if card.plot is not None and card.tools.table:
                told[f"{card.view.name}.as"] = "table"
        return told

    def restore(self, state: Mapping[str, str]) -> None:
        """Shows what an address asks for, as far as there is such a thing."""
        if state.get("tab") in catalog.TABS:
            self.tabs.active = list(catalog.TABS).index(state["tab"])
        known = self.others.names()
        wanted = state.get("beside", "").split("\n")
        self.beside = tuple(name for name in wanted if name in known)[:SHOWN]
        for views in catalog.TABS.values():
            for view in views:
                asked = {k.partition(".")[2]: v for k, v in state.items() if _of(k) == view.name}
                if asked:
                    self._card(view).restore(asked)
        if "find" in state:
            self.find.value = state["find"][: query.LONGEST]
        else:
            numbers = state.get("members", "").split(",")[:LINKED]
            self.selection.replace(int(n) for n in numbers if n.isdecimal() and len(n) < 9)

    def _make_bar(self) -> None:
        self.tabs = pmui.TabMenu(items=list(catalog.TABS), active=0, margin=0)
        self.tabs.param.watch(self._turn, "active")
        self.find = pmui.TextInput(
            label="Find, as in: width > 64 and learning_rate < 1e-3",
            # Its label stands on its upper edge, below the tabs where the bar is narrow.
            size="small", width=370, margin=(10, 0, 4, 0),
        )  # fmt: skip
        self.find.param.watch(self._sought, "value")
        self.found = words.pane()
        self.found.align = "center"
        self.none = pmui.Button(
            label="Clear selection", variant="text", size="small", margin=0, align="center"
        )
        self.none.on_click(lambda _event: self._clear())
        self.bar = pn.Row(
            self.tabs, self.found, self.none, self.find,
            sizing_mode="stretch_width", margin=(0, 0, 8, 0),
            styles={"flex-wrap": "wrap", "align-items": "center"},
        )  # fmt: skip

    def _card(self, view: View) -> Card:
        if view.name not in self._cards:
            self._cards[view.name] = Card(
                view, lambda: self.scene, self._select, self._toggle, self._changed
            )
        return self._cards[view.name]

    def _open(self) -> None:
        cards = self.cards
        # Of an odd number the last one takes the whole row.
        cards[-1].panel.styles = {"grid-column": "1 / -1"} if len(cards) % 2 else {}
        self.grid[:] = [card.panel for card in cards]

    def _turn(self, _event: Any) -> None:
        names = list(catalog.TABS)
        active = self.tabs.active
        if isinstance(active, int) and 0 <= active < len(names) and names[active] != self.tab:
            self.tab = names[active]
            self._open()
            self.draw()
            self._changed()

    def _selected(self) -> None:
        self.draw()
        self._changed()

    def _select(self, members: Sequence[int], instead: bool) -> None:
        if instead:
            self.selection.replace(members)
        else:
            for member in members:
                self.selection.toggle(member)

    def _toggle(self, key: str, number: int) -> None:
        if key == "member":
            self.selection.toggle(number)
        elif 0 <= number < len(self.others.known):
            name = self.others.known[number]
            if name in self.beside:
                self.beside = tuple(other for other in self.beside if other != name)
            else:
                self.beside = (*self.beside, name)[-SHOWN:]
            self.draw()
            self._changed()

    def _sought(self, _event: Any) -> None:
        text = self.find.value.strip()
        if text:
            try:
                self.selection.replace(query.select(self.history, text))
            except InputError as error:
                self._tell(str(error))
                return
        self._tell()
        self._changed()

    def _clear(self) -> None:
        self.find.value = ""
        self.selection.clear()

    def _tell(self, wrong: str = "") -> None:
        picked = len(self.selection.members)
        self.found.object = words.selected(picked, self.history.members, wrong)
        self.none.disabled = not picked


def _of(key: str) -> str:
    return key.partition(".")[0]
