"""What the dashboard costs: memory over many sessions, and the time of a training beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from paper import viz_runs
from paper.browsing import ROOT, Server, Visit, chromium
from paper.measure import Row, at_most, median, need

SIZES = {"width": 1440, "height": 900}
TRAINED = ("digits", "--members", "32", "--budget", "40000")


def cycles() -> Row:
    """Memory of the server after many sessions over that after the first few."""
    return Row(lambda quick: {"memory over sessions, last to early": at_most(1.1)}, _measure_memory)


def training() -> Row:
    """Time of a whole training with the dashboard open over that without."""
    return Row(lambda quick: {"training beside a page, times": at_most(1.05)}, _measure_training)


def _measure_memory(quick: bool) -> tuple[dict[str, float], Any]:
    need("playwright")
    count, seconds = (6, 2.0) if quick else (20, 90.0)
    with tempfile.TemporaryDirectory() as folder:
        run = viz_runs.Run(Path(folder) / "run")
        run.advance(20)
        server = Server(run.writer.directory, Path(folder) / "server.log")
        held = []
        with chromium() as browser:
            for _ in range(count):
                visit = Visit(browser.new_context(viewport=SIZES), server.url)
                visit.drawn(120)
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    run.advance(1)
                    visit.page.wait_for_timeout(1000)
                visit.page.context.close()
                held.append(psutil.Process(server.process.pid).memory_info().rss)
        server.end()
        run.writer.close()
    early = max(held[: count // 3])
    return {"memory over sessions, last to early": held[-1] / early}, {"bytes": held}


def _measure_training(quick: bool) -> tuple[dict[str, float], Any]:
    need("playwright")
    repeats = 2 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(folder) / "compiled")
        _trained(Path(folder) / "warm", None)
        closed, opened = [], []
        with chromium() as browser:
            context = browser.new_context(viewport=SIZES)
            for number in range(repeats):
                closed.append(_trained(Path(folder) / f"closed{number}", None))
                opened.append(_trained(Path(folder) / f"open{number}", context))
    return (
        {"training beside a page, times": median(opened) / median(closed)},
        {"closed": closed, "open": opened},
    )


def _trained(directory: Path, context: Any) -> float:
    """Seconds that a training took by its own clock, with a page of `context` open or none."""
    command = [sys.executable, "-m", "swarmjax", "run", *TRAINED, "--directory", str(directory)]
    with directory.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    begun = time.monotonic()
    server = visit = None
    while process.poll() is None:
        if context is not None and server is None and (directory / "swarm.db").exists():
            server = Server(directory, directory.with_suffix(".server"))
            visit = Visit(context, server.url)
        if visit is not None:
            visit.page.wait_for_timeout(50)
        else:
            time.sleep(0.05)
    took = time.monotonic() - begun
    if visit is not None and server is not None:
        visit.page.close()
        server.end()
    return took
