"""The live dashboard of one run directory: `python -m viz.app DIR [--port P]`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import socket
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path
from typing import Any

# The trainer owns the accelerator; the pages must not take its memory.
os.environ["JAX_PLATFORMS"] = "cpu"

import holoviews as hv
import panel as pn
import panel_material_ui as pmui
from bokeh.events import DocumentReady
from tornado.websocket import WebSocketClosedError

from swarmjax.types import InputError
from viz import access, ahead
from viz.dashboard import Dashboard
from viz.source import Feed

HOST = "127.0.0.1"
# It warns of every page that is closed while something is on its way to it.
logging.getLogger("bokeh.server.views.ws").setLevel(logging.ERROR)
# Milliseconds between two looks of a page, seconds between two of the feed.
PERIOD, POLL = 50, 0.1
# Rows of members and rounds that are read within seconds.
MANY = 10_000_000


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
    feed = Feed(directory, ahead.derive)
    port = _free(port)
    token = access.write_token(feed.directory)
    url = f"http://{HOST}:{port}/" + ("" if token is None else f"?token={token}")
    server = _make_server(feed, token, port)
    if feed.cells > MANY:
        print(f"reading {feed.cells:,} rows, which takes a while", file=sys.stderr)
    feed.poll()
    feed.start(POLL)
    server.start()
    (ready or _print_address)(url)
    if open_browser:
        webbrowser.open(url)
    try:
        server.io_loop.start()
    except KeyboardInterrupt:
        pass
    finally:
        feed.close()


def _make_server(feed: Feed, token: str | None, port: int) -> Any:
    hv.extension("bokeh")  # pyright: ignore[reportCallIssue]
    server = pn.io.server.get_server(
        {"/": lambda: _open_page(feed, token)},
        port=port,
        address=HOST,
        websocket_origin=[f"{HOST}:{port}"],
        title="swarmjax",
        start=False,
    )
    loop: Any = server.io_loop
    loop.asyncio_loop.set_exception_handler(_report)
    return server


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
