"""How costs grow with the swarm: `python -m paper.bench_scaling [--quick] [--only ROW ...]`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from paper.benchmark import benchmark
from paper.measure import Row
from paper.scaling import policies, rounds, similarity, telemetry_bytes

ROWS: dict[str, Row] = {
    "rounds": rounds(),
    "policies": policies(),
    "telemetry": telemetry_bytes(),
    "similarity": similarity(),
}


def main(arguments: Sequence[str] | None = None, rows: Mapping[str, Row] = ROWS) -> int:
    """The benchmark's command; the process's exit code."""
    return benchmark("scaling", rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
