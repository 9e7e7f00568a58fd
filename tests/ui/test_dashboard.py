"""The dashboard in a real browser, on runs that grow while the page is open."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
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


@pytest.fixture
def visit(browser, tmp_path: Path) -> Iterator[Callable[..., Visit]]:
    """Opens a page on a new run; at the end nothing may have gone wrong anywhere."""
    opened: list[tuple[Visit, Server]] = []

    def go(name: str = "digits", rounds: int = 6, **options) -> Visit:
        run = viz_runs.Run(tmp_path / name, **options)
        run.advance(rounds)
        server = Server(tmp_path / name, tmp_path / "server.log")
        opened.append((Visit(browser, run, server.url), server))
        return opened[-1][0]

    yield go
    for page, server in opened:
        page.page.wait_for_timeout(600)
        page.page.close()
        page.run.writer.close()
        log = server.stop()
        assert not page.wrong
        assert "ERROR" not in log and "Traceback" not in log, log


def test_every_view_follows_a_run_from_before_its_first_round(visit):
    page = visit(rounds=0)
    page.wait("it waits", lambda: "Waiting for the first round" in page.text("h2"))
    page.run.advance(3)
    before = page.ready()
    headings = page.text("h2")
    assert all(word in headings for word in ("Swarm", "Members over time", "Trajectories"))
    page.run.advance(2)
    page.changed(before)
    page.wait("the header follows", lambda: "5" in page.text("dl div:first-child dd"))
    page.run.say("finished", 0.9)
    page.wait("the state follows", lambda: page.text(".chip") == "Finished")


def test_one_selection_is_shared_and_survives_updates(visit):
    page = visit()
    before = page.ready()
    page.page.locator("input[type=checkbox]").nth(3).click()
    page.changed(before)
    page.wait("one is selected", lambda: "1 selected" in page.text(".caption"))
    before = page.ready()

    figures = page.page.locator(".bk-events")
    box = figures.nth(0).bounding_box()
    page.page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 25, steps=5)
    page.page.mouse.up()
    page.changed(before, (0, 2))
    page.wait("several are selected", lambda: "1 selected" not in page.text(".caption"))

    before = page.ready()
    page.run.advance(1)
    page.changed(before)
    page.page.get_by_role("button", name="Clear selection").click()
    page.wait("nothing is selected", lambda: "0 selected" in page.text(".caption"))

    page.ready()
    box = figures.nth(1).bounding_box()
    page.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait("a tapped row is selected", lambda: "1 selected" in page.text(".caption"))


def test_dark_theme_repaints_everything(visit):
    page = visit()
    before = page.ready()
    page.page.get_by_label("Toggle theme").click()
    page.changed(before)
    page.wait("text turns light", lambda: _luminance(page, "table") > 128)


def test_hostile_names_are_shown_as_text(visit):
    space = sp.Space(note=sp.choice(HOSTILE, "plain"), depth=sp.structure(HOSTILE, "two"))
    page = visit(name=HOSTILE.replace("/", ""), space=space)
    page.ready()
    assert page.text("h1") == HOSTILE
    assert HOSTILE in page.text("td")
    page.page.mouse.move(400, 350)
    page.page.wait_for_timeout(500)
    assert page.page.evaluate("() => window.broken") is None


def _luminance(page: Visit, selector: str) -> float:
    color = page.page.locator(selector).first.evaluate("node => getComputedStyle(node).color")
    red, green, blue = (float(c) for c in color[color.index("(") + 1 : -1].split(",")[:3])
    return 0.2 * red + 0.7 * green + 0.1 * blue
