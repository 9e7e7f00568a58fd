"""The benchmark of islands: `python -m paper.bench_islands [--quick] [--only ROW ...]`.

Islands are processes of a Ray that is started on this machine, a core each. It ends with a line for
each bar, and exits with 0 only if all are met.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from paper.benchmark import benchmark
from paper.islands_lost import lost
from paper.islands_rows import imports, million, moving, same, together
from paper.measure import Row

ROWS: dict[str, Row] = {
    "imports": imports(),
    "million": million(),
    "same": same(),
    "moving": moving(),
    "together": together(),
    "lost": lost(),
}


def main(arguments: Sequence[str] | None = None, rows: Mapping[str, Row] = ROWS) -> int:
    """The benchmark's command; the process's exit code."""
    return benchmark("islands", rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
