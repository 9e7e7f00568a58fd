"""The live dashboard of one run directory: `python -m viz.app DIR [--port P]`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

# The trainer owns the accelerator; the pages must not take its memory.
os.environ["JAX_PLATFORMS"] = "cpu"

import holoviews as hv
import panel as pn
import panel_material_ui as pmui
from bokeh.events import DocumentReady
from tornado.websocket import WebSocketClosedError

from swarmjax.types import InputError
from viz import access, layout, theme, words
from viz.controls import Controls
from viz.others import Others
from viz.selection import Selection
from viz.source import Feed, Snapshot
from viz.views import Views

HOST = "127.0.0.1"
PERIOD = 500
# Between two drawings a page rests so many times as long as the first of them took.
REST = 1.0
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
        self.page = pmui.Page(
            sidebar=[] if self.controls is None else [self.controls.body],
            # A closed sidebar moves the page aside even where there is none.
            sidebar_open=not steers,
            sidebar_width=380,
            meta_title="swarmjax",
            header=[self.top],
            main=[self.main],
            busy_indicator=None,
            sx=theme.PAGE,
            theme_config={"light": theme.mui(False), "dark": theme.mui(True)},
        )
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
            self.rests_until = ended + REST * (ended - begun)

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
            views = Views(snapshot, self.selection, dark, others, name, self._link)
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


def serve(
    directory: str | Path,
    *,
    port: int = 0,
    open_browser: bool = False,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serves the dashboard on this host only, until interrupted.

    Its address holds the write token of the run; a page that is opened without it only shows.

    Args:
        directory: the run directory.
        port: 0 takes a free one.
        open_browser: opens the page in the default browser.
        ready: told the address of the page once it answers; None: the address is printed.

    Raises:
        InputError: the directory holds no run, or the port is taken.
    """
    feed = Feed(directory, layout.Layouts)
    port = _free(port)
    token = access.write_token(feed.directory)
    url = f"http://{HOST}:{port}/" + ("" if token is None else f"?token={token}")
    hv.extension("bokeh")  # pyright: ignore[reportCallIssue]
    server = pn.io.server.get_server(
        {"/": lambda: _open_page(feed, token)},
        port=port,
        address=HOST,
        websocket_origin=[f"{HOST}:{port}"],
        title="swarmjax",
        start=False,
    )
    feed.poll()
    feed.start()
    server.start()
    loop: Any = server.io_loop
    loop.asyncio_loop.set_exception_handler(_report)
    (ready or _print_address)(url)
    if open_browser:
        webbrowser.open(url)
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        pass
    finally:
        feed.close()


def _asked(search: str | None) -> dict[str, str]:
    """What the address of a page asks for."""
    try:
        return dict(parse_qsl((search or "").lstrip("?"), max_num_fields=MAX_ASKED))
    except ValueError:
        return {}


def _open_page(feed: Feed, token: str | None) -> pmui.Page:
    dashboard = Dashboard(feed, token)
    # Panel's own periodic callback marks every page of the process busy at each call.
    document: Any = pn.state.curdoc
    # The page exists by then, so that a view which cannot be drawn is no error of the page.
    document.add_next_tick_callback(dashboard.tick)
    # Changes to a page that the browser is still building get lost.
    document.on_event(
        DocumentReady, lambda _event: document.add_periodic_callback(dashboard.beat, PERIOD)
    )
    return dashboard.page


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Passes errors on, except that a page was closed while it was being written to."""
    if not isinstance(context.get("exception"), WebSocketClosedError):
        loop.default_exception_handler(context)


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise InputError(f"port {port} cannot be used: {error}; choose another") from None
        return probe.getsockname()[1]


def _print_address(url: str) -> None:
    print(f"dashboard at {url} (Ctrl+C ends it)", flush=True)


def main() -> int:
    """Serves the run directory named on the command line; exit code 2 on bad input."""
    parser = argparse.ArgumentParser(prog="python -m viz.app", description=__doc__)
    parser.add_argument("directory")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    try:
        serve(given.directory, port=given.port)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
