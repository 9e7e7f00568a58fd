"""Steering from the page in a real browser: with the token it is done, without it nothing is."""

from __future__ import annotations

import re

import pytest

from paper import viz_runs
from paper.browsing import Server, Visit
from swarmjax import stored
from swarmjax.dials import Dial

# Keeps a button's click, and sends another like it in the name of every widget of the page.
LISTEN = """() => {
  const manager = Bokeh.documents[0].event_manager
  const send = manager.send_event.bind(manager)
  manager.send_event = (event) => {
    if (event.node === "click") window.heard ??= event
    send(event)
  }
}"""
FORGE = """() => {
  const document = Bokeh.documents[0]
  const models = [...document._all_models.values()]
  const widgets = models.filter((model) => model.type === window.heard.origin.type)
  for (const model of widgets) {
    const forged = Object.create(Object.getPrototypeOf(window.heard))
    Object.assign(forged, window.heard, {origin: model})
    document.event_manager.send_event(forged)
  }
  return widgets.length
}"""


@pytest.fixture
def made(tmp_path):
    """A made-up run that can be steered, with three rounds."""
    run = viz_runs.Run(tmp_path / "run", members=8)
    run.writer.steering({"goal.accuracy": Dial(0.7, -9.0, 9.0)}, True)
    run.advance(3)
    yield run
    run.writer.close()


@pytest.fixture
def served(made):
    """The address of a dashboard of that run, with its token."""
    server = Server(made.writer.directory, made.writer.directory.parent / "server.log")
    yield server.steering_url
    server.stop()


def press(page, name):
    page.page.get_by_role("button", name=name, exact=True).click()


def clicked_on_all(browser, made, url):
    """What waits after a click on everything that the page at `url` has."""
    page = Visit(browser, url, made)
    page.ready()
    page.page.locator("input[type=checkbox]").nth(1).click()
    page.wait("one is selected", lambda: page.selected() == 1)
    page.page.evaluate(LISTEN)
    press(page, "Clear selection")
    page.wait("none is selected", lambda: page.selected() == 0)
    assert page.page.evaluate(FORGE) > 10
    # Events are taken in order: once this one shows, those before it are through.
    page.page.locator("input[type=checkbox]").nth(1).click()
    page.wait("one is selected", lambda: page.selected() == 1)
    page.close()
    return [entry.body for entry in made.writer.ledger.waiting()]


def test_without_the_token_no_event_can_ask_anything(browser, made, served):
    bare, _, token = served.partition("?token=")
    assert re.fullmatch(r"[\w-]{43}", token)
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    assert clicked_on_all(browser, made, f"{bare}?token={wrong}") == []
    # The same clicks ask for much where there is something to click on.
    assert b'{"kind":"pause"}' in clicked_on_all(browser, made, served)


def test_a_page_without_the_token_says_so_and_has_no_controls(browser, made, served):
    page = Visit(browser, served.partition("?")[0], made)
    page.ready()
    assert "read-only" in page.text("p")
    for name in ("Steer", "Kill", "Stop"):
        assert page.page.get_by_role("button", name=name, exact=True).count() == 0
    page.close()


def test_what_is_wrong_is_told_and_nothing_is_queued(browser, made, served):
    page = Visit(browser, served, made)
    page.ready()
    press(page, "Steer")
    press(page, "Freeze")
    page.wait("it asks for members", lambda: "select a member first" in page.text(".said"))
    page.page.get_by_label("Value, or default").fill("99")
    page.page.get_by_label("Value, or default").press("Enter")
    press(page, "Turn")
    page.wait("it tells the bounds", lambda: "must lie between -9 and 9" in page.text(".said"))
    assert made.writer.ledger.waiting() == []
    page.page.get_by_label("Text").fill("<img src=x onerror=window.broken=1>")
    page.page.get_by_label("Text").press("Enter")
    press(page, "Note")
    page.wait("the note is queued", lambda: "onerror=window.broken=1" in page.text(".asked"))
    assert page.page.evaluate("() => window.broken") is None
    made.writer.ledger.settle(1, "refused", 4, "<b>no</b>")
    page.wait("the reason is told", lambda: "<b>no</b>" in page.text(".asked .told"))
    page.close()


@pytest.mark.parametrize("trainer", [2_000_000], indirect=True)
def test_a_member_of_a_running_swarm_is_killed_and_the_run_is_stopped(browser, real, serve):
    page = Visit(browser, serve(real).steering_url)
    page.drawn(seconds=120)
    press(page, "Steer")
    # Rows of a running swarm may move under the mouse.
    press(page, "Pause")
    page.wait("it is paused", lambda: page.text(".chip") == "Paused", seconds=60)
    page.page.locator("input[type=checkbox]").nth(0).click()
    page.wait("one is selected", lambda: page.selected() == 1)
    press(page, "Kill")
    page.wait("it asks again", lambda: "click Kill again" in page.text(".said"))
    press(page, "Kill")
    page.wait("it is queued", lambda: "queued as #2" in page.text(".said"))
    press(page, "Resume")
    page.wait("its effect is told", lambda: "holds network" in page.text(".asked .told"), 60)
    with_slot = re.search(r"kill member (\d+)", page.text(".asked"))
    assert with_slot, page.text(".asked")
    press(page, "Stop")
    press(page, "Stop")
    page.wait("the run is stopped", lambda: page.text(".chip") == "Stopped", seconds=60)
    page.close()
    reader = stored.open_run(real)
    _, killed, _, stopped = reader.directives()
    assert (killed.state, stopped.state) == ("applied", "applied")
    assert f"slot {with_slot[1]} holds network" in killed.told
    assert reader.status().done < 2_000_000
    assert (real / "steer.token").stat().st_mode & 0o777 == 0o600
    reader.close()
