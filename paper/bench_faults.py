"""The benchmark of faults: `python -m paper.bench_faults [--quick] [--only ROW ...] [--out FILE]`.

Runs are killed, starved of disk, poisoned, misread and doubled, by seeds that are fixed; what is
counted is how many end as if nothing had happened. It ends with a line for each bar, and exits
with 0 only if all are met.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from paper.benchmark import benchmark
from paper.breakage import disk, poison, rivals
from paper.endurance import overhead, soak
from paper.kills import kills
from paper.measure import Row
from paper.misread import misread

ROWS: dict[str, Row] = {
    "kills": kills(),
    "disk": disk(),
    "nan": poison(),
    "misread": misread(),
    "rivals": rivals(),
    "overhead": overhead(),
    "soak": soak(),
}


def main(arguments: Sequence[str] | None = None, rows: Mapping[str, Row] = ROWS) -> int:
    """The benchmark's command; the process's exit code."""
    return benchmark("faults", rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
