"""All that the paper's text says in numbers: gathered from the benchmarks' JSON, never typed."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import swarmjax as sj
from paper import (
    known,
    lcbench_searches,
    mixed,
    peers_tables,
    search,
    searches,
    throughput,
    uneven,
    whole_data,
)
from paper.measure import progress
from swarmjax import presets

# As in `bench_NAME`.
BENCHES = (
    "engine", "search", "ablations", "scaling", "telemetry", "faults", "dashboard", "islands",
    "peers",
)  # fmt: skip


class Measured(NamedTuple):
    """One row of a benchmark as it was last measured.

    Attributes:
        bench: as in `bench_NAME`.
        row: its name.
        machine: facts of `measure.machine_facts`.
        quick: whether it was a quick measurement.
        record: seconds, load, bars and raw figures.
    """

    bench: str
    row: str
    machine: Mapping[str, Any]
    quick: bool
    record: Mapping[str, Any]


def read(folder: Path) -> list[Measured]:
    """The latest measurement of every row in the folder's JSON files, `BENCH-*.json`."""
    latest: dict[tuple[str, str], Measured] = {}
    for path in sorted(folder.glob("*.json")):
        held = _load(path)
        for row, record in held.get("rows", {}).items():
            bench = path.stem.split("-")[0]
            # A row that was measured alone, later, tells of its own machine and commit.
            machine = record.get("machine", held["machine"])
            found = Measured(bench, row, machine, held["quick"], record)
            before = latest.get((bench, row))
            # What could not be measured does not hide what could be before.
            known = before is not None and before.record["raw"] is not None
            if record["raw"] is None and known:
                continue
            if before is None or found.machine["date"] >= before.machine["date"] or not known:
                latest[bench, row] = found
    return list(latest.values())


def promised() -> set[str]:
    """Names of the bars of all benchmarks."""
    rows = [importlib.import_module(f"paper.bench_{name}").ROWS.values() for name in BENCHES]
    return {name for some in rows for row in some for name in row.targets(False)}


def gather(measured: Iterable[Measured], promised: Iterable[str] = ()) -> dict[str, Any]:
    """What the text reads: bars, tables of gains, settings, and where each was measured.

    Args:
        measured: rows of benchmarks.
        promised: bars that count as not measured where no row has them.
    """
    rows = list(measured)
    promised = {*promised, *(bar["name"] for m in rows for bar in m.record["bars"])}
    bars = [{"bench": m.bench, "row": m.row, **bar} for m in rows for bar in m.record["bars"]]
    return {
        "quick": sorted(f"{m.bench}/{m.row}" for m in rows if m.quick),
        "bars": {bar["name"]: bar for bar in bars},
        "met": sorted(bar["name"] for bar in bars if bar["met"]),
        "missed": sorted(b["name"] for b in bars if not b["met"] and b["value"] is not None),
        "unmeasured": sorted(promised - {b["name"] for b in bars if b["value"] is not None}),
        "rows": {f"{m.bench}/{m.row}": _provenance(m) for m in rows},
        "raw": {f"{m.bench}/{m.row}": _tables(m.record["raw"]) for m in rows},
        "reached": {m.row: peers_tables.reached(m.record["raw"]) for m in rows if _raced(m)},
        "settings": settings(),
    }


def settings() -> dict[str, Any]:
    """What was compared, as the benchmarks' code has it."""
    return {
        "members": searches.MEMBERS,
        "steps": searches.STEPS,
        "round": searches.ROUND,
        "seeds": len(searches.seeds(False)),
        "tasks": list(searches.TASKS),
        "known_seeds": known.SEEDS,
        "lcbench_epochs": lcbench_searches.BUDGET,
        "lcbench_tasks": list(lcbench_searches.TASKS),
        "mixed_members": mixed.CASE["members"],
        "mixed_steps": mixed.CASE["steps"],
        "scan_steps": int(throughput.SCAN[1]),
        "whole_members": whole_data.MEMBERS,
        "devices": uneven.DEVICES,
        "votes": search.VOTES,
        "peers": peers_tables.setups(),
        "policies": {name: sj.preset(name).name for name in presets.PRESETS},
    }


def _raced(measured: Measured) -> bool:
    """Whether it tells who reached a target by when."""
    raw = measured.record["raw"]
    return isinstance(raw, Mapping) and {"target", "trials"} <= set(raw)


def _provenance(measured: Measured) -> dict[str, Any]:
    machine, record = measured.machine, measured.record
    kept = ("cpu", "cores", "memory_gib", "gpu", "python", "versions", "commit", "date")
    told = {name: machine[name] for name in kept}
    times = {name: record[name] for name in ("seconds", "load_before", "load_after")}
    return told | times | {"quick": measured.quick, "reason": record.get("reason", "")}


def _tables(raw: Any) -> Any:
    """Raw figures without the outcomes of single seeds and other long lists."""
    if isinstance(raw, Mapping):
        left_out = ("outcomes", "profile", "curve", "regret_curve", "grants")
        return {name: _tables(value) for name, value in raw.items() if name not in left_out}
    if isinstance(raw, list) and len(raw) > 64:
        return len(raw)
    return [_tables(value) for value in raw] if isinstance(raw, list) else raw


def _load(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text())
        if isinstance(held, dict) and {"machine", "quick", "rows"} <= set(held):
            return held
    except (OSError, ValueError) as error:
        progress(f"{path} is left out: {error}")
    return {}
