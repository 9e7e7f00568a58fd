"""One open page of the dashboard: header, tabs and controls, fed by the shared feed."""

from __future__ import annotations

import logging
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode

import panel as pn
import panel_material_ui as pmui

from viz import access, pacing, theme, words
from viz.controls import Controls
from viz.others import Others
from viz.selection import Selection
from viz.source import Feed, Snapshot
from viz.views import Views

# More parts than any page puts into its address.
MAX_ASKED = 200
SCROLL = {"overflow-y": "auto", "padding": "4px 12px 12px", "box-sizing": "border-box"}
# In a header buttons are white by themselves.
STEER = """.MuiButton-root { color: var(--viz-accent) !important;
  border-color: currentColor !important; }"""

log = logging.getLogger(__name__)


class Dashboard:
    """One open page: its controls, its selection and its plots, fed by the shared feed.

    It can steer the run only if it was asked for with the write `token`, which its address keeps.
    """

    def __init__(self, feed: Feed, token: str | None = None):
        self.feed = feed
        self.seen: Snapshot | None = None
        self.rests_until = 0.0
        self.selection = Selection()
        self.location = pn.state.location
        self.asked = _asked(self.location.search if self.location is not None else "")
        self.header, self.note, self.waiting = words.pane(), words.pane(), words.pane()
        self.top = pn.Row(self.header, sizing_mode="stretch_width", margin=0)
        self.main = pn.Column(
            self.note, self.waiting, sizing_mode="stretch_both", margin=0, styles=SCROLL
        )
        self.views: Views | None = None
        steers = access.may_steer(pn.state.session_args or {}, token)
        self.token = {"token": token} if steers and token else {}
        self.controls = (
            Controls(feed.directory, self.selection, lambda: self.feed.snapshot) if steers else None
        )
        followers = _followers()
        self.page = pmui.Page(
            sidebar=[] if self.controls is None else [self.controls.body],
            # A closed sidebar moves the page aside even where there is none.
            sidebar_open=not steers,
            sidebar_width=380,
            # Its handle has a name but no role, which axe-core calls serious.
            sidebar_resizable=False,
            meta_title="swarmjax",
            header=[self.top],
            main=[self.main],
            busy_indicator=None,
            sx=theme.PAGE,
            theme_config={"light": theme.mui(False), "dark": theme.mui(True)},
        )
        # It follows whether anything is busy, and what it follows would hold it for good.
        for watcher in _followers()[len(followers) :]:
            pn.state.param.unwatch(watcher)
        self.page.param.watch(self._repaint, "dark_theme")
        self.top.append(self._steering())
        self._repaint()

    def beat(self) -> None:
        """Ticks, unless the page still rests.

        What a person does waits while a page is drawn: a fast run would have it wait for minutes.
        """
        begun = time.monotonic()
        if begun >= self.rests_until:
            self.tick()
            ended = time.monotonic()
            self.rests_until = ended + pacing.rest(ended - begun, self.feed.snapshot.beside)

    def tick(self) -> None:
        """Shows what the feed has learnt since the last call; what fails is told and logged."""
        snapshot = self.feed.snapshot
        if self.seen is not None and snapshot.version == self.seen.version:
            return
        self.seen = snapshot
        try:
            self.note.object = words.note(snapshot)
            self._show(snapshot)
            if self.controls is not None:
                self.controls.update(snapshot)
        except Exception as error:  # The next tick must come, and must not find a stale page.
            log.exception("the page failed")
            self.note.object = words.failure("this page failed", error)

    def _show(self, snapshot: Snapshot) -> None:
        self.header.object = words.header(self.feed.name, snapshot)
        if snapshot.history is None:
            self.waiting.object = words.waiting(snapshot)
        elif self.views is None:
            dark = self.page.dark_theme
            others, name = Others(self.feed.directory), self.feed.name
            views = Views(
                snapshot,
                self.selection,
                dark,
                others,
                name,
                self._link,
                self.feed.windows(),
                self.feed.made,
            )
            views.restore(self.asked)
            self.main[:] = [self.note, views.body]
            self.views = views
            views.draw()
        else:
            self.views.update(snapshot)

    def _steering(self) -> Any:
        """What opens the controls, or says that there are none."""
        if self.controls is None:
            pane = words.pane()
            pane.param.update(sizing_mode=None, align="center")
            pane.object = '<p class="found">read-only</p>'
            return pane
        button = pmui.Button(
            label="Steer", size="small", variant="outlined", align="center", stylesheets=[STEER]
        )
        button.on_click(lambda _event: self._turn_sidebar())
        return button

    def _turn_sidebar(self) -> None:
        self.page.sidebar_open = not self.page.sidebar_open

    def _link(self) -> None:
        """Puts what the page shows into its address."""
        if self.location is not None and self.views is not None:
            state = urlencode(self.token | self.views.state)
            self.location.search = f"?{state}" if state else ""

    def _repaint(self, *_events: Any) -> None:
        dark = self.page.dark_theme
        parts = [self.top, self.main] + ([] if self.controls is None else [self.controls.body])
        for part in parts:
            part.stylesheets = [theme.variables(dark)]
        if self.views is not None:
            self.views.repaint(dark)


def _followers() -> list[Any]:
    """What is told of it when this process becomes busy."""
    return list(pn.state.param.watchers.get("busy", {}).get("value", ()))


def _asked(search: str | None) -> dict[str, str]:
    """What the address of a page asks for."""
    try:
        return dict(parse_qsl((search or "").lstrip("?"), max_num_fields=MAX_ASKED))
    except ValueError:
        return {}
