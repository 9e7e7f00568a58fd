"""Row: whether the stamps of records tell the truth.

Two nodes of one process report over RabbitMQ, through a line on which every piece is late by up to
20 ms, each way on its own. The clocks of one are 3.7 s ahead and run 200 ppm fast, those of the
other 1.2 s behind and 150 ppm slow. Both are made from this machine's monotonic clock, as is the
controller's, so that the true offset of every record is known. A record's bound holds if the true
offset lies in it; two records of the two nodes are ordered wrongly if their corrected times say the
contrary of the truth by more than both bounds.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from paper.brokers import RabbitMQ
from paper.jitter import Jitter
from paper.measure import Row, at_least, at_most, progress
from swarmjax import clock
from swarmjax.bus import open_bus
from swarmjax.clock import Reading
from swarmjax.fleet import Fleet
from swarmjax.nodes import Node, Profile
from swarmjax.space import Space, log_uniform

_LATE, _SECOND = 0.02, 10**9
# Seconds ahead, and by how much a second is too long.
CLOCKS = {"ahead": (3.7, 200e-6), "behind": (-1.2, -150e-6)}


def clocks() -> Row:
    """The bounds hold, and the order is right."""
    targets = {
        "clock_records": at_least(1000), "clock_bounds_that_hold": at_least(0.99),
        "clock_pairs_in_wrong_order": at_most(0),
    }  # fmt: skip
    return Row(lambda quick: targets, _measure)


class Skewed:
    """Clocks that are `ahead` seconds and drift, and what is true when they show something."""

    def __init__(self, ahead: float, drift: float):
        """Both clocks start from this machine's."""
        self._start, self._ahead, self._drift = clock.read(), int(ahead * _SECOND), drift

    def __call__(self) -> Reading:
        """What they show now."""
        passed = time.monotonic_ns() - self._start.monotonic
        shown = passed + int(passed * self._drift)
        start = self._start
        return Reading(start.wall + self._ahead + shown, start.monotonic + shown)

    def true(self, monotonic: np.ndarray) -> np.ndarray:
        """This machine's monotonic nanoseconds when theirs showed that."""
        passed = (monotonic - self._start.monotonic) / (1 + self._drift)
        return self._start.monotonic + passed.astype(np.int64)


def _measure(quick: bool) -> tuple[dict[str, float], Any]:
    seconds = 20 if quick else 120
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        broker = stack.enter_context(contextlib.closing(RabbitMQ(folder)))
        line = stack.enter_context(contextlib.closing(Jitter(broker.port, _LATE)))
        bus = f"amqp://guest:guest@127.0.0.1:{line.port}/"
        (folder / "run").mkdir()
        space = Space(learning_rate=log_uniform(1e-4, 1.0))
        fleet = Fleet(open_bus(broker.url), "bench", space, 2, folder / "run")
        stack.enter_context(contextlib.closing(fleet))
        tables = report(bus, fleet, folder, seconds)
    return _summary(tables)


def report(bus: str, fleet: Fleet, folder: Path, seconds: float) -> dict[str, Any]:
    """Windows of two nodes with clocks of their own, by name, and those clocks."""
    made = {name: Skewed(*values) for name, values in CLOCKS.items()}
    with contextlib.ExitStack() as stack:
        nodes = [
            stack.enter_context(Node(
                bus, "bench", name, folder / name, Profile({"learning_rate": 0.1}), window=1,
                heartbeat=0.25, read_clock=skewed,
            ))
            for name, skewed in made.items()
        ]  # fmt: skip
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for node in nodes:
                node.step(1.0)
            time.sleep(0.02)
        for node in nodes:
            node.report({})
    fleet.wait(lambda: not any(peer.present for peer in fleet.peers.values()), 120)
    rows = fleet.inbox.windows()
    return {"rows": rows, "clocks": made, "offset": _controller(fleet._now)}


def _controller(now: Callable[[], int]) -> int:
    """What to add to this machine's monotonic clock to get the controller's."""
    before, at, after = time.monotonic_ns(), now(), time.monotonic_ns()
    return at - (before + after) // 2


def _summary(tables: dict[str, Any]) -> tuple[dict[str, float], Any]:
    rows, made = tables["rows"], tables["clocks"]
    node = np.asarray(rows["node"].to_pylist())
    names = ("wall_ns", "monotonic_ns", "clock_offset", "clock_bound")
    wall, monotonic, offset, bound = (rows[name].to_numpy() for name in names)
    true = np.zeros(len(node), np.int64)
    for name, skewed in made.items():
        true[node == name] = skewed.true(monotonic[node == name])
    true += tables["offset"]
    known = bound >= 0
    error = np.abs(wall + offset - true)
    holds = float(np.mean(error[known] <= bound[known])) if known.any() else 0.0
    wrong = wrong_pairs(true[known], (wall + offset)[known], bound[known], node[known])
    raw = {
        "records": int(known.sum()), "before_the_first_answer": int((~known).sum()),
        "error_ms": _quantiles(error[known]), "bound_ms": _quantiles(bound[known]),
        "wrong_pairs": wrong, "seconds": float(np.ptp(true)) / _SECOND,
    }  # fmt: skip
    progress(f"bounds hold in {holds:.2%} of {raw['records']}: {raw}")
    values = {
        "clock_records": raw["records"], "clock_bounds_that_hold": holds,
        "clock_pairs_in_wrong_order": wrong,
    }  # fmt: skip
    return values, raw


def wrong_pairs(
    true: np.ndarray, corrected: np.ndarray, bound: np.ndarray, node: np.ndarray
) -> int:
    """Neighbours in true time, of two nodes, that corrected times order wrongly beyond doubt."""
    order = np.argsort(true, kind="stable")
    first, second = order[:-1], order[1:]
    across = node[first] != node[second]
    doubt = bound[first] + bound[second]
    return int(np.sum(across & (corrected[first] - corrected[second] > doubt)))


def _quantiles(values: np.ndarray) -> dict[str, float]:
    found = np.quantile(values, [0.5, 0.99, 1.0]) if len(values) else [np.nan] * 3
    return dict(zip(("median", "99 %", "most"), (float(v) / 1e6 for v in found), strict=True))
