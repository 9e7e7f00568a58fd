"""The dashboard in a real browser, on runs that grow while the page is open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import viz_runs
from browsing import FLAGS, Server, Visit

import swarmjax.space as sp

HOSTILE = "<img src=x onerror=window.broken=1>"


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Chromium under playwright; without it the tests are skipped, but not in CI."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        assert not os.environ.get("CI"), "CI needs Chromium for the browser tests"
        pytest.skip("no Chromium found; install it to run the browser tests")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


class Served:
    """A run without rounds and its dashboard's server; `trouble` is all that went wrong."""

    def __init__(self, directory: Path, **options):
        self.run = viz_runs.Run(directory, **options)
        self.server = Server(directory, directory.parent / "server.log")

    def close(self) -> None:
        """Ends the server, whose log must be clean."""
        self.run.writer.close()
        log = self.server.stop()
        assert "ERROR" not in log and "Traceback" not in log, log

    def visit(self, browser) -> Iterator[Visit]:
        """A page; neither in it nor in what it asks for may anything go wrong."""
        page = Visit(browser, self.run, self.server.url)
        yield page
        page.page.wait_for_timeout(500)
        page.page.close()
        assert page.wrong == []


@pytest.fixture(scope="module")
def shared(browser, tmp_path_factory) -> Iterator[Served]:
    """The one growing run of these tests."""
    served = Served(tmp_path_factory.mktemp("run") / "digits")
    yield served
    served.close()


@pytest.fixture
def page(browser, shared) -> Iterator[Visit]:
    """A new page on the shared run."""
    yield from shared.visit(browser)


@pytest.fixture
def hostile_page(browser, tmp_path) -> Iterator[Visit]:
    """A page on a run whose own name, gene options and architectures are markup."""
    space = sp.Space(note=sp.choice(HOSTILE, "plain"), depth=sp.structure(HOSTILE, "two"))
    served = Served(tmp_path / HOSTILE, space=space, members=24)
    served.run.advance(3)
    yield from served.visit(browser)
    served.close()


def test_every_view_follows_a_run_from_before_its_first_round(page):
    page.wait("it waits", lambda: "Waiting for the first round" in page.text("h2"))
    page.run.advance(4)
    before = page.ready()
    headings = page.text("h2")
    assert all(word in headings for word in ("Swarm", "Members over time", "Trajectories"))
    page.run.advance(2)
    page.changed(before)
    page.wait("the header follows", lambda: page.text("dl div:first-child dd") == "6")


def test_one_selection_is_shared_and_survives_updates(page):
    before = page.ready()
    page.page.locator("input[type=checkbox]").nth(3).click()
    page.changed(before)
    page.wait("one is selected", lambda: page.selected() == 1)

    before = page.ready()
    page.drag_over_figure(0)
    page.changed(before, (0, 2))
    page.wait("a box is selected", lambda: page.selected() > 1)

    before, chosen = page.ready(), page.selected()
    page.run.advance(1)
    page.changed(before)
    assert page.selected() == chosen

    page.page.get_by_role("button", name="Clear selection").click()
    page.wait("none is selected", lambda: page.selected() == 0)
    page.ready()
    page.tap_figure(1)
    page.wait("a tapped row is selected", lambda: page.selected() == 1)


def test_pages_do_not_share_their_selection(page):
    page.ready()
    assert page.selected() == 0


def test_dark_theme_repaints_everything(page):
    before = page.ready()
    page.page.get_by_label("Toggle theme").click()
    page.changed(before)
    page.wait("text turns light", lambda: _luminance(page, "table") > 128)


def test_state_follows_the_run(page):
    page.ready()
    page.run.say("failed", 0.9)
    page.wait("the state follows", lambda: page.text(".chip") == "Failed")


def test_hostile_names_are_shown_as_text(hostile_page):
    page = hostile_page
    page.ready()
    assert page.text("h1") == HOSTILE
    assert HOSTILE in page.text("td")
    page.page.mouse.move(400, 350)
    page.page.wait_for_timeout(300)
    assert page.page.evaluate("() => window.broken") is None


def _luminance(page: Visit, selector: str) -> float:
    color = page.page.locator(selector).first.evaluate("node => getComputedStyle(node).color")
    red, green, blue = (float(c) for c in color[color.index("(") + 1 : -1].split(",")[:3])
    return 0.2 * red + 0.7 * green + 0.1 * blue
