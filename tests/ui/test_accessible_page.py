"""What axe-core finds on every tab, in both themes, and whether a keyboard reaches it."""

from __future__ import annotations

import time

import pytest
from axe_playwright_python.sync_playwright import Axe

from paper import viz_runs
from paper.browsing import PATIENCE, Server, Visit
from swarmjax.dials import Dial

FIGURES = {"Swarm": 3, "Resources": 3, "Lineage": 2, "Search": 6, "Alarms": 1, "Compare": 2}
GRAVE = ("critical", "serious")
OPTIONS = {"resultTypes": ["violations"]}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The address of a dashboard of a made-up run that can be steered."""
    run = viz_runs.Run(tmp_path_factory.mktemp("runs") / "digits", members=24)
    run.writer.steering({"goal.accuracy": Dial(0.7, -9.0, 9.0)}, True)
    run.advance(6)
    server = Server(run.writer.directory, run.writer.directory.parent / "server.log")
    yield server.steering_url
    run.writer.close()
    server.stop()


def grave(page):
    """`rule: element` of everything grave on the page as it is now."""
    return [
        f"{found['id']}: {node['html'][:200]} {node['any'][:1]}"
        for found in Axe().run(page.page, options=OPTIONS).response["violations"]
        if found["impact"] in GRAVE
        for node in found["nodes"]
    ]


def settled(page):
    """What is grave once the page has come to rest: colours of a theme change bit by bit."""
    end = time.monotonic() + 5 * PATIENCE
    while (found := grave(page)) and time.monotonic() < end:
        page.page.wait_for_timeout(200)
    return found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_grave_on_any_tab(browser, served, dark):
    page = Visit(browser, served)
    page.ready()
    if dark:
        page.page.get_by_label("Toggle theme").click()
    page.page.get_by_role("button", name="Steer", exact=True).click()
    for tab, figures in FIGURES.items():
        page.turn(tab, figures)
        assert settled(page) == [], tab
    page.page.get_by_role("button", name="as a table").first.click()
    assert settled(page) == []
    page.close()


def test_axe_sees_into_the_cards(browser, served):
    page = Visit(browser, served)
    page.ready()
    spoil = "node => { node.style.color = '#eee'; node.style.backgroundColor = '#fff' }"
    page.page.locator("h2", has_text="Swarm").first.evaluate(spoil)
    page.page.locator("input[type=checkbox]").first.evaluate("n => n.removeAttribute('aria-label')")
    assert {found.partition(":")[0] for found in grave(page)} >= {"color-contrast", "label"}
    page.close()


def test_the_keyboard_reaches_every_control_and_selects_a_member(browser, served):
    page = Visit(browser, served)
    page.ready()
    reached = set()
    for _ in range(60):
        page.page.keyboard.press("Tab")
        reached.add(page.page.evaluate(FOCUSED))
    assert {"Find, as in: width > 64 and learning_rate < 1e-3", "Steer", "Export Swarm"} <= reached
    page.page.locator("input[type=checkbox]").first.focus()
    page.page.keyboard.press("Space")
    page.wait("one is selected", lambda: page.selected() == 1)
    page.close()


# The name of what has the focus, within however many shadow roots.
FOCUSED = """() => {
  let node = document.activeElement
  while (node?.shadowRoot?.activeElement) { node = node.shadowRoot.activeElement }
  const label = node.labels?.length ? node.labels[0].textContent : ""
  return node.getAttribute("aria-label") ?? (label || node.textContent.trim())
}"""
