"""Frames: what a round showed, put together from what its lanes reported."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, reduce
from typing import Any, NamedTuple

import jax
import numpy as np

from swarmjax import anomaly
from swarmjax.anomaly import Flags, Measured
from swarmjax.lanes import Report
from swarmjax.members import Recipe
from swarmjax.models import Architecture, architectures
from swarmjax.space import Choice
from swarmjax.swarm import Swarm
from swarmjax.tasks import Task
from swarmjax.training import measures, probed
from swarmjax.types import Array, Frame, Genome, Plan


class LaneReport(NamedTuple):
    """What a lane showed.

    Attributes:
        places: `[...]` the member in each of its places, -1 for nobody.
        report: leaves of the same shape.
        seconds: wall seconds that the lane took.
        program: names the compiled program, hashable.
        reckoned: seconds that it should take by the cost model.
    """

    places: np.ndarray
    report: Report
    seconds: float
    program: Any
    reckoned: float


def first_frame(recipe: Recipe, task: Task, members: int, genome: Genome) -> Frame:
    """The Frame before anything was trained: genes, unknown scores, everyone alive."""
    unknown = np.full(members, np.nan, np.float32)
    zeros, none = np.zeros(members, np.int32), np.full(members, -1, np.int32)
    zero = np.zeros((), np.int32)
    metrics = {f"valid_{name}": unknown for name in measures(recipe, task)}
    parameters, size = network_sizes(recipe, genome)
    return Frame(
        round=zero, quota=zero, remaining=zero, loss=unknown, metrics=metrics,
        gradient_norm=unknown, steps=zeros, total_steps=zeros, alive=np.ones(members, bool),
        alarm=zeros, cost=step_costs(recipe, task, genome), parameters=parameters, bytes=size,
        seconds=unknown, descriptor=np.full((members, *probed(task)), np.nan, np.float16),
        genome={k: np.asarray(v) for k, v in genome.items()},
        birth=none, lineage=none, space=recipe.space,
    )  # fmt: skip


def frame_after(
    recipe: Recipe,
    task: Task,
    swarm: Swarm,
    plan: Plan,
    frame: Frame,
    reports: Iterable[LaneReport],
    flags: Flags,
    measured: Measured,
) -> Frame:
    """The Frame of a finished round; members that did nothing show what their parent showed.

    `flags` `[N]` are the alarms of single steps, `measured` values as in `anomaly.alarms`.
    """
    parent = np.where(plan.fresh, np.arange(len(plan.parent)), plan.parent)

    def inherit(values):
        return np.asarray(values)[parent]

    parameters, size = network_sizes(recipe, plan.genome)
    after = frame._replace(
        round=np.asarray(frame.round + 1, np.int32),
        remaining=np.asarray(frame.remaining - plan.steps.sum(), np.int32),
        loss=inherit(frame.loss), gradient_norm=inherit(frame.gradient_norm),
        metrics={name: inherit(values) for name, values in frame.metrics.items()},
        alive=inherit(frame.alive), seconds=inherit(frame.seconds),
        descriptor=inherit(frame.descriptor), steps=plan.steps, total_steps=swarm.step,
        cost=step_costs(recipe, task, plan.genome), parameters=parameters, bytes=size,
        genome=plan.genome, birth=swarm.birth, lineage=swarm.lineage,
    )  # fmt: skip
    for unknown in (after.loss, after.gradient_norm, after.seconds):
        unknown[swarm.step == 0] = np.nan
    for report in reports:
        _show(after, report)
    return after._replace(alarm=anomaly.alarms(frame, after, flags, measured))


def flags_of(reports: Iterable[LaneReport], members: int) -> Flags:
    """The alarms `[N]` of single steps that the lanes raised."""
    flags = anomaly.silent(members)
    for lane in reports:
        real = lane.places >= 0
        for values, new in zip(flags, lane.report.flags, strict=True):
            values[lane.places[real]] = new[real]
    return flags


def _show(frame: Frame, lane: LaneReport) -> None:
    """Writes what a lane reported into the arrays of `frame`, which are nobody else's yet."""
    real, report = lane.places >= 0, lane.report
    slots = lane.places[real]
    frame.alive[slots], frame.descriptor[slots] = report.finite[real], report.descriptor[real]
    for name, values in report.metrics.items():
        frame.metrics[f"valid_{name}"][slots] = values[real]
    steps = frame.steps[slots]
    trained = steps > 0
    for mean, total in ((frame.loss, report.loss), (frame.gradient_norm, report.gradient_norm)):
        mean[slots] = np.where(trained, total[real] / np.maximum(steps, 1), mean[slots])
    each = step_seconds(lane.seconds, steps, np.asarray(frame.cost)[slots])
    frame.seconds[slots] = np.where(trained, each, frame.seconds[slots])


