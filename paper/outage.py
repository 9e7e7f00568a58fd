"""Row: what a training step costs while the broker is down.

Three sides take turns, each in a process of its own: a node that reports to a broker, one whose
broker is down, and the same training that reports to nobody. A step is a small one, 64 examples and
two layers, and a window of ten steps is told. Time is that of the process, all its threads
included, so that the load of the machine matters less; wall time is noted beside it.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from paper.brokers import RabbitMQ, free_ports
from paper.measure import Row, at_most, median, progress
from paper.workers import Worker

_STEPS = 2000
_SIDES = ("up", "down", "none")


def outage() -> Row:
    """The bar: the step with the broker down takes no longer."""
    return Row(lambda quick: {"step_with_broker_down": at_most(1.05)}, _measure)


def _measure(quick: bool) -> tuple[dict[str, float], Any]:
    rounds = 8 if quick else 30
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        broker = stack.enter_context(contextlib.closing(RabbitMQ(folder)))
        down = f"amqp://guest:guest@127.0.0.1:{free_ports(1)[0]}/"
        buses: dict[str, str | None] = {"up": broker.url, "down": down, "none": None}
        workers = {side: stack.enter_context(Worker("paper.side_node")) for side in _SIDES}
        for side, worker in workers.items():
            (folder / side).mkdir()
            worker.ask(case={"bus": buses[side], "folder": str(folder / side)})
            worker.ask(arguments={"steps": _STEPS})
        answers = [
            {side: worker.ask(arguments={"steps": _STEPS}) for side, worker in workers.items()}
            for _ in range(rounds)
        ]
    return _summary(answers)


def _summary(answers: list[dict[str, Any]]) -> tuple[dict[str, float], Any]:
    """Ratios of medians over the rounds, and microseconds of a step."""
    raw: dict[str, Any] = {}
    for kind in ("cpu_seconds", "seconds"):
        times = {side: [each[side][kind] for each in answers] for side in _SIDES}
        middle = {side: median(values) for side, values in times.items()}
        raw[kind] = times | {
            "down_over_up": middle["down"] / middle["up"],
            "down_over_none": middle["down"] / middle["none"],
            "microseconds_a_step": {s: 1e6 * value / _STEPS for s, value in middle.items()},
        }
    ratios = {kind: raw[kind]["down_over_up"] for kind in raw}
    progress(f"a step with the broker down over one with it up: {ratios}")
    return {"step_with_broker_down": raw["cpu_seconds"]["down_over_up"]}, raw
