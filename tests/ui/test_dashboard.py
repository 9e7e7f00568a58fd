"""The dashboard in a real browser, on runs that grow while the page is open."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

import swarmjax.space as sp
from paper import viz_runs
from paper.browsing import Server, Visit
from swarmjax import stored

HOSTILE = "<img src=x onerror=window.broken=1>"


@pytest.fixture(scope="module")
def shared(browser, tmp_path_factory) -> Iterator[tuple[viz_runs.Run, str]]:
    """The one growing run of these tests and its address; all its own names are markup."""
    space = sp.Space(
        note=sp.choice(HOSTILE, "plain"),
        learning_rate=sp.log_uniform(1e-4, 1e-1),
        depth=sp.structure(HOSTILE, "two", "three"),
    )
    directory = tmp_path_factory.mktemp("run") / HOSTILE
    run = viz_runs.Run(directory, space=space)
    server = Server(directory, directory.parent / "server.log")
    yield run, server.url
    run.writer.close()
    server.stop()


@pytest.fixture
def page(browser, shared) -> Iterator[Visit]:
    """A new page on the shared run."""
    run, url = shared
    visit = Visit(browser, url, run)
    yield visit
    visit.close()


def test_every_view_follows_a_run_from_before_its_first_round(page):
    page.wait("it waits", lambda: "Waiting for the first round" in page.text("h2"))
    page.run.writer.event(0, "compiled", f"compiling {HOSTILE}")
    page.wait("it tells events", lambda: f"compiling {HOSTILE}" in page.text("li"))
    for rounds in (1, 1, 3):
        before = page.ready() if page.run.swarm.round else [0] * 3
        page.run.advance(rounds)
        page.changed(before)
    headings = page.text("h2")
    assert all(word in headings for word in ("Swarm", "Members over time", "Trajectories"))
    page.wait("the header follows", lambda: page.text("dl div:first-child dd") == "5")
    _fills_the_window(page)


def test_one_selection_is_shared_and_survives_updates(page):
    before = page.ready()
    _fills_the_window(page)
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


FIGURES = {"Resources": 3, "Lineage": 2, "Search": 6, "Alarms": 1, "Compare": 2}


def test_every_tab_is_drawn_and_shows_hostile_names_as_text(page):
    page.ready()
    for tab, figures in FIGURES.items():
        page.turn(tab, figures)
        assert "failed" not in page.text(".caption, .note")
        for button in page.page.get_by_role("button", name="as a table").all():
            button.click()
        page.wait("all are tables", lambda: page.sums() == [])
        # Nothing went wrong in the made-up run that an alarm tells of.
        if tab != "Alarms":
            page.wait("tables have rows", lambda: page.page.locator("tbody tr").count() > 0)
    page.page.mouse.move(400, 350)
    page.page.wait_for_timeout(300)
    assert page.page.evaluate("() => window.broken") is None


def test_hostile_names_would_run_if_they_were_markup(page):
    page.ready()
    spoil = "text => { document.body.appendChild(document.createElement('p')).innerHTML = text }"
    page.page.evaluate(spoil, HOSTILE)
    page.wait("it runs", lambda: page.page.evaluate("() => window.broken") == 1)
    # The picture that is not there.
    page.wrong.clear()


def test_address_holds_what_is_shown(page, browser, shared):
    page.ready()
    page.page.get_by_label("Find, as in").fill("rank <= 3")
    page.page.get_by_label("Find, as in").press("Enter")
    page.wait("three are found", lambda: page.selected() == 3)
    page.turn("Lineage", 2)
    page.wait("the address follows", lambda: "tab=Lineage" in page.page.url)
    assert "find=rank" in page.page.url
    again = Visit(browser, page.page.url)
    again.ready(2)
    assert again.selected() == 3 and "Founders" in again.text("h2")
    again.close()
    for odd in (
        "?tab=None&members=1,x,99999999999,-2&graph.color=<b>&find=%28",
        "?%ff&&&=&members=2",
    ):
        hostile = Visit(browser, shared[1] + odd)
        hostile.ready()
        assert hostile.page.evaluate("() => window.broken") is None
        hostile.close()


def test_condition_that_cannot_be_read_is_told(page):
    page.ready()
    field = page.page.get_by_label("Find, as in")
    for text, told in ((f"{HOSTILE} > 3", "cannot read"), ("stepz > 3", "did you mean step")):
        field.fill(text)
        field.press("Enter")
        page.wait("it is told", lambda told=told: told in page.text(".found"))
    assert page.page.evaluate("() => window.broken") is None


def test_figures_and_data_can_be_saved(page, tmp_path):
    page.ready()
    starts = {"PNG": b"\x89PNG", "SVG": b"<svg", "CSV": b"member,", "Parquet": b"PAR1"}
    for kind, start in starts.items():
        with page.page.expect_download() as saved:
            page.page.get_by_label("Export Swarm").select_option(kind)
        saved.value.save_as(tmp_path / kind)
        content = (tmp_path / kind).read_bytes()
        assert content.startswith(start) and len(content) > 1000
        assert saved.value.suggested_filename == f"graph.{kind.lower()}"


def test_another_page_has_its_own_selection_and_theme(page):
    before = page.ready()
    assert page.selected() == 0
    page.page.get_by_label("Toggle theme").click()
    page.changed(before)
    page.wait("text turns light", lambda: _luminance(page, "table") > 128)


def test_state_follows_and_hostile_names_are_shown_as_text(page):
    page.ready()
    page.run.writer.event(page.run.swarm.round, "failed", f"broken by {HOSTILE}")
    page.run.say("failed", 0.9)
    page.wait("the state follows", lambda: page.text(".chip") == "Failed")
    page.wait("the page tells why", lambda: page.text(".note") == f"broken by {HOSTILE}")
    assert page.text("h1") == HOSTILE
    assert HOSTILE in page.text("td")
    page.page.mouse.move(400, 350)
    page.page.wait_for_timeout(300)
    assert page.page.evaluate("() => window.broken") is None


def test_real_swarm_is_followed_to_its_end(browser, real, trainer, serve):
    # The trainer is held while it compiles, or it might be done with that before the page opens.
    reader = stored.open_run(real)
    while not any("compiling a program" in event.text for event in reader.events()):
        assert trainer.poll() is None
        time.sleep(0.02)
    trainer.send_signal(signal.SIGSTOP)
    assert reader.rounds() == []
    reader.close()
    page = Visit(browser, serve(real).url)
    page.wait("it compiles", lambda: "compiling a program" in page.text("li"))
    trainer.send_signal(signal.SIGCONT)
    before = page.drawn(seconds=90)
    assert page.text(".chip") == "Running"
    page.changed(before)
    page.page.locator("input[type=checkbox]").nth(2).click()
    page.wait("one is selected", lambda: page.selected() == 1)
    page.wait("it finishes", lambda: page.text(".chip") == "Finished", seconds=60)
    page.changed(before)
    assert page.selected() == 1
    page.close()


def _fills_the_window(page: Visit) -> None:
    cards = page.cards()
    assert len(cards) == 4
    assert (cards[0][0], cards[3][2], cards[3][3]) == (12, 1428, 888)
    assert cards[0][1] < 140


def _luminance(page: Visit, selector: str) -> float:
    color = page.page.locator(selector).first.evaluate("node => getComputedStyle(node).color")
    red, green, blue = (float(c) for c in color[color.index("(") + 1 : -1].split(",")[:3])
    return 0.2 * red + 0.7 * green + 0.1 * blue
