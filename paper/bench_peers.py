"""The peers' benchmark: `python -m paper.bench_peers [--quick] [--only ROW ...] [--out FILE]`.

Against what people use today: Ray Tune, Optuna, Syne Tune, and random search written by hand in
JAX. Every program runs as its documentation advises, in an environment and a process of its own, on
the same data, genes, initial distributions and member-steps. `python -m paper.environments` makes
the environments ahead. It ends with a line for each bar, and exits with 0 only if all are met.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from paper import peers_rows
from paper.benchmark import benchmark
from paper.measure import Row

ROWS: dict[str, Row] = peers_rows.rows()


def main(arguments: Sequence[str] | None = None, rows: Mapping[str, Row] = ROWS) -> int:
    """The benchmark's command; the process's exit code."""
    return benchmark("peers", rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
