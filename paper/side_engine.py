"""The engine's side of a comparison, spoken to by a Worker.

`python -m paper.side_engine [CHUNK DEVICES]`: as the engine decides, or so many networks vmapped
together on so many devices.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from paper.swarms import SEED, Work, make_work
from paper.workers import serve
from swarmjax.frames import first_frame
from swarmjax.planner import Choices
from swarmjax.policy import keep
from swarmjax.rounds import prepare_jax
from swarmjax.train import LocalTrainer
from swarmjax.trial import machine_costs


def prepare(*layout: int, **case: Any) -> Callable[..., Any]:
    """A round of the swarm, whose first one makes the networks and compiles all programs.

    Args:
        layout: none, or chunk and devices.
        case: as in `swarms.make_work`.
    """
    prepare_jax()
    # Compilation is to be paid, and neither saved nor shared with another process.
    jax.config.update("jax_enable_compilation_cache", False)
    work = make_work(**case)
    return rounds(work, choices=chosen(work, *layout) if layout else None)


def chosen(work: Work, chunk: int, devices: int) -> Choices:
    """What is decided of speed, without a trial, for a swarm of a single architecture."""
    container = work.recipe.family.contain(work.architecture(0))
    return Choices(machine_costs(), {str(container): chunk}, devices)


def rounds(
    work: Work, report: Callable[[str], None] = print, choices: Choices | None = None
) -> Callable[..., Any]:
    """As `prepare`, of a swarm at hand; steps may be changed from round to round."""
    members, budget = len(work.steps), int(work.steps.sum())
    trainer = LocalTrainer(
        work.recipe, work.task, members=members, budget=budget, seed=SEED, report=report,
        choices=choices,
    )  # fmt: skip
    frame = first_frame(work.recipe, work.task, members, work.genome)

    def round(steps: Sequence[int] | np.ndarray = work.steps) -> dict[str, float]:
        nonlocal frame
        fresh = np.full(members, int(frame.round) == 0)
        plan = keep(frame)._replace(fresh=fresh, steps=np.asarray(steps, np.int32))
        frame = trainer.round(plan, frame)
        return {name: float(np.mean(value)) for name, value in frame.metrics.items()}

    return round


if __name__ == "__main__":
    serve(partial(prepare, *map(int, sys.argv[1:])))
