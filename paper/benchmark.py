"""What every benchmark's command does: measure rows, keep every figure, end with a line a bar."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from paper.measure import (
    BUSY,
    ROOT,
    Bar,
    Row,
    load,
    machine_facts,
    machine_name,
    measure_row,
    progress,
    write_json,
)


def benchmark(name: str, rows: Mapping[str, Row], arguments: Sequence[str] | None = None) -> int:
    """Measures the chosen rows, writes the JSON, prints table and bars; the process's exit code.

    Args:
        name: as in `python -m paper.bench_NAME`.
        rows: all there are.
        arguments: of the command line, or None for the process's own.
    """
    options = parse(name, rows, arguments)
    facts = machine_facts()
    out = options.out or ROOT / "paper" / "results" / f"{name}-{machine_name(facts)}.json"
    bars: list[Bar] = []
    records: dict[str, Any] = {}
    for row in options.only or rows:
        warn_if_busy(row)
        some, records[row] = measure_row(rows[row], options.quick)
        bars += some
        # After every row: what took an hour must survive what comes next.
        write_json(out, {"machine": facts, "quick": options.quick, "rows": records})
    Console().print(table(bars, records))
    progress(f"every figure is in {out}")
    print("\n".join([*untold(records), *(bar.line() for bar in bars)]))
    found = any(record["raw"] for record in records.values())
    return 0 if found and all(bar.met for bar in bars) else 1


def untold(records: Mapping[str, Any]) -> list[str]:
    """A line for each row without bars that was not measured, which no bar would tell."""
    absent = {name: record.get("reason") for name, record in records.items() if not record["bars"]}
    return [f"row {name} {reason}" for name, reason in absent.items() if reason]


def parse(
    name: str, rows: Mapping[str, Row], arguments: Sequence[str] | None
) -> argparse.Namespace:
    """What the command line asks for."""
    parser = argparse.ArgumentParser(prog=f"python -m paper.bench_{name}")
    parser.add_argument("--quick", action="store_true", help="fewer cases and repeats")
    parser.add_argument(
        "--only", nargs="+", choices=sorted(rows), metavar="ROW", help=", ".join(rows)
    )
    parser.add_argument("--out", type=Path, help="JSON file; default in paper/results")
    return parser.parse_args(arguments)


def warn_if_busy(row: str) -> None:
    """Tells that a row begins, and if its figures will be worth little."""
    busy = f"; the load is {load():.1f}, so figures are worth little" if load() > BUSY else ""
    progress(f"row {row}{busy}")


def table(bars: Sequence[Bar], records: Mapping[str, Any]) -> Table:
    """All bars, with the seconds that their rows took and the machine's load before and after."""
    grid = Table("figure", "value", "target", "", "row", "took", "load")
    grid.columns[0].no_wrap = True
    rows = {bar["name"]: name for name, record in records.items() for bar in record["bars"]}
    for bar in bars:
        name, record = rows[bar.name], records[rows[bar.name]]
        value = "-" if bar.value is None else f"{bar.value:.3g}"
        verdict = bar.reason or ("met" if bar.met else "missed")
        took = f"{record['seconds']:.0f} s"
        busy = f"{record['load_before']:.1f}, {record['load_after']:.1f}"
        grid.add_row(bar.name, value, str(bar.target), escape(verdict), name, took, busy)
    return grid
