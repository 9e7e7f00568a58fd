"""Rows of what telemetry costs: CPU time of a round with and without it, and bytes on disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from paper.measure import Row, Target, at_most, median, progress
from paper.workers import Worker, serve

MEMBERS, STEPS, ROUND_STEPS = 10_000, 10_000, 50
# Of a quick measurement: so many times fewer rounds.
_QUICK = 10


def overhead() -> Row:
    """CPU time of rounds of the default swarm with default telemetry, over rounds without any.

    Both sides train the same networks in turn in one process, of which all threads are counted.
    """

    def targets(quick: bool) -> dict[str, Target]:
        del quick
        return {"telemetry-overhead": at_most(1.03)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        with Worker("paper.telemetry_cost") as worker:
            worker.ask(case={"kind": "overhead", "members": 64})
            raw = in_turn(worker, 8 if quick else 40)
        ratio = median(raw["on"]) / median(raw["off"])
        progress(f"telemetry: {ratio:.4f} of the CPU time without it")
        return {"telemetry-overhead": ratio}, raw

    return Row(targets, measure)


def in_turn(worker: Worker, repeats: int) -> dict[str, list[float]]:
    """CPU seconds of rounds `on` and `off`, after two of each, which compile."""
    raw: dict[str, list[float]] = {"on": [], "off": []}
    for repeat in range(2 + repeats):
        # Whoever comes second finds the caches as the first left them: they take turns in that too.
        for side in ("on", "off") if repeat % 2 else ("off", "on"):
            answer = worker.ask(arguments={"on": side == "on"})
            if repeat >= 2:
                raw[side].append(answer["cpu_seconds"])
    return raw


def disk() -> Row:
    """GiB of the run directory of 10,000 members after 10,000 steps of each, by default settings.

    What the rounds showed is simulated, and written by the code that writes down real ones. A quick
    measurement writes a tenth of the rounds and multiplies.
    """

    def targets(quick: bool) -> dict[str, Target]:
        del quick
        return {"store-gib": at_most(2.0)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        rounds, times = STEPS // ROUND_STEPS, _QUICK if quick else 1
        with Worker("paper.telemetry_cost") as worker:
            case = {"kind": "disk", "members": MEMBERS, "rounds": rounds // times}
            worker.ask(case=case)
            raw = worker.ask()["found"]
        total = times * sum(raw["bytes"].values())
        raw |= {"case": case, "times": times, "per_member_step": total / (MEMBERS * STEPS)}
        progress(f"store: {total / 2**30:.3f} GiB, {raw['per_member_step']:.2f} B a member-step")
        return {"store-gib": total / 2**30}, raw

    return Row(targets, measure)


def prepare(kind: str, **case: Any) -> Callable[..., Any]:
    """A round of either row; see there."""
    return {"overhead": prepare_overhead, "disk": prepare_disk}[kind](**case)


def prepare_overhead(members: int) -> Callable[..., None]:
    """A round, `on` or off, of the swarm that `swarmjax run digits` trains, of so many members."""
    from swarmjax.experiment import builtin, check
    from swarmjax.rounds import prepare_jax

    prepare_jax()
    experiment = replace(builtin("digits"), members=members)
    sides = {
        on: _side(check(experiment if on else replace(experiment, window=0)), on)
        for on in (False, True)
    }
    return lambda on: sides[on]()


def _side(setup: Any, on: bool) -> Callable[[], None]:
    from swarmjax import store, telemetry
    from swarmjax.journal import Journal
    from swarmjax.policy import keep
    from swarmjax.rounds import begin

    trainer, frame = begin(setup)
    place = tempfile.mkdtemp(prefix="telemetry-")
    writer = store.create(Path(place) / "run", {}, setup.recipe.space)
    journal, now = Journal(writer), [frame]

    def round() -> None:
        before, own = now[0], np.arange(len(now[0].alive))
        plan = keep(before)._replace(
            fresh=before.birth < 0, steps=np.full(len(own), ROUND_STEPS, np.int32)
        )
        now[0] = frame = trainer.round(plan, before)
        if on:
            table = telemetry.frame_table(plan, frame, time.time())
            writer.frame(int(frame.round), table)
            writer.descriptors(int(frame.round), frame.birth, frame.descriptor)
            journal.write(int(frame.round), table, frame, trainer.shown)

    return round


def prepare_disk(members: int, rounds: int) -> Callable[[], dict[str, Any]]:
    """Writes the run directory; what it returns says how large its parts are."""

    def write() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="telemetry-") as place:
            directory = Path(place) / "run"
            rows = write_run(directory, members, rounds)
            return {"bytes": sizes(directory), "windows": rows}

    return write


def write_run(directory: Path, members: int, rounds: int, seed: int = 0) -> int:
    """Writes down a simulated run; returns how many windows it had."""
    from swarmjax import store, telemetry
    from swarmjax.experiment import Experiment, check
    from swarmjax.journal import Journal

    budget = members * rounds * ROUND_STEPS
    experiment = Experiment(task="digits", members=members, budget=budget, directory=directory)
    setup = check(experiment)
    config = {"members": members, "budget": budget, "retain": experiment.retain}
    writer, windows = store.create(directory, config, setup.recipe.space), 0
    journal = Journal(writer)
    for round, (plan, frame, shown) in enumerate(simulated(setup, rounds, seed), 1):
        table = telemetry.frame_table(plan, frame, time.time())
        writer.plan(round, telemetry.plan_table(plan))
        writer.frame(round, table)
        journal.write(round, table, frame, shown)
        windows += len(shown.windows["member"])
    writer.descriptors(rounds, frame.birth, frame.descriptor)
    writer.close()
    return windows


def simulated(setup: Any, rounds: int, seed: int) -> Iterator[tuple[Any, Any, Any]]:
    """Plans, Frames and rows of rounds in which losses fall with noise; one in twenty is replaced.

    Numbers are as hard to compress as real ones: their last bits are random.
    """
    from swarmjax.frames import first_frame
    from swarmjax.policy import keep

    members, rng = setup.experiment.members, np.random.default_rng(seed)
    genome = setup.recipe.space.draw(seed, members)
    frame = first_frame(setup.recipe, setup.task, members, genome)
    frame = frame._replace(
        birth=np.arange(members, dtype=np.int32), lineage=np.arange(members, dtype=np.int32),
        descriptor=rng.random(frame.descriptor.shape).astype(np.float16),
    )  # fmt: skip
    level = rng.uniform(1.0, 3.0, members)
    for round in range(1, rounds + 1):
        plan, frame = _planned(rng, keep(frame), frame, setup.recipe.space)
        level *= np.exp(-rng.uniform(0.0, 0.03, members))
        frame = _measured(rng, frame, level)._replace(round=np.asarray(round, np.int32))
        yield plan, frame, _shown(rng, np.asarray(plan.steps), level, setup.experiment.window)


def _planned(rng: Any, plan: Any, frame: Any, space: Any) -> tuple[Any, Any]:
    members = len(frame.birth)
    steps = rng.integers(30, 71, members).astype(np.int32)
    new = rng.random(members) < 0.05
    parent = np.where(new, rng.integers(0, members, members), np.arange(members)).astype(np.int32)
    drawn = space.draw(int(rng.integers(2**31)), members)
    genome = {k: np.where(new, drawn[k], v) for k, v in frame.genome.items()}
    birth = np.where(new, frame.birth.max() + 1 + np.cumsum(new), frame.birth).astype(np.int32)
    frame = frame._replace(
        genome=genome, birth=birth, lineage=frame.lineage[parent], steps=steps,
        total_steps=(frame.total_steps[parent] + steps).astype(np.int32),
    )  # fmt: skip
    return plan._replace(parent=parent, steps=steps, genome=genome), frame


def _measured(rng: Any, frame: Any, level: np.ndarray) -> Any:
    def noisy(values):
        return (values * rng.lognormal(0.0, 0.1, len(level))).astype(np.float32)

    right = np.clip(np.exp(-noisy(level)), 0, 1)
    metrics = {name: noisy(level) for name in frame.metrics}
    metrics["valid_accuracy"] = (np.round(360 * right) / 360).astype(np.float32)
    metrics["valid_dead_units"] = (np.round(32 * rng.random(len(level)) ** 4) / 32).astype(
        np.float32
    )
    return frame._replace(
        loss=noisy(level), gradient_norm=noisy(level), seconds=noisy(np.full(len(level), 1e-4)),
        metrics=metrics,
    )  # fmt: skip


def _shown(rng: Any, steps: np.ndarray, level: np.ndarray, size: int) -> Any:
    from swarmjax.curves import Rows, step_columns

    counts = -(-steps // size)
    member = np.repeat(np.arange(len(steps), dtype=np.int32), counts)
    place = np.arange(len(member)) - np.repeat(np.cumsum(counts) - counts, counts)
    done = np.minimum(steps[member], (place + 1) * size).astype(np.int32)
    loss = level[member, None] * rng.lognormal(0.0, 0.2, (len(member), 4))
    loss.sort(axis=1)
    clock = np.full(len(member), time.time_ns()), np.full(len(member), time.monotonic_ns())
    columns = {
        "member": member, "done": done, "steps": (done - place * size).astype(np.int32),
        "train_loss_min": loss[:, 0], "train_loss": loss[:, 1], "train_loss_max": loss[:, 3],
        "train_loss_last": loss[:, 2], "gradient_norm": rng.lognormal(0.0, 0.5, len(member)),
    }  # fmt: skip
    floats = {k: v.astype(np.float32) for k, v in columns.items() if v.dtype == np.float64}
    times = {"wall_ns": clock[0], "monotonic_ns": clock[1]}
    return Rows(columns | floats | times, step_columns([], steps, ()), [])


def sizes(directory: Path) -> dict[str, int]:
    """Bytes of each part of a run directory."""
    parts: dict[str, int] = {}
    for path in directory.rglob("*"):
        if path.is_file():
            name = path.relative_to(directory).parts[0]
            parts[name] = parts.get(name, 0) + path.stat().st_size
    return parts


if __name__ == "__main__":
    serve(prepare)
