"""Sides of a comparison, each in a process of its own, that take turns.

A side is prepared once for a case, computes one round whenever it is asked to, times it by its own
clock and sleeps meanwhile. So no side meets another's threads, devices or compiled programs.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import psutil

from paper.measure import ROOT, median, progress

# `prepare(**case) -> round`, and `round(**arguments) -> what it found`, fit for JSON.
Prepare = Callable[..., Callable[..., Any]]


class WorkerError(RuntimeError):
    """A side's process died; the message is the end of what it printed."""


class Worker:
    """The process of one side, `python -m MODULE ARGUMENTS`, which must call `serve`."""

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None):
        """Starts the process."""
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, cwd=ROOT,
            env=os.environ | dict(environment or {}),
        )  # fmt: skip

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def send(self, **request: Any) -> None:
        """Asks without waiting: `case=...` to prepare, else for a round, with `arguments=...`."""
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            raise self._failure() from None

    def receive(self) -> dict[str, Any]:
        """Waits for the answer: `seconds`, `cpu_seconds` and `found`."""
        line = self._process.stdout.readline()  # pyright: ignore[reportOptionalMemberAccess]
        if not line:
            raise self._failure()
        return json.loads(line)

    def ask(self, **request: Any) -> dict[str, Any]:
        """`send` and `receive`."""
        self.send(**request)
        return self.receive()

    def memory(self) -> int:
        """Bytes of memory that the process holds now."""
        return psutil.Process(self._process.pid).memory_info().rss

    def _failure(self) -> WorkerError:
        self._process.wait()
        self._log.seek(0)
        last = self._log.read().strip().splitlines()[-1:] or [f"exit {self._process.returncode}"]
        return WorkerError(f"{' '.join(self._process.args[2:])}: {last[0]}")  # pyright: ignore


def serve(prepare: Prepare) -> None:
    """Answers a Worker's requests until it closes the connection."""
    answers = os.fdopen(os.dup(1), "w")
    # Whatever libraries print must not be taken for an answer.
    os.dup2(2, 1)
    round: Callable[..., Any] = lambda: None  # noqa: E731
    for line in sys.stdin:
        request = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        if "case" in request:
            round, found = prepare(**request["case"]), None
        else:
            found = round(**request.get("arguments", {}))
        seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
        answer = {"seconds": seconds, "cpu_seconds": cpu_seconds, "found": found}
        print(json.dumps(answer), file=answers, flush=True)


def compare(
    workers: Mapping[str, Worker], case: Mapping[str, Any], repeats: int
) -> dict[str, dict[str, Any]]:
    """Measures one case on all sides in turn.

    Returns:
        For every side: `prepare` seconds, `cold` seconds of the first round (compilation and all),
        `warm` seconds of each later one and their `median`, `cpu` seconds of those, `compile`,
        which is `cold` less the median, and what its first round `found`.
    """
    sides: dict[str, dict[str, Any]] = {}
    for name, worker in workers.items():
        prepared, cold = worker.ask(case=dict(case)), worker.ask()
        sides[name] = {
            "prepare": prepared["seconds"], "cold": cold["seconds"], "found": cold["found"],
            "warm": [], "cpu": [],
        }  # fmt: skip
    for _ in range(repeats):
        for name, worker in workers.items():
            answer = worker.ask()
            sides[name]["warm"].append(answer["seconds"])
            sides[name]["cpu"].append(answer["cpu_seconds"])
    for side in sides.values():
        side["median"] = median(side["warm"])
        side["compile"] = side["cold"] - side["median"]
    text = ", ".join(f"{name} {side['median']:.3g} s" for name, side in sides.items())
    progress(f"{' '.join(f'{k}={v}' for k, v in case.items())}: {text}")
    return sides


def check_same_work(sides: Mapping[str, Mapping[str, Any]], tolerance: float = 0.05) -> None:
    """Raises ValueError unless all sides found the same mean validation loss, relatively."""
    found = {name: side["found"]["valid_loss"] for name, side in sides.items()}
    alike = max(found.values()) <= (1.0 + tolerance) * min(found.values())
    if not alike or not all(map(math.isfinite, found.values())):
        raise ValueError(f"sides did not do the same work: validation losses {found}")
