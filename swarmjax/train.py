"""The vectorised local trainer: one round of a swarm from a Plan to a Frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import numpy as np

from swarmjax import lanes, placement, stacks
from swarmjax.cohorts import Costs, Load, plan_cohorts
from swarmjax.members import Member, Recipe
from swarmjax.models import Architecture, architectures
from swarmjax.placement import Layout
from swarmjax.population import Store, Swarm, apply_plan, empty_swarm
from swarmjax.tasks import Task
from swarmjax.types import Frame, Genome, Plan


class Network(NamedTuple):
    """One network taken out of the swarm, on the host.

    Attributes:
        container: the padded shape its variables have.
        member: variables, optimizer state and step.
        genome: its genes, as scalars.
    """

    container: Any
    member: Member
    genome: Genome


class LocalTrainer:
    """Trains a swarm on this host's devices; `round` is the whole protocol."""

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        *,
        members: int,
        budget: int,
        seed: int,
        chunk: int = 8,
        report: Callable[[str], None] = lambda text: None,
    ):
        """Prepares; nothing is compiled or trained before the first round.

        Args:
            recipe: what all members share.
            task: what they learn.
            members: how many.
            budget: member-steps of the whole run, for the cost model.
            seed: of weights, batches and dropout.
            chunk: members vmapped together.
            report: told in one line what was decided, as it happens.
        """
        self.recipe, self.task, self.seed = recipe, task, seed
        self._members, self._budget, self._chunk, self._report = members, budget, chunk, report
        self._swarm, self._mesh = empty_swarm(members), placement.make_mesh()
        self._engine = lanes.Engine(
            recipe, task, jax.random.key(seed), lanes.place_data((task.train, task.valid), self._mesh),
            lambda part: np.zeros(0),
        )  # fmt: skip
        self._containers: dict[Architecture, Any] = {}
        self._store = Store(self._mesh, chunk)
        self._largest = members
        self._layouts: dict[tuple[Any, int], Layout] = {}

    def round(self, plan: Plan, frame: Frame) -> Frame:
        """Follows `plan` from the state that `frame` showed, and shows the state afterwards."""
        plan = jax.tree.map(np.asarray, plan)
        if not self._containers:
            self._plan_cohorts(plan.genome)
        busy = (plan.steps > 0) | _changed(self.recipe, plan, frame)
        decks = cache(partial(lanes.make_deck, self.task, self.seed, int(frame.round)))
        engine = self._engine._replace(decks=decks)
        # While one cohort's program compiles, another cohort trains.
        with ThreadPoolExecutor(2) as pool:
            swarm = apply_plan(
                self.recipe, self._containers, engine.key, self._swarm, frame.genome, plan,
                self._store, each=pool.map,
            )  # fmt: skip
            flops = _costs(self.recipe, self.task, plan.genome)
            work = _work(swarm, np.asarray(plan.steps) * flops, np.flatnonzero(busy))
            cohort = partial(self._cohort, engine, swarm, plan, flops)
            trained = dict(zip(work, pool.map(cohort, work.items()), strict=True))
        cohorts = swarm.cohorts | {kind: stack for kind, (stack, _) in trained.items()}
        reports = [report for _, some in trained.values() for report in some]
        self._swarm = swarm._replace(cohorts=cohorts, step=swarm.step + plan.steps)
        return _frame_after(self.recipe, self.task, self._swarm, plan, frame, reports)

    def network(self, slot: int, genome: Genome) -> Network:
        """A copy of the network in `slot`, on the host; `genome` is the swarm's."""
        container, row = self._swarm.place(slot)
        rows = np.full((self._mesh.size, self._store.lane), row, np.int32)
        lane = stacks.take(self._swarm.cohorts[container], self._mesh, rows, near=False)
        member = jax.tree.map(lambda leaf: np.array(leaf[0, 0]), jax.device_get(lane))
        return Network(container, member, {k: np.asarray(v)[slot] for k, v in genome.items()})

    def weights(self, slot: int) -> Member:
        """A copy of what training changed in `slot`, padded as its container is."""
        return self.network(slot, {}).member

    def _plan_cohorts(self, genome: Genome) -> None:
        """Decides who shares a program, and how long a lane must be for the largest cohort."""
        found, index = architectures(self.recipe.space, genome)
        counts, each = np.bincount(index), self._budget / self._members
        loads = {a: Load(int(n), n * each) for a, n in zip(found, counts, strict=True)}
        costs = Costs(lane=self._mesh.size * self._chunk)
        cohorts = plan_cohorts(self.recipe.family, loads, self.task.batch, costs)
        self._containers = cohorts.containers
        sizes: Counter[Any] = Counter()
        for architecture, load in loads.items():
            sizes[cohorts.containers[architecture]] += int(load.members)
        self._largest = max(sizes.values())
        layout = placement.make_layout(self._largest, self._mesh, self._chunk)
        self._store = self._store._replace(lane=layout.chunk * layout.chunks)
        self._report(
            f"programs for {len(found)} architectures: {len(sizes)}, by a cost model that reckons "
            f"{cohorts.seconds:.0f} s with them and {cohorts.separate:.0f} s with one for each"
        )

    def _layout(self, container: Any, share: int) -> Layout:
        """The layout of members of one container whose batch `share` devices share."""
        if (container, share) not in self._layouts:
            mesh = self._mesh if share == 1 else placement.make_mesh(share)
            # Few members are worth several devices each: they train one after the other.
            chunk = self._chunk if share == 1 else 1
            layout = placement.make_layout(self._largest, mesh, chunk)
            self._layouts[container, share] = layout
            several = f", each on {share} devices" if share > 1 else ""
            self._report(f"compiling a program for {container}{several}")
        return self._layouts[container, share]

    def _cohort(self, engine, swarm, plan, flops, item):
        container, slots = item
        share, reports = placement.shares(plan.devices, self._mesh.size), []
        for k in np.unique(share[slots]):
            layout = self._layout(container, int(k))
            stack, some = lanes.train_cohort(
                engine, layout, swarm, container, slots[share[slots] == k], plan.genome,
                plan.steps, flops,
            )  # fmt: skip
            swarm = swarm._replace(cohorts=swarm.cohorts | {container: stack})
            reports += some
        return swarm.cohorts[container], reports


