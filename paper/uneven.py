"""Rows of uneven work: grants of steps from a Pareto distribution, and balance over devices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paper.measure import Row, Target, at_least, at_most, median, progress
from paper.throughput import ENGINE, repeats
from paper.workers import Worker, serve

MEMBERS, WIDTH, STEPS, DEVICES = 256, 64, 100, 8


def pareto() -> Row:
    """Time of a round with Pareto-distributed grants over that of one with equal grants."""

    def targets(quick: bool) -> dict[str, Target]:
        del quick
        return {"pareto": at_most(1.15)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        grants = {"equal": [STEPS] * MEMBERS, "pareto": pareto_grants(MEMBERS, STEPS).tolist()}
        seconds: dict[str, list[float]] = {name: [] for name in grants}
        case = {"kind": "mlp", "members": MEMBERS, "width": WIDTH, "steps": STEPS}
        with Worker(*ENGINE) as engine:
            engine.ask(case=case)
            for repeat in range(1 + repeats(quick)):
                for name, steps in grants.items():
                    answer = engine.ask(arguments={"steps": steps})
                    seconds[name] += [answer["seconds"]] if repeat else []
        value = median(seconds["pareto"]) / median(seconds["equal"])
        progress(f"pareto: {value:.3f} of equal grants")
        return {"pareto": value}, {"grants": grants["pareto"], "seconds": seconds}

    return Row(targets, measure)


def pareto_grants(members: int, mean: int, ratio: float = 6.0) -> np.ndarray:
    """Grants `[members]` with `mean` exactly, and the longest at least `ratio` times that.

    Quantiles of the Lomax distribution with shape 1.5, each plus one step, the longest cut at 5
    times the mean, which the cut then lowers.
    """
    quantiles = (np.arange(members) + 0.5) / members
    draws = (1.0 - quantiles) ** (-1.0 / 1.5) - 1.0
    draws = np.minimum(draws, 5.0 * draws.mean())
    steps = 1 + np.floor(draws / draws.sum() * (mean - 1) * members).astype(int)
    # What rounding left over goes to the longest ones, one step each.
    steps[len(steps) - (mean * members - steps.sum()) :] += 1
    steps = np.random.default_rng(0).permutation(steps)
    if steps.sum() != mean * members or steps.max() < ratio * mean:
        raise ValueError(f"longest grant {steps.max()}, sum {steps.sum()} of {mean * members}")
    return steps


def balance() -> Row:
    """Mean over maximum of the work of 8 devices."""

    def targets(quick: bool) -> dict[str, Target]:
        del quick
        return {"balance": at_least(0.95)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        del quick
        with Worker("paper.uneven", environment={"JAX_NUM_CPU_DEVICES": str(DEVICES)}) as worker:
            worker.ask(case={"kind": "mixed", "members": MEMBERS, "steps": 2 * STEPS})
            found = worker.ask()["found"]
        progress(f"balance: {found['balance']:.3f} of ideal over {found['devices']} devices")
        return {"balance": found["balance"]}, found

    return Row(targets, measure)


def prepare_balance(**case: Any) -> Callable[[], Any]:
    """Places a mixed swarm with random grants on all devices as the trainer does."""
    import jax

    from paper.swarms import make_work

    work = make_work(**case)
    steps = np.random.default_rng(0).integers(1, work.steps + 1)
    return lambda: {"devices": jax.device_count(), **placed(work, steps)}


def placed(work: Any, steps: np.ndarray) -> dict[str, Any]:
    """Balance of the devices' work over all programs together, as the trainer places it."""
    from swarmjax import placement, stacks
    from swarmjax.cohorts import Costs, Load, plan_cohorts

    mesh, family = placement.make_mesh(), work.recipe.family
    kinds = [work.architecture(member) for member in range(len(steps))]
    mean = float(steps.mean())
    loads = {kind: Load(kinds.count(kind), kinds.count(kind) * mean) for kind in kinds}
    planned = plan_cohorts(family, loads, work.task.batch, Costs()).containers
    flops = np.asarray([family.flops(planned[kind], kind) for kind in kinds])
    jobs = []
    for container in dict.fromkeys(planned[kind] for kind in kinds):
        slots = np.flatnonzero([planned[kind] == container for kind in kinds])
        layout = placement.make_layout(len(slots), mesh)
        home = stacks.device_of(np.arange(len(slots)), mesh.size)
        jobs.append(placement.Job(layout, slots, steps[slots], flops[slots], home))
    _, load = placement.schedule(jobs, mesh.size)
    return {"balance": placement.balance(load), "programs": len(jobs)}


if __name__ == "__main__":
    serve(prepare_balance)
