"""The searches' benchmark: `python -m paper.bench_search [--quick] [--only ROW ...] [--out FILE]`.

Policies are compared at equal member-steps over seeds, with bootstrap intervals; what does not help
stands in the table like the rest. It ends with a line for each bar, and exits with 0 only if all
are met.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from paper import lcbench_searches
from paper.anomalies import anomalies
from paper.benchmark import benchmark
from paper.known import noise, toy
from paper.measure import Row
from paper.searches import breeding, ensembles, others, searches

ROWS: dict[str, Row] = {
    "toy": toy(),
    "quadratic": noise(),
    "searches": searches(),
    "ensembles": ensembles(),
    "others": others(),
    "breeding": breeding(),
    "anomalies": anomalies(),
    "lcbench": lcbench_searches.searches(),
}


def main(arguments: Sequence[str] | None = None, rows: Mapping[str, Row] = ROWS) -> int:
    """The benchmark's command; the process's exit code."""
    return benchmark("search", rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
