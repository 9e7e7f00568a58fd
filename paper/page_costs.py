"""What the dashboard costs: memory over many sessions, and the time of a training beside it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from paper import viz_runs
from paper.browsing import ROOT, Server, Visit, chromium
from paper.measure import Row, at_most, median, need
from swarmjax import stored

SIZES = {"width": 1440, "height": 900}
TRAINED = ("digits", "--members", "32", "--budget", "40000")
# The same, as good as without end.
ENDLESS = (*TRAINED[:-1], "1000000000")


def cycles() -> Row:
    """Memory of the server after many sessions over that after the first few."""
    return Row(lambda quick: {"memory over sessions, last to early": at_most(1.1)}, _measure_memory)


def training() -> Row:
    """What a training loses by an open dashboard, once both run, and with the start of that."""
    bars = {
        "steps per second without over beside an open page": at_most(1.05),
        "training beside a page, times": at_most(1.05),
    }
    return Row(lambda quick: bars, _measure_training)


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
            alone, beside = _paces(
                Path(folder) / "endless", context, repeats, 5.0 if quick else 20.0
            )
    figures = {
        "steps per second without over beside an open page": median(alone) / median(beside),
        "training beside a page, times": median(opened) / median(closed),
    }
    told = {"steps per second alone": alone, "steps per second beside": beside}
    return figures, {"closed": closed, "open": opened, **told}


def _paces(
    directory: Path, context: Any, repeats: int, seconds: float
) -> tuple[list[float], list[float]]:
    """Member-steps per second of one training, in turn without and with a dashboard and a page."""
    command = [sys.executable, "-m", "swarmjax", "run", *ENDLESS, "--directory", str(directory)]
    log = directory.with_suffix(".log")
    with log.open("w") as sink, subprocess.Popen(command, cwd=ROOT, stdout=sink, stderr=sink) as it:
        try:
            while not any(directory.glob("frames/r*")):
                assert it.poll() is None, log.read_text()
                time.sleep(0.1)
            alone, beside = [], []
            for _ in range(repeats):
                alone.append(_pace(directory, lambda: time.sleep(0.05), seconds))
                server = Server(directory, directory.with_suffix(".server"))
                visit = Visit(context, server.url)
                visit.drawn(120)
                wait = partial(visit.page.wait_for_timeout, 50)
                beside.append(_pace(directory, wait, seconds))
                visit.page.close()
                server.end()
            return alone, beside
        finally:
            it.kill()


def _pace(directory: Path, wait: Callable[[], object], seconds: float) -> float:
    """Member-steps per second of a run, from one round to the last within about `seconds`."""
    with contextlib.closing(stored.open_run(directory)) as reader:
        times, steps = [], []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            done = reader.status().done
            if not steps or done > steps[-1]:
                times.append(time.monotonic())
                steps.append(done)
            wait()
    # The first was seen too late by an unknown part of a round.
    return (steps[-1] - steps[1]) / (times[-1] - times[1])


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
