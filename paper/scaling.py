"""Rows against the number of members: time and memory of a round, time of a policy, bytes on disk.

And the time of a matrix of how alike all members are.

Rounds are trained for real; what a policy decides and what is stored is measured on made-up scores,
for more members than anyone would train here.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import swarmjax as sj
from paper.measure import Row, at_most, median, progress
from paper.searches import case
from paper.throughput import ENGINE
from paper.workers import Worker, serve
from swarmjax import diversity, store, telemetry, training
from swarmjax.experiment import Experiment, check
from swarmjax.frames import first_frame
from swarmjax.policy import keep
from swarmjax.rounds import decide, policy_bits, prepare_jax
from swarmjax.types import Frame

TRAINED = (16, 64, 256, 1024, 4096, 16384)
SIMULATED = (16, 256, 4096, 65536, 1_000_000)
COMPARED = (100, 300, 1000)
# Matrices `[N, N]`: distances of genes, architectures, outputs (linear CKA) and predictions.
MATRICES = {
    "genome": diversity.by_genes,
    "architecture": diversity.by_architecture,
    "cka": diversity.by_outputs,
    "disagreement": diversity.by_predictions,
}
# Examples of validation whose outputs describe a member; a policy without a distance reads none.
_DESCRIBED = (1, 10)
_REPEATS = 5


def rounds() -> Row:
    """Seconds of a round of 20 steps of MLPs 64-16-10, cold and warm, and the process's memory."""

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        return {}, {n: _round(n) for n in (TRAINED[:3] if quick else TRAINED)}

    return Row(lambda quick: {}, measure)


def policies() -> Row:
    """Seconds that the default policy takes to decide a round."""
    return _simulated("policies", "decide")


def telemetry_bytes() -> Row:
    """Seconds and bytes of what a round stores."""
    return _simulated("telemetry", "write")


def similarity() -> Row:
    """Seconds of each matrix of distances between all members, on the host.

    Outputs are those of `training.PROBES` examples and ten classes.
    """

    def targets(quick: bool):
        del quick
        return {f"similarity-{name}-{COMPARED[-1]}": at_most(1.0) for name in MATRICES}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        del quick
        raw = {n: _distances(n) for n in COMPARED}
        last = raw[COMPARED[-1]]
        bars = {f"similarity-{name}-{COMPARED[-1]}": last[name]["median"] for name in MATRICES}
        return bars, raw

    return Row(targets, measure)


def made_up_frame(members: int, seed: int = 0, described: tuple[int, int] = _DESCRIBED) -> Frame:
    """A Frame of a swarm in mid-run, every number of which is drawn.

    Its descriptors are outputs of so many examples and classes.
    """
    some = case("digits-noisy")
    setup = check(
        Experiment(task=some.task, space=some.space, members=members, budget=50 * members)
    )
    genome = some.space.draw(seed, members)
    frame = first_frame(setup.recipe, some.task, members, genome)
    rng = np.random.default_rng(seed)
    drawn = partial(_uniform, rng, members)
    numbers = np.arange(members, dtype=np.int32)
    return frame._replace(
        round=np.asarray(3, np.int32), loss=drawn(), gradient_norm=drawn(), seconds=drawn(),
        metrics={name: drawn() for name in frame.metrics}, birth=numbers, lineage=numbers // 2,
        steps=np.full(members, 50, np.int32), total_steps=np.full(members, 150, np.int32),
        quota=np.asarray(members * 50, np.int32), remaining=np.asarray(2**31 - 1, np.int32),
        descriptor=rng.uniform(size=(members, *described)).astype(np.float16),
    )  # fmt: skip


def prepare(what: str, members: int) -> Callable[[], Any]:
    """`decide`: a Plan made; `write`: a round stored, which returns its bytes.

    One of `MATRICES`: it, which returns the mean distance.
    """
    prepare_jax()
    if what in MATRICES:
        shown = made_up_frame(members, described=(training.PROBES, 10))
        return lambda: float(np.mean(MATRICES[what](shown)))
    frame = made_up_frame(members)
    if what == "write":
        return partial(_write, frame)
    policy = sj.preset("swarm")
    update, state = jax.jit(partial(decide, policy)), policy.init(frame)
    # Numbers of the random keys differ, so that nothing but the program is used again.
    seeds = iter(range(2**20))

    def decided() -> int:
        plan, _ = update(policy_bits(next(seeds), 1), frame, state)
        return int(np.asarray(plan.steps).sum())

    return decided


def _write(frame: Frame) -> dict[str, int]:
    plan = keep(frame)
    with tempfile.TemporaryDirectory() as folder:
        writer = store.create(Path(folder) / "run", {}, frame.space)
        writer.plan(1, telemetry.plan_table(plan))
        writer.frame(1, telemetry.frame_table(plan, frame, time.time()))
        writer.close()
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {"bytes": sum(path.stat().st_size for path in files)}


def _simulated(title: str, what: str) -> Row:
    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        raw = {}
        for members in SIMULATED[:3] if quick else SIMULATED:
            with Worker("paper.scaling") as worker:
                worker.ask(case={"what": what, "members": members})
                cold = worker.ask()
                warm = [worker.ask()["seconds"] for _ in range(_REPEATS)]
            raw[members] = {"cold": cold["seconds"], "warm": warm, "found": cold["found"]}
            progress(f"{title}, {members} members: {median(warm):.3g} s")
        return {}, raw

    return Row(lambda quick: {}, measure)


def _distances(members: int) -> dict[str, dict[str, Any]]:
    raw = {}
    with Worker("paper.scaling") as worker:
        for name in MATRICES:
            worker.ask(case={"what": name, "members": members})
            first, *answers = [worker.ask() for _ in range(1 + _REPEATS)]
            warm = [answer["seconds"] for answer in answers]
            cpu = [answer["cpu_seconds"] for answer in answers]
            raw[name] = {"cold": first["seconds"], "warm": warm, "median": median(warm), "cpu": cpu}
            progress(f"similarity {name}, {members} members: {median(warm):.3g} s")
    return raw


def _round(members: int) -> dict[str, Any]:
    with Worker(*ENGINE) as worker:
        worker.ask(case={"kind": "mlp", "members": members, "width": 16, "steps": 20})
        answers = [worker.ask() for _ in range(1 + _REPEATS)]
        memory = worker.memory()
    seconds: Sequence[float] = [answer["seconds"] for answer in answers]
    progress(f"rounds, {members} members: {median(seconds[1:]):.3g} s")
    return {"cold": seconds[0], "warm": seconds[1:], "memory": memory}


def _uniform(rng: np.random.Generator, members: int) -> np.ndarray:
    return rng.uniform(0.1, 1.0, members).astype(np.float32)


if __name__ == "__main__":
    serve(prepare)
