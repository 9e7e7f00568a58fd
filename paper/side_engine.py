"""The engine's side of a comparison: `python -m paper.side_engine`, spoken to by a Worker."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from paper.swarms import SEED, Work, make_work
from paper.workers import serve
from swarmjax.frames import first_frame
from swarmjax.policy import keep
from swarmjax.rounds import prepare_jax
from swarmjax.train import LocalTrainer


def prepare(**case: Any) -> Callable[..., Any]:
    """A round of the swarm, whose first one makes the networks and compiles all programs."""
    prepare_jax()
    # Compilation is to be paid, and neither saved nor shared with another process.
    jax.config.update("jax_enable_compilation_cache", False)
    return rounds(make_work(**case))


def rounds(work: Work, report: Callable[[str], None] = print) -> Callable[..., Any]:
    """As `prepare`, of a swarm at hand; steps may be changed from round to round."""
    members, budget = len(work.steps), int(work.steps.sum())
    trainer = LocalTrainer(
        work.recipe, work.task, members=members, budget=budget, seed=SEED, report=report
    )
    frame = first_frame(work.recipe, work.task, members, work.genome)

    def round(steps: Sequence[int] | np.ndarray = work.steps) -> dict[str, float]:
        nonlocal frame
        fresh = np.full(members, int(frame.round) == 0)
        plan = keep(frame)._replace(fresh=fresh, steps=np.asarray(steps, np.int32))
        frame = trainer.round(plan, frame)
        return {name: float(np.mean(value)) for name, value in frame.metrics.items()}

    return round


if __name__ == "__main__":
    serve(prepare)
