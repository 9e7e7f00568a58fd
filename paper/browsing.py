"""A dashboard server in a process of its own, and a page on it that notes what goes wrong."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from paper.measure import ROOT, MissingData

# On a machine that has other work, everything may be waited for so many times as long.
PATIENCE = float(os.environ.get("UI_PATIENCE", "1"))
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()

# Every canvas of the page, grouped by figure: how many pixels are drawn, and a number that
# changes with them. Bokeh keeps its canvases in shadow roots.
CANVASES = """() => {
  const found = new Map()
  const walk = (root) => {
    for (const node of root.querySelectorAll("*")) {
      if (node.tagName === "CANVAS" && node.width > 50 && node.height > 50) {
        const own = found.get(node.getRootNode()) ?? {filled: 0, sum: 0}
        const data = node.getContext("2d").getImageData(0, 0, node.width, node.height).data
        for (let i = 0; i < data.length; i += 4) {
          if (data[i + 3] > 0) {
            own.filled += 1
            own.sum = (own.sum * 31 + data[i] * 7 + data[i + 1] * 3 + data[i + 2] + i) % 2147483647
          }
        }
        found.set(node.getRootNode(), own)
      }
      if (node.shadowRoot) walk(node.shadowRoot)
    }
  }
  walk(document)
  return [...found.values()]
}"""


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """A browser under playwright, while it is needed; `CHROMIUM` may say where it is.

    Raises:
        MissingData: none is installed.
    """
    names = ("chromium", "google-chrome")
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise MissingData("no Chromium found; install it, or name it in CHROMIUM")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield launched
        launched.close()


class Server:
    """`swarmjax dashboard DIRECTORY` and what it wrote.

    `url` only shows the run, `steering_url` may steer it.
    """

    def __init__(self, directory: Path, log: Path):
        self.log = log
        with log.open("w") as sink:
            command = [sys.executable, "-u", "-m", "swarmjax", "dashboard"]
            self.process = subprocess.Popen(
                [*command, str(directory)],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "http://127.0.0.1:" in line, log.read_text()
        self.steering_url = line.split()[2]
        self.url = self.steering_url.partition("?")[0]

    def end(self) -> str:
        """Ends the server; what it has logged."""
        self.process.terminate()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.log.read_text()

    def stop(self) -> None:
        """Ends the server, whose log must be clean."""
        log = self.end()
        assert not any(word in log for word in ("ERROR", "Traceback", "failed")), log


class Visit:
    """A page on a dashboard that notes everything that goes wrong.

    `run` is the made-up run it shows, if it is one.
    """

    def __init__(self, context, url: str, run: Any = None):
        self.run = run
        self.wrong: list[str] = []
        self.page = context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(f"page error: {error}"))
        self.page.on("requestfailed", lambda request: self.wrong.append(f"failed: {request.url}"))
        self.page.on("request", self._request)
        self.page.set_default_timeout(30_000 * PATIENCE)
        self.page.goto(url)

    def close(self) -> None:
        """Leaves the page; neither in it nor in what it asked for may anything have gone wrong."""
        self.page.wait_for_timeout(300)
        self.page.close()
        assert self.wrong == []

    def _console(self, message) -> None:
        if message.type == "error":
            self.wrong.append(f"console: {message.text}")

    def _request(self, request) -> None:
        if not request.url.startswith(("http://127.0.0.1:", "data:", "blob:http://127.0.0.1:")):
            self.wrong.append(f"external request: {request.url}")

    def sums(self) -> list[int]:
        """One number per figure that changes with its pixels; all figures must be drawn."""
        figures = self.page.evaluate(CANVASES)
        return [figure["sum"] for figure in figures if figure["filled"] > 500]

    def wait(self, what: str, true: Callable[[], object], seconds: float = 20) -> None:
        """Waits until `true()` holds."""
        end = time.monotonic() + seconds * PATIENCE
        while not true():
            assert time.monotonic() < end, f"waited in vain until {what}; {self.wrong}"
            self.page.wait_for_timeout(100)

    def ready(self, figures: int = 3) -> list[int]:
        """Waits until so many figures are drawn, and still."""
        before = self.drawn(figures=figures)
        while True:
            self.page.wait_for_timeout(400)
            if before == (now := self.sums()):
                return now
            before = now

    def drawn(self, seconds: float = 30, figures: int = 3) -> list[int]:
        """Waits until so many figures are drawn."""
        self.wait(f"{figures} figures are drawn", lambda: len(self.sums()) == figures, seconds)
        return self.sums()

    def turn(self, tab: str, figures: int) -> list[int]:
        """Goes to another tab, and waits until its figures are drawn, and still."""
        self.page.get_by_role("tab", name=tab).click()
        return self.ready(figures)

    def changed(self, before: list[int], which: tuple[int, ...] = (0, 1, 2)) -> None:
        """Waits until the figures `which` (graph, heatmap, trajectories) differ from before."""

        def differ() -> bool:
            now = self.sums()
            return len(now) == 3 and all(now[i] != before[i] for i in which)

        self.wait(f"figures {which} change", differ)

    def text(self, selector: str) -> str:
        """All text of the matching elements."""
        return " ".join(self.page.locator(selector).all_inner_texts())

    def cards(self) -> list[tuple[float, ...]]:
        """Left, top, right and bottom of the cards, from the first to the last."""
        sides = """node => {
          const host = (inner) => inner.getRootNode().host
          const {left, top, right, bottom} = host(host(host(node))).getBoundingClientRect()
          return [left, top, right, bottom]
        }"""
        return [tuple(card.evaluate(sides)) for card in self.page.locator("h2").all()]

    def selected(self) -> int:
        """How many members the page says are selected."""
        found = re.search(r"([\d,]+) of [\d,]+ selected", self.text(".found"))
        assert found, "the page says how many members are selected"
        return int(found[1].replace(",", ""))

    def drag_over_figure(self, number: int) -> None:
        """Drags a box over the left half of a figure."""
        box = self.page.locator(".bk-events").nth(number).bounding_box()
        self.page.mouse.move(box["x"] + 20, box["y"] + 20)
        self.page.mouse.down()
        right, bottom = box["x"] + box["width"] / 2, box["y"] + box["height"] - 25
        self.page.mouse.move(right, bottom, steps=5)
        self.page.mouse.up()

    def tap_figure(self, number: int) -> None:
        """Taps the middle of a figure."""
        box = self.page.locator(".bk-events").nth(number).bounding_box()
        self.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
