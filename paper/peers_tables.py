"""What the paper's text says of peers: how each was set up, and what it reached by when."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paper.measure import median
from paper.peers import Trial
from paper.peers_rows import MEMBERS, STEPS, WIDTHS, least_to_target

# Rows of sweeps, and what was swept.
SWEPT: dict[str, tuple[str, Mapping[int, Any]]] = {
    "steps": ("steps of a network", STEPS),
    "members": ("networks", MEMBERS),
    "width": ("hidden units", WIDTHS),
}

SETUPS = Path(__file__).with_name("peers.md")

Trials = dict[str, list[Trial]]


def setups(path: Path = SETUPS) -> list[list[str]]:
    """Side, program and settings of each, as the table in `peers.md` has them, without marks."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    cells = [[_plain(cell) for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "side"]


def trials_of(record: Mapping[str, Any]) -> Trials:
    """Trials of each side, from what JSON keeps of a case."""
    return {side: [Trial(**each) for each in some] for side, some in record["trials"].items()}


def reached(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By side: median seconds to the target, whether it was reached, test accuracy and seeds."""
    return {side: _reached(some) for side, some in trials_of(raw).items()}


def _reached(trials: list[Trial]) -> dict[str, Any]:
    tests = [trial.test for trial in trials if trial.test is not None]
    return {
        "seconds": median(least_to_target(trial) for trial in trials),
        "reached": all(trial.reached is not None for trial in trials),
        "test": median(tests) if tests else None,
        "seeds": len(trials),
    }


def _plain(cell: str) -> str:
    """A cell of a table without the marks of links and code."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell).replace("`", "").strip()
