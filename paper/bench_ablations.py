"""What each part is worth: `python -m paper.bench_ablations`, with `--quick`, `--only ROW ...`.

Tables without bars, whatever they say: the default policy with a link changed or left out, ways to
breed with what shrinking alone does, pressures for diversity, judged by the best network and by the
ensemble, and layouts of the engine.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from paper.benchmark import benchmark
from paper.layouts import layouts
from paper.measure import Row
from paper.searches import breeding, diversity, versus
from paper.variants import ABLATED, ALLOCATORS

ROWS: dict[str, Row] = {
    "links": versus("links", "swarm", ("pbt", *ABLATED)),
    "allocators": versus("allocators", "swarm", ALLOCATORS),
    "diversity": diversity(),
    "breeding": breeding(),
    "layouts": layouts(),
}


def main(arguments: Sequence[str] | None = None, rows: Mapping[str, Row] = ROWS) -> int:
    """The benchmark's command; the process's exit code."""
    return benchmark("ablations", rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
