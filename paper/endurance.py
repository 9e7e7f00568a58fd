"""What checkpoints cost, and what a long run leaves behind in memory and open files."""

from __future__ import annotations

import gc
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import swarmjax as sj
from paper.measure import Row, at_most, median, progress
from swarmjax.progress import Silent

# Growth of memory that is still the noise of the allocator, as a share; handles may not grow.
_FLAT = 0.02
_HOURS, _QUICK_SECONDS = 2.0, 60.0


class Watching(Silent):
    """Notes memory and open files after every round, and stops the run when its time is up."""

    def __init__(self, seconds: float):
        self.end, self.seen = time.monotonic() + seconds, []
        self._process = psutil.Process()

    def show(self, status) -> None:
        """Looks at this process."""
        if status.state != "running" or not status.round:
            return
        held = self._process.memory_info().rss, self._process.num_fds()
        self.seen.append((time.monotonic(), *held))
        if time.monotonic() > self.end:
            raise TimeoutError


def overhead() -> Row:
    """Share of the time by which default checkpoints make a run longer."""

    def targets(quick: bool):
        del quick
        return {"checkpoint-overhead": at_most(0.03)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        repeats, seconds = (2, 5.0) if quick else (5, 20.0)
        times: dict[str, list[float]] = {"with": [], "without": []}
        for repeat in range(repeats):
            # As often as the default rule allows, which makes them rare where they are dear.
            for name, every in (("with", 1e-3), ("without", float("inf"))):
                times[name].append(_cpu_seconds_a_round(every, seconds))
            progress(f"overhead {repeat}: {times['with'][-1] / times['without'][-1] - 1:.2%}")
        share = median(times["with"]) / median(times["without"]) - 1
        return {"checkpoint-overhead": share}, times

    return Row(targets, measure)


def soak() -> Row:
    """Growth of memory and of open files of 1,000 members in two hours."""

    def targets(quick: bool):
        del quick
        return {"soak-memory": at_most(_FLAT), "soak-files": at_most(0)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        seconds = _QUICK_SECONDS if quick else 3600 * _HOURS
        watching = Watching(seconds)
        _run(watching, members=200 if quick else 1000, checkpoint_seconds=10 if quick else 60)
        seen = np.asarray(watching.seen)
        # Programs, caches and buffers are all there after the first third.
        seen = seen[len(seen) // 3 :]
        thirds = len(seen) // 3
        early, late = seen[:thirds], seen[-thirds:]
        grown = float(np.median(late[:, 1]) / np.median(early[:, 1]) - 1)
        files = float(np.median(late[:, 2]) - np.median(early[:, 2]))
        values = {"soak-memory": grown, "soak-files": files}
        return values, {"seen": watching.seen[:: max(1, len(watching.seen) // 500)]}

    return Row(targets, measure)


def _cpu_seconds_a_round(every: float, seconds: float) -> float:
    """Of processor time, which neighbours do not change; after the first tenth of the rounds."""
    begun: list[float] = []

    class Counting(Watching):
        def show(self, status) -> None:
            begun.append(time.process_time())
            super().show(status)

    _run(Counting(seconds), members=64, checkpoint_seconds=every)
    settled = begun[max(2, len(begun) // 10) :]
    return (settled[-1] - settled[0]) / (len(settled) - 1)


def _run(display: Silent, members: int, checkpoint_seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            sj.run(
                task="digits", space=sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1),
                                              width=sj.structure(64)),
                members=members, budget=2**31 - 1, round_steps=20, display=display,
                directory=Path(folder) / "run", checkpoint_seconds=checkpoint_seconds,
            )  # fmt: skip
        except TimeoutError:
            gc.collect()
