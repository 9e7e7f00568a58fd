"""Rows of whole programs, from the start of the process on, with nothing cached before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from paper.measure import ROOT, Row, Target, at_least, at_most, median, need, progress
from paper.throughput import repeats

# A program that takes longer than this many seconds hangs.
_LIMIT = 1200


def whole() -> Row:
    """16 networks 784-64-10, 200 steps, PBT every 50: against Ray Tune PBT and Optuna TPE."""

    def targets(quick: bool) -> dict[str, Target]:
        del quick
        return {"whole-ray": at_least(4.0), "whole-optuna": at_least(1.0)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        programs = {
            "swarmjax": "paper.whole_swarmjax",
            "ray": "paper.whole_ray",
            "optuna": "paper.whole_optuna",
        }
        need("torch", "ray", "optuna")
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in programs}
        for _ in range(1 if quick else repeats(quick)):
            for name, module in programs.items():
                runs[name].append(run_program(module))
                progress(f"whole {name}: {runs[name][-1]['seconds']:.3g} s")
        times = {name: median(run["seconds"] for run in some) for name, some in runs.items()}
        peers = ("ray", "optuna")
        return {f"whole-{peer}": times[peer] / times["swarmjax"] for peer in peers}, runs

    return Row(targets, measure)


def run_program(module: str) -> dict[str, Any]:
    """Seconds of `python -m MODULE FOLDER` with an empty cache, and what it prints."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", module, folder], cwd=ROOT, env=fresh(folder),
            capture_output=True, text=True, timeout=_LIMIT,
        )  # fmt: skip
        seconds = time.perf_counter() - start
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(f"{module} failed: {last[0] if last else done.returncode}")
    return {"seconds": seconds, **json.loads(done.stdout.strip().splitlines()[-1])}


def second_start() -> Row:
    """Time to the first finished round of the built-in run, started again over started first."""

    def targets(quick: bool) -> dict[str, Target]:
        del quick
        return {"second-start": at_most(0.2)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        pairs = []
        for _ in range(1 if quick else repeats(quick)):
            with tempfile.TemporaryDirectory() as folder:
                pairs.append([first_round(folder, "first"), first_round(folder, "second")])
            progress("second start: {:.3g} s, then {:.3g} s".format(*pairs[-1]))
        value = median(second for _, second in pairs) / median(first for first, _ in pairs)
        return {"second-start": value}, pairs

    return Row(targets, measure)


def first_round(folder: str, name: str) -> float:
    """Seconds until `swarmjax run digits` has stored its first round; the run then goes on."""
    run = Path(folder) / name
    command = [sys.executable, "-m", "swarmjax", "run", "digits", "--directory", str(run)]
    start = time.perf_counter()
    with open(Path(folder) / f"{name}.log", "w") as log, subprocess.Popen(
        command, cwd=folder, env=fresh(folder), stdout=log, stderr=log
    ) as process:  # fmt: skip
        seconds = wait_for(lambda: any((run / "frames").glob("*.parquet")), process, start)
        process.wait(_LIMIT)
    return seconds


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[Any], start: float) -> float:
    """Seconds since `start` when it has `happened`; RuntimeError if the process ends before."""
    while not happened():
        if process.poll() is not None and not happened():
            raise RuntimeError(f"{' '.join(process.args[1:])} ended too early")  # pyright: ignore
        time.sleep(0.005)
    return time.perf_counter() - start


def fresh(folder: str) -> dict[str, str]:
    """This process's environment with a cache of its own, and nothing compiled in it."""
    kept = {
        name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"
    }
    return kept | {"XDG_CACHE_HOME": str(Path(folder) / "cache")}
