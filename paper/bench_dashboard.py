"""The dashboard's benchmark: `python -m paper.bench_dashboard [--quick] [--only ROW ...]`.

A real Chromium looks at made-up runs of many members while they are written and afterwards, and
real runs are steered and watched. It ends with a line for each bar, and exits with 0 only if all
are met. That hostile names run no script, that forged events ask for nothing and that no page is
in error or asks for anything outside is tested in `tests/ui`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from paper import page_asked, page_costs, page_live, page_recorded
from paper.benchmark import benchmark
from paper.measure import Row

ROWS: dict[str, Row] = {
    "live": page_live.live(),
    "recorded": page_recorded.recorded(),
    "asked": page_asked.asked(),
    "cycles": page_costs.cycles(),
    "training": page_costs.training(),
}


def main(arguments: Sequence[str] | None = None, rows: Mapping[str, Row] = ROWS) -> int:
    """The benchmark's command; the process's exit code."""
    return benchmark("dashboard", rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
