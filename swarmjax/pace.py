"""How fast compiled programs train, round by round, and who trains in one that has become slow.

Networks that train side by side in one program cannot be told apart by a clock. What is watched is
the program's pace: the seconds it took over those that the cost model reckons with, so that neither
grants nor depths nor how full its lanes are count as slowness.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from swarmjax import cohorts, placement, strain
from swarmjax.cohorts import Costs
from swarmjax.frames import LaneReport
from swarmjax.members import Recipe
from swarmjax.models import architectures
from swarmjax.placement import Layout
from swarmjax.strain import Strain
from swarmjax.tasks import Task
from swarmjax.types import Plan

# Seconds of a program in a round below which its pace is that of the host's work around it.
_LEAST = 0.05

Strains = Mapping[Hashable, Strain]


def reckon(
    recipe: Recipe, task: Task, costs: Costs, layout: Layout, container: Any, lane: np.ndarray,
    plan: Plan,
) -> float:  # fmt: skip
    """Seconds that a lane of slots `[G, L]`, -1 for nobody, should take by the cost model."""
    real = lane >= 0
    mine = lane[real]
    genome = {name: np.asarray(values)[mine] for name, values in plan.genome.items()}
    found, index = architectures(recipe.space, genome)
    each = [cohorts.step_seconds(recipe.family, container, a, task.batch, costs) for a in found]
    steps, seconds = np.zeros(lane.shape, np.int64), np.zeros(lane.shape)
    steps[real], seconds[real] = np.asarray(plan.steps)[mine], np.asarray(each)[index]
    return placement.lane_seconds(layout, steps, seconds)


def paces(reports: Sequence[LaneReport], wall: float) -> dict[Hashable, float]:
    """Seconds of each program over those reckoned; NaN where they are too few to be measured.

    Lanes that took more than the `wall` seconds together ran side by side, and shared the machine.
    """
    together = max(1.0, sum(report.seconds for report in reports) / max(wall, 1e-9))
    totals: dict[Hashable, np.ndarray] = {}
    for report in reports:
        both = np.asarray([report.seconds / together, report.reckoned])
        totals[report.program] = totals.get(report.program, 0.0) + both
    return {
        program: spent / reckoned if spent >= _LEAST and reckoned > 0 else float("nan")
        for program, (spent, reckoned) in totals.items()
    }


def observe(strains: Strains, found: Mapping[Hashable, float]) -> tuple[Strains, dict[Any, float]]:
    """Looks at one round's paces: by how much each program is too slow, 0 where it is no alarm.

    The first pace of a program, which may have been compiled meanwhile, is passed over.
    """
    after, slow = dict(strains), {}
    for program, pace in found.items():
        unknown = np.asarray([np.nan])
        seen = np.asarray([pace]) if program in after else unknown
        after[program], values = strain.observe(after.get(program, strain.init(1)), seen, unknown)
        slow[program] = float(values["slow"][0])
    return after, slow


def of_members(reports: Sequence[LaneReport], slow: Mapping[Any, float], plan: Plan) -> np.ndarray:
    """The alarm `[N]` of each member's program, 0 for members without steps."""
    values = np.zeros(len(plan.steps))
    for report in reports:
        slots = report.places[report.places >= 0]
        values[slots] = np.where(np.asarray(plan.steps)[slots] > 0, slow[report.program], 0.0)
    return values