def changed(recipe: Recipe, plan: Plan, frame: Frame) -> np.ndarray:
    """Slots `[N]` whose network will not compute what the one before it did."""
    differs = np.asarray(plan.fresh | (plan.parent != np.arange(len(plan.parent))))
    differs = differs | np.asarray(plan.operator != 0)
    for name in recipe.family.genes & set(plan.genome):
        differs = differs | np.asarray(plan.genome[name] != frame.genome[name])
    return differs


def step_costs(recipe: Recipe, task: Task, genome: Genome) -> np.ndarray:
    """Operations `[N]` of one training step of each member, by its own architecture."""
    family = recipe.family
    found, index = architectures(recipe.space, genome)
    flops = [
        family.flops(family.contain(architecture), architecture) * task.batch
        for architecture in found
    ]
    return np.asarray(flops, np.float32)[index]


def step_seconds(seconds: float, steps: Array, cost: np.ndarray) -> np.ndarray:
    """Seconds `[n]` of one step of each member of a lane, if operations take equally long.

    Args:
        seconds: of the lane, whatever its devices did side by side.
        steps: `[n]` that each member took.
        cost: `[n]` operations of one step of each.
    """
    return seconds * cost / max(float(np.float64(steps) @ cost), 1.0)


def network_sizes(recipe: Recipe, genome: Genome) -> tuple[np.ndarray, np.ndarray]:
    """Weights `[N]` int32 and bytes `[N]` float32 of each member, optimizer state included.

    Both are those of its own architecture, without padding.
    """
    family = recipe.family
    found, index = architectures(recipe.space, genome)
    boxes = [family.contain(architecture) for architecture in found]
    # Cut out of one container where one holds them all: every one that is traced takes its time.
    largest = reduce(lambda a, b: family.cover(a, b) or a, boxes)
    sizes = [
        _size(recipe, largest if family.cover(largest, box) == largest else box, architecture)
        for box, architecture in zip(boxes, found, strict=True)
    ]
    parameters, size = np.asarray(sizes, np.float64).T
    return parameters.astype(np.int32)[index], size.astype(np.float32)[index]


@cache
def _size(recipe: Recipe, container: Any, architecture: Architecture) -> tuple[int, int]:
    variables, numbers = _variables(recipe, container)
    own = jax.eval_shape(lambda given: recipe.family.crop(given, architecture), variables)
    state = jax.eval_shape(lambda params: recipe.optimizer(numbers).init(params), own["params"])
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((own, state)))
    return sum(leaf.size for leaf in jax.tree.leaves(own["params"])), held


@cache
def _variables(recipe: Recipe, container: Any) -> tuple[Any, dict[str, Any]]:
    """Shapes of what a network of `container` holds, and the genes of one."""
    kinds = {name: isinstance(gene, Choice) for name, gene in recipe.space.genes}
    zeros: Genome = {k: np.zeros((), np.int32 if v else np.float32) for k, v in kinds.items()}
    numbers = recipe.space.numbers(zeros)
    init = recipe.family.init
    return jax.eval_shape(lambda: init(jax.random.key(0), container, numbers)), numbers
