"""Row of layouts: networks vmapped together, and devices that they are spread over."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from paper.measure import Row
from paper.throughput import ENGINE, GRID, QUICK, mlps, name_of, repeats
from paper.workers import Worker, check_same_work, compare
from swarmjax import resources

CHUNKS = (1, 8, 32, 128)


def layouts() -> Row:
    """A table without bars: time of a round by layout, over that of the layout that was chosen."""

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        sizes = QUICK if quick else [size for size in GRID if size[0] in (64, 1024)]
        return {}, {name_of(size): measured(size, quick) for size in sizes}

    return Row(lambda quick: {}, measure)


def measured(size: tuple[int, int], quick: bool) -> dict[str, Any]:
    """Every layout of one swarm in turn; `over` is its time over that of the engine's choice."""
    with ExitStack() as stack:
        workers = {"chosen": stack.enter_context(Worker(*ENGINE))}
        for chunk, devices in combinations(quick):
            side = Worker(*ENGINE, str(chunk), str(devices))
            workers[f"chunk {chunk} on {devices}"] = stack.enter_context(side)
        sides = compare(workers, mlps(size), repeats(quick))
    check_same_work(sides)
    chosen = sides["chosen"]["median"]
    return {"sides": sides, "over": {n: side["median"] / chosen for n, side in sides.items()}}


def combinations(quick: bool) -> list[tuple[int, int]]:
    """Chunk and devices: one, and as many as there are cores."""
    counts = sorted({1, resources.cores()})
    chunks = CHUNKS[1:3] if quick else CHUNKS
    return [(chunk, devices) for devices in counts for chunk in chunks]
