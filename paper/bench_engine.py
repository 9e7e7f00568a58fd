"""The engine's benchmark: `python -m paper.bench_engine [--quick] [--only ROW ...] [--out FILE]`.

Every figure is a ratio of times taken in turn in one run, median over median; JAX's compilations
are paid by whoever needs them and reported apart. It ends with a line for each bar, and exits with
0 only if all are met.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from paper.benchmark import benchmark
from paper.measure import Row
from paper.memory import memory
from paper.mixed import mixed
from paper.throughput import cnn, gpu, loops, torch
from paper.uneven import balance, pareto
from paper.whole_process import second_start, whole

ROWS: dict[str, Row] = {
    "balance": balance(),
    "memory": memory(),
    "pareto": pareto(),
    "loops": loops(),
    "cnn": cnn(),
    "torch": torch(),
    "second-start": second_start(),
    "whole": whole(),
    "mixed": mixed(),
    "gpu": gpu(),
}


def main(arguments: Sequence[str] | None = None, rows: Mapping[str, Row] = ROWS) -> int:
    """The benchmark's command; the process's exit code."""
    return benchmark("engine", rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
