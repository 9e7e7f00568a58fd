"""Frames: what a round showed, put together from what its lanes reported."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from swarmjax.lanes import Report
from swarmjax.members import Recipe
from swarmjax.models import architectures
from swarmjax.population import Swarm
from swarmjax.tasks import Task
from swarmjax.types import Frame, Genome, Plan


def first_frame(recipe: Recipe, task: Task, members: int, genome: Genome) -> Frame:
    """The Frame before anything was trained: genes, unknown scores, everyone alive."""
    unknown = np.full(members, np.nan, np.float32)
    zeros, none = np.zeros(members, np.int32), np.full(members, -1, np.int32)
    zero = np.zeros((), np.int32)
    metrics = {f"valid_{name}": unknown for name in ("loss", *task.metrics)}
    return Frame(
        round=zero, quota=zero, remaining=zero, loss=unknown, metrics=metrics,
        gradient_norm=unknown, steps=zeros, total_steps=zeros, alive=np.ones(members, bool),
        cost=step_costs(recipe, task, genome), genome={k: np.asarray(v) for k, v in genome.items()},
        birth=none, lineage=none, space=recipe.space,
    )  # fmt: skip


def frame_after(
    recipe: Recipe,
    task: Task,
    swarm: Swarm,
    plan: Plan,
    frame: Frame,
    reports: Iterable[tuple[np.ndarray, Report]],
) -> Frame:
    """The Frame of a finished round; members that did nothing show what their parent showed."""
    parent = np.where(plan.fresh, np.arange(len(plan.parent)), plan.parent)

    def inherit(values):
        return np.asarray(values)[parent].copy()

    loss, norm, alive = inherit(frame.loss), inherit(frame.gradient_norm), inherit(frame.alive)
    untrained = swarm.step == 0
    loss[untrained] = norm[untrained] = np.nan
    metrics = {name: inherit(values) for name, values in frame.metrics.items()}
    for places, report in reports:
        real = places >= 0
        slots = places[real]
        alive[slots] = report.finite[real]
        for name, values in report.metrics.items():
            metrics[f"valid_{name}"][slots] = values[real]
        steps = plan.steps[slots]
        for mean, total in ((loss, report.loss), (norm, report.gradient_norm)):
            mean[slots] = np.where(steps > 0, total[real] / np.maximum(steps, 1), mean[slots])
    remaining = np.asarray(frame.remaining - plan.steps.sum(), np.int32)
    return frame._replace(
        round=np.asarray(frame.round + 1, np.int32), remaining=remaining,
        loss=loss, metrics=metrics, gradient_norm=norm, steps=plan.steps, total_steps=swarm.step,
        alive=alive, cost=step_costs(recipe, task, plan.genome), genome=plan.genome,
        birth=swarm.birth, lineage=swarm.lineage,
    )  # fmt: skip


def changed(recipe: Recipe, plan: Plan, frame: Frame) -> np.ndarray:
    """Slots `[N]` whose network will not compute what the one before it did."""
    differs = np.asarray(plan.fresh | (plan.parent != np.arange(len(plan.parent))))
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
