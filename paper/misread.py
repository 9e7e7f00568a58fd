"""Damaged run directories and impossible settings: refused in a line, or read as they were."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import swarmjax as sj
from paper.measure import Row, at_least, at_most, progress
from swarmjax import checkpoints
from swarmjax.experiment import check
from swarmjax.policy import PlanError
from swarmjax.stored import open_run
from swarmjax.types import InputError

CASES, QUICK = 10_000, 300
# Values that hardly any setting may have.
_ODD = (None, -1, 0, 1, 2**31, 2**63, 1.5, float("nan"), float("inf"), "", "x" * 9999, "\0", b"x",
        [], {}, (), True, "../..", "pbt", 3 + 2j, np.float32(1), np.arange(3))  # fmt: skip
_SETTINGS = ("members", "budget", "round_steps", "seed", "policy", "goal", "model", "optimizer",
             "storage", "ensemble", "window", "trace", "parameters", "metrics", "retain",
             "checkpoint_seconds", "checkpoints", "space", "task", "nodes", "swarm")  # fmt: skip


def misread() -> Row:
    """Cases told in one line, or read as they were, of all; and those read wrongly in silence."""

    def targets(quick: bool):
        del quick
        return {"fuzz-told": at_least(1.0), "fuzz-silently-wrong": at_most(0)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        rng, found, faults = random.Random(0), Counter[str](), []
        with tempfile.TemporaryDirectory() as folder:
            cases = _cases(rng, Path(folder))
            for number in range(QUICK if quick else CASES):
                kind, case = cases[number % len(cases)]
                what = told(case)
                found[f"{kind} {what.split(':')[0]}"] += 1
                if what.startswith(("traceback", "wrong")):
                    faults.append({"case": number, "kind": kind, "what": what})
                if number % 1000 == 999:
                    progress(f"fuzz: {number + 1} cases, {len(faults)} faults")
        total = sum(found.values())
        wrong = sum(fault["what"].startswith("wrong") for fault in faults)
        values = {"fuzz-told": 1 - (len(faults) - wrong) / total, "fuzz-silently-wrong": wrong}
        return values, {"found": dict(found), "faults": faults[:100]}

    return Row(targets, measure)


def told(case: Callable[[], str]) -> str:
    """What a case came to: `refused` in a line, `read` as it was, `wrong`, or a `traceback`."""
    try:
        return case()
    except (InputError, PlanError) as error:
        return "refused" if "\n" not in str(error) else f"traceback: lines {error}"
    except Exception as error:  # noqa: BLE001 - which is what is counted
        return f"traceback: {type(error).__name__}: {error}"[:300]


def _cases(rng: random.Random, folder: Path) -> list[tuple[str, Callable[[], str]]]:
    run, settings = _small_run(folder / "run"), _settings()
    wanted = _contents(run)
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.stat().st_size)
    damaged = lambda: _damaged(rng, run, files, wanted)  # noqa: E731
    return [
        ("settings", lambda: _odd_settings(rng, settings)),
        ("space", lambda: _odd_space(rng)),
        ("directory", damaged),
        ("directory", damaged),
    ]


def _settings() -> dict[str, Any]:
    x = np.random.default_rng(0).normal(size=(60, 3))
    task = sj.tasks.arrays(x, (x[:, 0] > 0).astype(int), batch=8)
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1))
    return {"task": task, "space": space, "members": 2, "budget": 20, "round_steps": 5}


def _small_run(directory: Path) -> Path:
    sj.run(**_settings(), directory=directory, checkpoint_seconds=0)
    return directory


def _odd_settings(rng: random.Random, settings: dict[str, Any]) -> str:
    names = rng.sample(_SETTINGS, rng.choice((1, 1, 2)))
    odd: dict[str, Any] = {name: rng.choice(_ODD) for name in names}
    check(sj.Experiment(**settings | odd))
    return "read"


def _odd_space(rng: random.Random) -> str:
    make = rng.choice((sj.log_uniform, sj.uniform, sj.choice, sj.structure))
    values: list[Any] = [rng.choice(_ODD) for _ in range(rng.choice((1, 2, 2, 3)))]
    try:
        gene = make(*values)
    except TypeError as error:
        # Of a function that is called with too few or too many arguments.
        if "positional argument" in str(error):
            return "refused"
        raise
    name = rng.choice(("learning_rate", "a b", "", "round", "x" * 300, "\0", "../x"))
    sj.Space.from_json(sj.Space(**{name: gene}).to_json())
    return "read"


def _damaged(rng: random.Random, run: Path, files: list[Path], wanted: dict[str, str]) -> str:
    """A file of a run directory is damaged, all is read, and the file is mended."""
    path = rng.choice(files)
    whole = path.read_bytes()
    content = bytearray(whole)
    match rng.choice(("flip", "flip", "cut", "swap", "fill", "empty")):
        case "flip":
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        case "cut":
            del content[rng.randrange(len(content)) :]
        case "swap":
            content = bytearray(rng.choice(files).read_bytes())
        case "fill":
            at = rng.randrange(len(content))
            content[at : at + 64] = rng.randbytes(64)
        case "empty":
            content.clear()
    path.write_bytes(bytes(content))
    try:
        found = _contents(run)
        differing = [name for name in wanted if found[name] not in ("refused", wanted[name])]
        refused = any(each == "refused" for each in found.values())
        if differing:
            return f"wrong: {differing} of {path.relative_to(run)}"
        return "refused" if refused else "read"
    finally:
        path.write_bytes(whole)
        for name in ("swarm.db-wal", "swarm.db-shm"):
            if run / name not in files:
                (run / name).unlink(missing_ok=True)


def _contents(run: Path) -> dict[str, str]:
    """All that a run directory holds, part by part; `refused` where that was said in a line."""
    parts = {name: "refused" for name in (*_PARTS, "checkpoint")}
    with contextlib.suppress(InputError), contextlib.closing(open_run(run)) as reader:
        for name, part in _PARTS.items():
            with contextlib.suppress(InputError):
                parts[name] = repr(part(reader))
    with contextlib.suppress(InputError):
        held, warned = checkpoints.latest(run)
        arrays = {} if held is None else {n: a.tobytes() for n, a in held.arrays.items()}
        parts["checkpoint"] = "refused" if warned or held is None else repr(arrays)
    return parts


_PARTS: dict[str, Callable[[Any], Any]] = {
    "frames": lambda reader: reader.frames().to_pydict(),
    "plans": lambda reader: [(round, table.to_pydict()) for round, table in reader.plans()],
    "best": lambda reader: {name: array.tobytes() for name, array in reader.best()[0].items()},
    "windows": lambda reader: reader.windows().to_pydict(),
    "quantiles": lambda reader: reader.summaries("quantiles").to_pydict(),
    "descriptors": lambda reader: [np.asarray(part).tobytes() for part in reader.descriptors()],
    "engine": lambda reader: reader.engine(),
    "events": lambda reader: reader.events(),
    "status": lambda reader: reader.status(),
}
