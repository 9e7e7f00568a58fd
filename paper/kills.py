"""Runs that are killed at random moments and resumed, against the run that nothing happened to."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from paper.measure import ROOT, Row, at_least, progress
from swarmjax import checkpoints, store
from swarmjax.stored import open_run

KILLS, QUICK = 100, 10
# Columns that tell of time.
_CLOCKS = ("time", "seconds")

_RUN = """
import sys
from pathlib import Path
import numpy as np
import swarmjax as sj

x = np.random.default_rng(0).normal(size=(200, 4))
task = sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)
space = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1), optimizer=sj.choice("momentum", "adam"),
    activation=sj.choice("relu", "tanh"), width=sj.structure(4, 8),
)
directory = Path(sys.argv[1])
sj.run(
    task=task, space=space, members=6, budget=4800, round_steps=20, seed=3, directory=directory,
    checkpoint_seconds=0, resume=(directory / "swarm.db").exists(),
)
"""


def kills() -> Row:
    """Runs, of those killed at random moments, that ended as if nothing had happened."""

    def targets(quick: bool):
        return {"kills-identical": at_least(QUICK if quick else KILLS)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        rng, cases = random.Random(0), []
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            seconds = _whole(place / "whole")
            wanted = facts(place / "whole")
            progress(f"kills: the whole run trains for {seconds:.1f} s")
            while len(cases) < (QUICK if quick else KILLS):
                cases.append(_case(place / "run", wanted, rng, seconds))
                shutil.rmtree(place / "run")
                progress(f"kill {len(cases)}: {cases[-1]}")
        identical = sum(case["identical"] for case in cases)
        return {"kills-identical": float(identical)}, {"whole_seconds": seconds, "cases": cases}

    return Row(targets, measure)


def facts(directory: Path) -> dict[str, Any]:
    """All of a finished run that must not depend on how often it was resumed."""
    with contextlib.closing(open_run(directory)) as reader:
        plans = [(round, table.to_pydict()) for round, table in reader.plans()]
        shown = reader.frames().drop_columns(list(_CLOCKS)).to_pydict()
        last = reader.rounds()[-1]
        hashes = reader.digests(last)
        assert hashes is not None, "a finished run keeps the hashes of its last round"
        best, record = reader.best()
        windows = reader.windows().to_pydict()
    held = checkpoints.latest(directory, last)[0]
    policy = {} if held is None else {n: a for n, a in held.arrays.items() if n[0] in "pd"}
    return {
        "state": store_state(directory), "plans": plans, "frames": repr(shown), "best": record,
        "hashes": hashes.tobytes(), "params": {n: a.tobytes() for n, a in best.items()},
        "policy": {name: array.tobytes() for name, array in policy.items()},
        "windows": repr({n: v for n, v in windows.items() if "ns" not in n}),
    }  # fmt: skip


def store_state(directory: Path) -> str:
    """The state that a run is in."""
    with contextlib.closing(open_run(directory)) as reader:
        return reader.status().state


def _command(directory: Path) -> subprocess.Popen:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, str(directory)],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def _finish(directory: Path) -> str:
    """Runs to the end; what went wrong, or nothing."""
    process = _command(directory)
    _, error = process.communicate()
    return "" if process.returncode == 0 else error.decode()[-500:]


def _whole(directory: Path) -> float:
    """The run that nothing happens to, once compiled; seconds from its first sign to its end."""
    _finish(directory)
    shutil.rmtree(directory)
    begun = time.monotonic()
    process = _command(directory)
    while not (directory / store.DATABASE).exists():
        time.sleep(0.01)
    started = time.monotonic()
    process.communicate()
    assert process.returncode == 0 and started > begun
    return time.monotonic() - started


def _case(directory: Path, wanted: dict, rng: random.Random, seconds: float) -> dict[str, Any]:
    """One run, killed once or more at moments that are even in the time it trains."""
    moments, rounds = [rng.uniform(0.0, seconds) for _ in range(rng.choice((1, 1, 2)))], []
    for moment in moments:
        process = _command(directory)
        while not (directory / store.DATABASE).exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(moment)
        process.kill()
        process.communicate()
        rounds.append(len(list(directory.glob("frames/r*"))))
    error = "" if _over(directory) else _finish(directory)
    found = {} if error else facts(directory)
    differing = [name for name in wanted if found.get(name) != wanted[name]]
    return {
        "moments": [round(moment, 3) for moment in moments], "rounds": rounds,
        "identical": not differing and not error, "differing": differing, "error": error,
    }  # fmt: skip


def _over(directory: Path) -> bool:
    try:
        return store_state(directory) == "finished"
    except ValueError:
        # Killed before the run directory was complete.
        shutil.rmtree(directory)
        return False
