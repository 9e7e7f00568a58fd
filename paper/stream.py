"""Row: a thousand members, ten windows a second each, from a trainer to a dashboard elsewhere.

A process stores ten rounds a second of 1,000 members, with a window of each and what the process
used, and tells them over RabbitMQ, as a run with a bus does; a second one follows and stores them;
this one reads the second one's directory by the dashboard's own feed. How far the dashboard is
behind is the age of the latest round that it shows, by the time in the round, on one clock. It
falls behind if the age grows.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from paper.brokers import RabbitMQ
from paper.measure import ROOT, Row, at_least, at_most, median, progress
from swarmjax.stored import open_run

MEMBERS, RATE = 1000, 10.0


def stream() -> Row:
    """Everything arrives, at the rate wanted, and the dashboard keeps up."""
    targets = {
        "stream_windows_a_second": at_least(0.98 * MEMBERS * RATE),
        "stream_rounds_missing": at_most(0), "stream_windows_missing": at_most(0),
        "stream_seconds_behind": at_most(2.0),
        "stream_age_late_over_early": at_most(1.5),
    }  # fmt: skip
    return Row(lambda quick: targets, _measure)


def _measure(quick: bool) -> tuple[dict[str, float], Any]:
    seconds = 20.0 if quick else 60.0
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        broker = stack.enter_context(contextlib.closing(RabbitMQ(folder)))
        here, there = folder / "mirror", folder / "run"
        follower = _start(stack, "follow", broker.url, here)
        producer = _start(stack, "produce", broker.url, there, MEMBERS, seconds, RATE)
        seen, times = watch(here, int(seconds * RATE), 4 * seconds + 120)
        cpu = [float(process.communicate(timeout=300)[0]) for process in (producer, follower)]
        kept, sent = stored_windows(here), stored_windows(there)
        values, raw = _summary(seen, times, int(seconds * RATE), cpu)
    values["stream_windows_missing"] = MEMBERS * seconds * RATE - kept
    progress(f"{values}, CPU seconds {raw['cpu_seconds']} in {raw['seconds']:.0f} s")
    return values, raw | {"windows_stored": kept, "windows_produced": sent}


def stored_windows(directory: Path) -> int:
    """Windows that a run directory holds, if it holds their usage too."""
    with contextlib.closing(open_run(directory)) as reader:
        rounds = set(reader.summaries("usage")["round"].to_pylist())
        return sum(round in rounds for round in reader.windows()["round"].to_pylist())


def _start(stack: contextlib.ExitStack, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "paper.stream_worker", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def watch(directory: Path, rounds: int, seconds: float) -> tuple[list[tuple[int, float]], Any]:
    """Rounds shown and age of the latest in seconds at every look, and times of all rounds."""
    # Imported here: it brings the dashboard's libraries.
    from swarmjax.store import DATABASE
    from viz.source import Feed

    until, seen = time.monotonic() + seconds, []
    while not (directory / DATABASE).exists() and time.monotonic() < until:
        time.sleep(0.05)
    # The file is there before what it says.
    time.sleep(1.0)
    feed = Feed(directory)
    history = None
    while (history is None or len(history.rounds) < rounds) and time.monotonic() < until:
        feed.poll()
        history = feed.snapshot.history
        if history is not None:
            age = time.time() - float(history.last("time")[0])
            seen.append((len(history.rounds), age))
        time.sleep(0.25)
    return seen, [] if history is None else [float(t) for t in history.column("time")[:, 0]]


def _summary(
    seen: list[tuple[int, float]], times: list[float], rounds: int, cpu: list[float]
) -> tuple[dict[str, float], Any]:
    # The first looks find what was stored before anybody looked.
    fresh = [age for count, age in seen if count > rounds / 10] or [float("inf")]
    half = len(fresh) // 2
    early, late = median(fresh[:half] or fresh), median(fresh[half:])
    seconds = times[-1] - times[0] if len(times) > 1 else float("inf")
    values = {
        "stream_windows_a_second": MEMBERS * (len(times) - 1) / seconds,
        "stream_rounds_missing": float(rounds - len(times)),
        "stream_seconds_behind": median(fresh),
        # Ages below half a second are those of looking now and then.
        "stream_age_late_over_early": max(late, 0.5) / max(early, 0.5),
    }
    raw = {
        "looks": seen, "early": early, "late": late, "most": float(np.max(fresh)),
        "cpu_seconds": dict(zip(("produce", "follow"), cpu, strict=True)), "seconds": seconds,
    }  # fmt: skip
    return values, raw
