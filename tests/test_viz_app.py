"""A page without a browser: what it tells when one of its views, or all of it, fails."""

from __future__ import annotations

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from weakref import ref

import holoviews as hv
import panel as pn
import pytest
from bokeh.client import pull_session

from paper import viz_runs
from viz import app, dashboard, heatmap, layout, source

hv.extension("bokeh")
HOSTILE = "<b>no"


@pytest.fixture
def run(tmp_path):
    made = viz_runs.Run(tmp_path / "digits", members=8)
    yield made
    made.writer.close()


@pytest.fixture
def page(run):
    opened = dashboard.Dashboard(source.Feed(run.writer.directory, layout.Layouts))
    opened.page.get_root()
    return opened


def follow(page, run) -> None:
    run.advance()
    page.feed.poll()
    page.tick()


def fail(*_given, **_named):
    raise ValueError(HOSTILE)


@pytest.mark.parametrize("before", [0, 1, 2])
def test_failing_view_tells_why_and_recovers(page, run, monkeypatch, caplog, before):
    for _ in range(before):
        follow(page, run)
    with monkeypatch.context() as broken:
        broken.setattr(heatmap.pixels, "image", fail)
        follow(page, run)
    captions = {name: pane.object for name, pane in page.views.captions.items()}
    assert "this view failed: ValueError: &lt;b&gt;no" in captions.pop("heatmap")
    assert "8 of 8 members" in captions["members"]
    assert not any("failed" in caption for caption in captions.values())
    assert HOSTILE in caplog.text and "Traceback" in caplog.text
    follow(page, run)
    assert "failed" not in page.views.captions["heatmap"].object


def test_failing_page_tells_why_and_goes_on(page, run, monkeypatch, caplog):
    with monkeypatch.context() as broken:
        broken.setattr(dashboard.words, "header", fail)
        follow(page, run)
    assert "this page failed: ValueError: &lt;b&gt;no" in page.note.object
    assert "Traceback" in caplog.text
    follow(page, run)
    assert page.note.object == ""
    assert page.views is not None


def test_waiting_page_tells_the_latest_events(page, run):
    for number in range(12):
        run.writer.event(0, "compiled", f"program {number} {HOSTILE}")
    page.feed.poll()
    page.tick()
    assert "program 11 &lt;b&gt;no" in page.waiting.object
    assert "program 3 " not in page.waiting.object


def test_a_page_rests_as_long_as_it_was_drawn(page, run, monkeypatch):
    clock = iter([100.0, 103.0, 105.9, 106.0, 106.1])
    monkeypatch.setattr(dashboard.time, "monotonic", lambda: next(clock))
    drawn = []
    monkeypatch.setattr(page, "tick", lambda: drawn.append(1))
    for count in (1, 1, 2):
        page.beat()
        assert len(drawn) == count


@pytest.mark.parametrize(
    ("arguments", "steers"),
    [({"token": [b"secret"]}, True), ({"token": [b"other"]}, False), ({}, False)],
)
def test_only_the_token_gives_a_page_controls(run, monkeypatch, arguments, steers):
    monkeypatch.setattr(type(dashboard.pn.state), "session_args", property(lambda _: arguments))
    page = dashboard.Dashboard(source.Feed(run.writer.directory, layout.Layouts), "secret")
    assert (page.controls is not None) is steers and bool(page.page.sidebar) is steers
    assert page.token == ({"token": "secret"} if steers else {})


@pytest.fixture
def served(run):
    """The address of a server of the run, which soon ends sessions that were left, and its loop."""
    run.advance(2)
    feed = source.Feed(run.writer.directory, layout.Layouts)
    feed.poll()
    made = {}

    def serve(ready):
        server = pn.io.server.get_server(
            {"/": lambda: app._open_page(feed, None)}, address=app.HOST, start=False,
            unused_session_lifetime_milliseconds=100, check_unused_sessions_milliseconds=100,
        )  # fmt: skip
        made.update(loop=server.io_loop, url=f"http://{app.HOST}:{server.port}/")
        server.start()
        server.io_loop.add_callback(ready.set)
        server.io_loop.start()
        server.stop()
        server.io_loop.close()

    ready = threading.Event()
    thread = threading.Thread(target=serve, args=(ready,))
    thread.start()
    assert ready.wait(30)
    yield made["url"]
    made["loop"].add_callback(made["loop"].stop)
    thread.join(30)
    assert not thread.is_alive()


def wait(true):
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_page_that_was_left_is_forgotten(served, monkeypatch):
    """So that the memory of a server does not grow with the pages that were once open."""
    opened = []

    class Noted(dashboard.Dashboard):
        def __init__(self, *given):
            super().__init__(*given)
            opened.append(ref(self))

    def visit():
        session = pull_session(url=served)
        assert session.document.roots
        wait(lambda: getattr(opened[-1](), "views", None))
        session.close()

    monkeypatch.setattr(app, "Dashboard", Noted)
    # Not in this thread, in which the loop of another test's browser may run.
    with ThreadPoolExecutor(1) as pool:
        for _ in range(4):
            pool.submit(visit).result()
    # Panel holds the first page in which anything was busy, for good.
    wait(lambda: gc.collect() + 1 and sum(page() is not None for page in opened) <= 1)
    assert len(opened) == 4
