"""The benchmark of telemetry: `python -m paper.bench_telemetry [--quick] [--only ROW ...]`.

What goes over a message queue arrives, once and in time, and training does not wait for it.
RabbitMQ is started by the rows that need it, on loopback addresses and free ports. It ends with a
line for each bar, and exits with 0 only if all are met.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from paper.benchmark import benchmark
from paper.clocks import clocks
from paper.delivery import delivery
from paper.fuzz import fuzz
from paper.measure import Row
from paper.mixed_swarm import mixed_swarm
from paper.outage import outage
from paper.stream import stream
from paper.telemetry_cost import disk, overhead

ROWS: dict[str, Row] = {
    "delivery": delivery(),
    "outage": outage(),
    "fuzz": fuzz(),
    "clocks": clocks(),
    "stream": stream(),
    "nodes": mixed_swarm(),
    "overhead": overhead(),
    "disk": disk(),
}


def main(arguments: Sequence[str] | None = None, rows: Mapping[str, Row] = ROWS) -> int:
    """The benchmark's command; the process's exit code."""
    return benchmark("telemetry", rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