def _work(swarm: Swarm, spent: np.ndarray, slots: np.ndarray) -> dict[Any, np.ndarray]:
    """Container -> slots to train or evaluate, the longest work first."""
    kinds = swarm.kind[slots]
    work = {swarm.containers[kind]: slots[kinds == kind] for kind in np.unique(kinds)}
    return dict(sorted(work.items(), key=lambda item: -spent[item[1]].sum()))


def first_frame(recipe: Recipe, task: Task, members: int, genome: Genome) -> Frame:
    """The Frame before anything was trained: genes, unknown scores, everyone alive."""
    unknown = np.full(members, np.nan, np.float32)
    zeros, none = np.zeros(members, np.int32), np.full(members, -1, np.int32)
    zero = np.zeros((), np.int32)
    metrics = {f"valid_{name}": unknown for name in ("loss", *task.metrics)}
    return Frame(
        round=zero, quota=zero, remaining=zero, loss=unknown, metrics=metrics,
        gradient_norm=unknown, steps=zeros, total_steps=zeros, alive=np.ones(members, bool),
        cost=_costs(recipe, task, genome), genome={k: np.asarray(v) for k, v in genome.items()},
        birth=none, lineage=none, space=recipe.space,
    )  # fmt: skip


def _frame_after(recipe, task, swarm: Swarm, plan: Plan, frame: Frame, reports) -> Frame:
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
        alive=alive, cost=_costs(recipe, task, plan.genome), genome=plan.genome,
        birth=swarm.birth, lineage=swarm.lineage,
    )  # fmt: skip


def _changed(recipe: Recipe, plan: Plan, frame: Frame) -> np.ndarray:
    """Slots `[N]` whose network will not compute what the one before it did."""
    changed = np.asarray(plan.fresh | (plan.parent != np.arange(len(plan.parent))))
    for name in recipe.family.genes & set(plan.genome):
        changed |= np.asarray(plan.genome[name] != frame.genome[name])
    return changed


def _costs(recipe: Recipe, task: Task, genome: Genome) -> np.ndarray:
    family = recipe.family
    found, index = architectures(recipe.space, genome)
    flops = [
        family.flops(family.contain(architecture), architecture) * task.batch
        for architecture in found
    ]
    return np.asarray(flops, np.float32)[index]
