"""The whole paper: `python -m paper.reproduce [--quick] [--only STAGE ...] [--out FOLDER]`.

Runs every benchmark, each in a process of its own, then draws the figures, fills the text and makes
the PDF. `--only text` makes the PDF of what is in the results folder. A quick reproduction measures
a part of the rows with few seeds and repeats, and installs nothing: peers and browsers that are not
there are told, and stand as not measured in its PDF, which says that it is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from paper import document, facts
from paper.measure import ROOT, MissingPeer, patience, progress

TEXT = "text"

# Seconds between asking a benchmark to end and ending it.
_GRACE = 30.0


class Stage(NamedTuple):
    """A benchmark of the paper.

    Attributes:
        rows: that a quick reproduction measures; all others are left out of it.
        minutes: that the benchmark may take, and its quick part, where nothing else runs.
    """

    rows: tuple[str, ...]
    minutes: tuple[int, int]


STAGES: dict[str, Stage] = {
    "engine": Stage(("balance", "pareto", "loops"), (120, 3)),
    "search": Stage(("toy", "quadratic", "searches", "ensembles"), (240, 5)),
    "ablations": Stage(("links",), (300, 2)),
    "scaling": Stage(("policies", "telemetry", "similarity"), (30, 2)),
    "telemetry": Stage(("fuzz", "overhead", "disk"), (60, 2)),
    "faults": Stage(("disk", "nan"), (180, 1)),
    "dashboard": Stage(("asked", "live"), (90, 2)),
    "islands": Stage(("imports", "million", "moving"), (60, 1)),
    "peers": Stage(("small-ray", "per-core"), (240, 2)),
}


def main(arguments: Sequence[str] | None = None, stages: Mapping[str, Stage] = STAGES) -> int:
    """The command; 0 where every stage was measured and the PDF was made, whatever the bars say."""
    options = parse(arguments, stages)
    results = options.results or options.out / "results"
    wanted = [name for name in options.only or stages if name != TEXT]
    began, failed = time.perf_counter(), []
    for number, name in enumerate(wanted, 1):
        progress(f"stage {number} of {len(wanted)}: {name}, after {spent(began)}")
        if not run(name, stages[name], options.quick, results):
            failed.append(name)
    try:
        document.make(facts.read(results), options.out)
    except MissingPeer as missing:
        progress(f"no PDF: {missing} is not installed; pip install '.[paper]'")
        failed.append(TEXT)
    for name in failed:
        progress(f"stage {name} failed")
    progress(f"took {spent(began)}")
    return 1 if failed else 0


def parse(arguments: Sequence[str] | None, stages: Mapping[str, Stage]) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m paper.reproduce")
    parser.add_argument("--quick", action="store_true", help="few rows, seeds and repeats")
    parser.add_argument(
        "--only", nargs="+", choices=[*stages, TEXT], metavar="STAGE",
        help=f"{', '.join(stages)}, or {TEXT} for the PDF alone",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=ROOT / "paper" / "build", help="folder of the PDF"
    )
    parser.add_argument("--results", type=Path, help="folder of the JSON; default in --out")
    return parser.parse_args(arguments)


def run(name: str, stage: Stage, quick: bool, results: Path) -> bool:
    """Whether the benchmark ended in time and left its record; a missed bar is a result too."""
    out = results / f"{name}-{'quick' if quick else 'full'}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"paper.bench_{name}", "--out", str(out)]
    command += ["--quick", "--only", *stage.rows] if quick else []
    limit = 60 * stage.minutes[quick] * patience()
    if not in_time(command, limit):
        progress(f"{name} was stopped after {limit / 60:.0f} minutes")
        return False
    return out.exists()


def in_time(command: Sequence[str], limit: float) -> bool:
    """Whether a program ended within so many seconds; else it is ended, with what it started."""
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            _end(process)
            return False
    return True


def _end(process: subprocess.Popen) -> None:
    """Ends a program as Ctrl-C does, so that it ends its own servers; then whoever is left."""
    started = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    process.kill()
    for each in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(started, _GRACE)


def spent(began: float) -> str:
    """Minutes since `began`, and of processors by all that was started and has ended."""
    times = os.times()
    used = times.children_user + times.children_system
    return f"{(time.perf_counter() - began) / 60:.1f} min, {used / 60:.1f} of processors"


if __name__ == "__main__":
    sys.exit(main())
