"""A long run of many members that was written before: how soon it opens, is sorted and zoomed."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paper import viz_runs
from paper.browsing import Server, Visit, chromium
from paper.measure import Row, at_most, need, progress

SIZES = {"width": 1440, "height": 900}
REPEATS = 5

# Notes how long the browser takes from what a person did last until new shades are painted.
WATCH = """() => {
  window.took = null
  let acted = null
  const note = () => { acted = performance.now() }
  for (const kind of ["click", "pointerup"]) {
    window.addEventListener(kind, note, {capture: true})
  }
  const shades = () => [...Bokeh.documents[0]._all_models.values()]
    .filter((model) => model.type === "ColumnDataSource" && "dw" in model.data)
    .map((model) => model.data.image ?? model.data.z)
  const before = new Set(shades())
  const look = () => {
    if (acted === null || shades().every((each) => before.has(each))) {
      requestAnimationFrame(look)
      return
    }
    requestAnimationFrame(() => requestAnimationFrame(() => {
      window.took = (performance.now() - acted) / 1000
    }))
  }
  look()
}"""


def recorded() -> Row:
    """Seconds until all first-page views are drawn, and until the heatmap is drawn anew."""
    return Row(
        lambda quick: {
            "recorded opens, seconds": at_most(5.0),
            "recorded re-sort, seconds": at_most(0.5),
            "recorded zoom, seconds": at_most(0.5),
        },
        _measure,
    )


def _measure(quick: bool) -> tuple[dict[str, float], Any]:
    need("playwright")
    members, rounds = (10_000, 100) if quick else (100_000, 1000)
    with tempfile.TemporaryDirectory() as folder:
        run = viz_runs.Run(Path(folder) / "run", members)
        for done in range(0, rounds, 50):
            progress(f"{done} of {rounds} rounds of {members} members are made")
            run.advance(50)
        run.say("finished", 0.9)
        run.writer.close()
        return _looked_at(Path(folder) / "run")


def _looked_at(directory: Path) -> tuple[dict[str, float], Any]:
    server = Server(directory, directory.parent / "server.log")
    with chromium() as browser:
        context = browser.new_context(viewport=SIZES)
        # The first page fills the caches of browser and system.
        Visit(context, server.url).drawn(600)
        begun = time.monotonic()
        page = Visit(context, server.url)
        page.drawn(120)
        opened = time.monotonic() - begun
        sorts = [_redrawn(page, lambda i=i: _sort(page, i)) for i in range(REPEATS)]
        zooms = [_redrawn(page, lambda: _zoom(page)) for _ in range(REPEATS)]
    server.end()
    found = {
        "recorded opens, seconds": opened,
        "recorded re-sort, seconds": sorted(sorts)[REPEATS // 2],
        "recorded zoom, seconds": sorted(zooms)[REPEATS // 2],
    }
    return found, {"sorts": sorts, "zooms": zooms}


def _redrawn(page: Visit, act: Callable[[], None]) -> float:
    """Seconds from a click or the end of a drag until the server's new heatmap is painted."""
    page.ready()
    page.page.evaluate(WATCH)
    act()
    page.wait("the heatmap is painted anew", lambda: page.page.evaluate("window.took"), 60)
    return page.page.evaluate("window.took")


def _sort(page: Visit, number: int) -> None:
    page.page.get_by_label("Rows").click()
    items = page.page.locator(".MuiMenuItem-root")
    items.nth(1 + number % 2).click()
    # The menu fades, and until it is gone it takes all clicks.
    items.first.wait_for(state="detached")


def _zoom(page: Visit) -> None:
    """Drags a box over the middle of the heatmap, which is then zoomed to."""
    box = page.page.locator(".bk-events").nth(1).bounding_box()
    mouse, (left, top) = page.page.mouse, (box["x"], box["y"])
    mouse.move(left + 0.2 * box["width"], top + 0.2 * box["height"])
    mouse.down()
    mouse.move(left + 0.8 * box["width"], top + 0.8 * box["height"], steps=4)
    mouse.up()
