"""A run of many members that is written while two pages look at it: how often and how late.

Beside that, what each refresh of a page costs: the cores may have other work.

A round counts as shown once the trajectories hold it and the browser has painted twice since; the
other first-page views are drawn in the same turn. `python -m paper.page_live` is what writes.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from paper import viz_runs
from paper.browsing import ROOT, Server, Visit, chromium
from paper.measure import Row, at_least, at_most, need

MEMBERS, SESSIONS = 10_000, 2
# Rounds that are there when the pages open, and seconds between those that follow.
BEFORE, PACE = 5, 0.4
SIZES = {"width": 1440, "height": 900}

# Notes when each round is painted, by the clock of the host.
WATCH = """() => {
  window.painted = {}
  const newest = () => {
    let found = 0
    for (const model of Bokeh.documents[0]._all_models.values()) {
      // The swarm's median has these two columns.
      if (model.type !== "ColumnDataSource" || !("low" in model.data)) { continue }
      for (const round of model.data.t ?? []) { if (round > found) { found = round } }
    }
    return found
  }
  const look = () => {
    const round = newest()
    if (!(round in window.painted)) {
      window.painted[round] = Infinity
      requestAnimationFrame(() => requestAnimationFrame(() => {
        window.painted[round] = (performance.timeOrigin + performance.now()) / 1000
      }))
    }
    requestAnimationFrame(look)
  }
  look()
}"""


def live() -> Row:
    """Refreshes a second and the time from a round's being stored to its being painted."""
    return Row(
        lambda quick: {
            "live refreshes a second": at_least(2.0),
            "live write-to-pixel seconds, p95": at_most(0.5),
            "live errors and external requests": at_most(0),
        },
        _measure,
    )


def _measure(quick: bool) -> tuple[dict[str, float], Any]:
    need("playwright")
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        rounds = 20 if quick else 120
        writing = subprocess.Popen(
            [sys.executable, "-m", "paper.page_live", str(directory), str(rounds)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        try:
            return _watched(directory, writing)
        finally:
            writing.kill()
            writing.communicate()


def _watched(directory: Path, writing: subprocess.Popen) -> tuple[dict[str, float], Any]:
    """What two pages saw of the rounds that `writing` told of."""
    assert writing.stdin is not None and writing.stdout is not None
    writing.stdout.readline()
    server = Server(directory, directory.parent / "server.log")
    with chromium() as browser:
        visits = [Visit(browser.new_context(viewport=SIZES), server.url) for _ in range(SESSIONS)]
        for visit in visits:
            visit.drawn(120)
            visit.page.evaluate(WATCH)
        parts = {"training": [writing.pid], "server": [server.process.pid], "browser": _browsers()}
        before = {name: _cpu(pids) for name, pids in parts.items()}
        print("go", file=writing.stdin, flush=True)
        written: dict[int, float] = {}
        while line := _line(writing, visits):
            round, at = line.split()
            written[int(round)] = float(at)
        # For what is on its way; a round that was jumped over is one refresh less.
        visits[0].page.wait_for_timeout(3000)
        spent = {name: _cpu(pids) - before[name] for name, pids in parts.items()}
        seen = [visit.page.evaluate("() => window.painted") for visit in visits]
        wrong = [fault for visit in visits for fault in visit.wrong]
    log = server.end()
    wrong += [line for line in log.splitlines() if "ERROR" in line or "Traceback" in line]
    found, raw = _told(written, seen, wrong)
    shown = max(1, len(raw["delays"]))
    return found, raw | {"CPU seconds a refresh": {n: s / shown for n, s in spent.items()}}


def _browsers() -> list[int]:
    """The processes of the browser."""
    own = psutil.Process().children(recursive=True)
    return [each.pid for each in own if "chrom" in each.name()]


def _cpu(pids: list[int]) -> float:
    """CPU seconds of the processes that are still there."""
    times = [psutil.Process(pid).cpu_times() for pid in pids if psutil.pid_exists(pid)]
    return sum(each.user + each.system for each in times)


def _line(writing: subprocess.Popen, visits: list[Visit]) -> str:
    """What the writer tells next; meanwhile the pages' events are taken in."""
    visits[0].page.wait_for_timeout(1)
    assert writing.stdout is not None
    return writing.stdout.readline().strip()


def _told(
    written: dict[int, float], seen: list[dict[str, float]], wrong: list[str]
) -> tuple[dict[str, float], Any]:
    delays, rates = [], []
    for painted in seen:
        # Infinite for a round that was not painted to the end.
        shown = {int(r): at for r, at in painted.items() if int(r) in written and at < math.inf}
        delays += [at - written[r] for r, at in shown.items()]
        rates.append(len(shown) / (len(written) * PACE))
    found = {
        "live refreshes a second": min(rates),
        "live write-to-pixel seconds, p95": float(np.quantile(delays, 0.95)),
        "live errors and external requests": float(len(wrong)),
    }
    return found, {"delays": delays, "rates": rates, "wrong": wrong, "rounds": len(written)}


def main(directory: str, rounds: str) -> None:
    """Writes a round every `PACE` seconds once told to, and tells when each was stored."""
    run = viz_runs.Run(Path(directory), MEMBERS)
    run.advance(BEFORE)
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    for number in range(int(rounds)):
        # Made before it is due, so that making it costs the pages no time they would have.
        plan, frame = run.swarm.step()
        time.sleep(max(0.0, begun + number * PACE - time.monotonic()))
        run.store(plan, frame)
        print(run.swarm.round, time.time(), flush=True)
    run.writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
