"""Row of memory: what a swarm of 10,000 networks takes beyond its own state and data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from paper.measure import Row, Target, at_most, progress
from paper.workers import Worker, serve

CASE = {"kind": "mlp", "members": 10_000, "width": 32, "steps": 20}

# As many as fill the largest lane, so that all programs are compiled before memory is watched.
_WARM_UP = 256


def memory() -> Row:
    """Peak memory over that of an idle process, by exact bytes of state and data."""

    def targets(quick: bool) -> dict[str, Target]:
        del quick
        return {"memory": at_most(1.3)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        raw = []
        for _ in range(1 if quick else 3):
            with Worker("paper.memory") as worker:
                worker.ask(case=CASE)
                raw.append(worker.ask()["found"])
        value = max(found["peak"] / found["exact"] for found in raw)
        progress(f"memory: {value:.3f} of {raw[0]['exact'] / 1e6:.0f} MB")
        return {"memory": value}, raw

    return Row(targets, measure)


def prepare(**case: Any) -> Callable[[], Any]:
    """A round of the swarm and its peak, after a small swarm has compiled its programs."""
    from paper import side_engine
    from paper.swarms import make_work

    work = make_work(**case)
    side_engine.prepare(**case | {"members": min(_WARM_UP, case["members"])})()
    before = peak_from_now()

    def round() -> dict[str, float]:
        swarm = side_engine.rounds(work)
        swarm()
        swarm()
        return {"peak": peak() - before, "exact": exact_bytes(work), "before": before}

    return round


def exact_bytes(work: Any) -> int:
    """Bytes of all members' variables, optimizer state and step, without padding, and of examples.

    Two moments of every weight, and the counts of steps of the optimizer and of the member.
    """
    import jax

    module = work.recipe.family.build(work.values(0))
    shapes = jax.eval_shape(module.init, jax.random.key(0), work.task.train.x[:1])
    weights = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    return (3 * weights + 8) * len(work.steps) + sum(
        a.nbytes for d in (work.task.train, work.task.valid) for a in d
    )


def peak_from_now() -> int:
    """Forgets the peak so far and returns the memory in use, in bytes; on a GPU, the GPU's."""
    statistics = _device_statistics()
    if statistics is not None:
        return statistics["bytes_in_use"]
    # Linux then counts the peak (VmHWM) anew.
    Path("/proc/self/clear_refs").write_text("5")
    return psutil.Process().memory_info().rss


def peak() -> int:
    """The most memory that was in use, in bytes."""
    statistics = _device_statistics()
    if statistics is not None:
        return statistics["peak_bytes_in_use"]
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def _device_statistics() -> dict[str, int] | None:
    import jax

    return jax.local_devices()[0].memory_stats() if jax.default_backend() == "gpu" else None


if __name__ == "__main__":
    serve(prepare)
