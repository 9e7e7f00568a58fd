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
    """Seconds from an act until the heatmap has other pixels, and the server has drawn it."""
    before = page.ready()[1]
    begun = time.monotonic()
    act()
    page.wait("the heatmap changes", lambda: page.sums()[1] != before, 60)
    return time.monotonic() - begun


def _sort(page: Visit, number: int) -> None:
    page.page.get_by_label("Rows").click()
    page.page.get_by_role("option").nth(1 + number % 2).click()


def _zoom(page: Visit) -> None:
    box = page.page.locator(".bk-events").nth(1).bounding_box()
    page.page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 3)
    page.page.mouse.wheel(0, -200)
