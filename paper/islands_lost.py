"""Islands that are killed at random moments, against the run that nothing happened to."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import swarmjax as sj
from paper.kills import facts
from paper.measure import Row, at_least, at_most, need, progress
from swarmjax.islands import connect
from swarmjax.progress import Silent

KILLS, QUICK = 20, 3


def lost() -> Row:
    """Runs, of those of which an island was killed, that ended as if nothing had happened."""

    def targets(quick: bool):
        count = at_least(QUICK if quick else KILLS)
        return {"islands-finished": count, "islands-identical": count,
                "islands-rounds-lost": at_most(1)}  # fmt: skip

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        need("ray")
        rng, cases = random.Random(0), []
        # One Ray for all runs.
        _, leave = connect(sj.islands(2, cpus=1))
        with contextlib.ExitStack() as stack:
            stack.callback(leave)
            place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            seconds = _whole(place / "first", place / "whole")
            wanted = facts(place / "whole")
            progress(f"lost: the whole run trains for {seconds:.1f} s")
            for number in range(QUICK if quick else KILLS):
                cases.append(_case(place / f"run{number}", wanted, rng.uniform(0, seconds), rng))
                shutil.rmtree(place / f"run{number}", ignore_errors=True)
                progress(f"kill {number + 1}: {cases[-1]}")
        values = {
            "islands-finished": sum(not case["error"] for case in cases),
            "islands-identical": sum(case["identical"] for case in cases),
            # A checkpoint is made after every round: finished rounds that were trained once more.
            "islands-rounds-lost": max(case["repeated"] for case in cases),
        }
        return {k: float(v) for k, v in values.items()}, {"seconds": seconds, "cases": cases}

    return Row(targets, measure)


def _settings(directory: Path) -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(200, 4))
    task = sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)
    space = sj.Space(
        learning_rate=sj.log_uniform(1e-3, 1e-1), optimizer=sj.choice("momentum", "adam"),
        activation=sj.choice("relu", "tanh"), width=sj.structure(4, 8),
    )  # fmt: skip
    return {
        "task": task, "space": space, "members": 8, "budget": 8 * 200 * 20, "round_steps": 200,
        "seed": 3, "directory": directory, "checkpoint_seconds": 0,
    }  # fmt: skip


class _Watched:
    """Two islands, whose trainer can be had as soon as it is made."""

    def __init__(self):
        self.trainer: Any = None

    def make(self, setup: Any, choices: Any) -> Any:
        self.trainer = sj.islands(2, cpus=1).make(setup, choices)
        return self.trainer


class _Display(Silent):
    """Says when the first round is over."""

    def __init__(self, first: Callable[[], None]):
        self._first: Callable[[], None] | None = first

    def show(self, status: Any) -> None:
        """Is called after every round."""
        if status.round == 1 and self._first is not None:
            first, self._first = self._first, None
            first()


def _run(directory: Path, first: Callable[[Any], None] = lambda trainer: None) -> Any:
    watched = _Watched()
    display = _Display(lambda: first(watched.trainer))
    sj.run(**_settings(directory), trainer=watched, display=display)
    watched.trainer.close()
    return watched.trainer


def _whole(first: Path, directory: Path) -> float:
    """Seconds from the first round to the end of the run that nothing happens to, once compiled."""
    _run(first)
    moments = [0.0]
    _run(directory, lambda trainer: moments.__setitem__(0, time.monotonic()))
    return time.monotonic() - moments[0]


def _case(directory: Path, wanted: dict[str, Any], moment: float, rng: random.Random):
    """One run, of which an island is killed so long after the first round."""
    island = rng.randrange(2)
    killed: list[int] = []

    def kill(trainer: Any) -> None:
        pid = trainer.harvests[island].pid

        def now() -> None:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

        threading.Timer(moment, now).start()

    error, found, repeated = "", {}, 0
    try:
        trainer = _run(directory, kill)
        found, repeated = facts(directory), max(trainer.convoy.repeated, default=0)
    except Exception as failure:  # noqa: BLE001 - which is what is counted
        error = f"{type(failure).__name__}: {failure}"[:500]
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    return {
        "island": island, "moment": round(moment, 3), "killed": bool(killed), "repeated": repeated,
        "identical": not differing and not error, "differing": differing, "error": error,
    }  # fmt: skip
