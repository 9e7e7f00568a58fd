"""The vectorised local trainer: one round of a swarm from a Plan to a Frame."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import jax
import numpy as np

from swarmjax import anomaly, curves, holding, lanes, pace, placement, rescue, stacks
from swarmjax.containers import candidates_of
from swarmjax.frames import LaneReport, changed, flags_of, frame_after, step_costs
from swarmjax.members import Network, Recipe
from swarmjax.naming import Named, named, rebuilt
from swarmjax.placement import Job, Layout
from swarmjax.planner import Choices, Planner
from swarmjax.population import apply_plan
from swarmjax.swarm import Swarm, empty_swarm
from swarmjax.tasks import Task
from swarmjax.types import Frame, Genome, Plan
from swarmjax.watch import Wanted

_DETECTOR = "detector"


class LocalTrainer:
    """Trains a swarm on this host's devices; `round` is the whole protocol.

    `flags` are the alarms `[N]` of the last round's single steps, `measured` what was measured of
    it, as in `anomaly.alarms`, `shown` what else it showed.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: Task,
        *,
        members: int,
        budget: int,
        seed: int,
        storage: str = "auto",
        choices: Choices | None = None,
        wanted: Wanted | None = None,
        share: float = 1.0,
        even: bool = True,
        report: Callable[[str], None] = lambda text: None,
    ):
        """Prepares; nothing is compiled or trained before the first round.

        Args:
            recipe: what all members share.
            task: what they learn.
            members: how many.
            budget: member-steps of the whole run, for the cost model.
            seed: of weights, batches and dropout.
            storage: keeps members on the `device` or the `host`; `auto`: where they fit.
            choices: made by an earlier run, or None to try out what is fastest where that pays.
            wanted: what is kept of single steps and of weights; None for the usual.
            share: part of the swarm that will be kept here, of which memory is needed.
            even: all who are granted steps get as many; `choices` know better.
            report: told in one line what was decided, as it happens.
        """
        self.recipe, self.task, self.seed, self._members = recipe, task, seed, members
        data, deck = (task.train, task.valid), partial(lanes.make_deck, task, seed, 0)
        engine = lanes.Engine(recipe, task, jax.random.key(seed), data, deck, wanted or Wanted())
        self.planner = Planner(engine, members, budget, storage, choices, share, even, report)
        self._swarm = empty_swarm(members)
        self._strains: pace.Strains = {}
        self._detector, self.flags = anomaly.init(members), anomaly.silent(members)
        self.measured: anomaly.Measured = {}
        self.shown = curves.rows(recipe, engine.wanted, [], np.zeros(members, np.int32), ())

    @property
    def choices(self) -> Choices:
        """What was decided about speed."""
        return self.planner.choices

    @property
    def report(self) -> Callable[[str], None]:
        """Told in one line what was decided, as it happens."""
        return self.planner.report

    @report.setter
    def report(self, report: Callable[[str], None]) -> None:
        self.planner.report = report

    def check_memory(self, genome: Genome) -> None:
        """Raises InputError if a swarm of these genes does not fit; nothing of it is compiled."""
        self.planner.check_memory(genome)

    def prepare(self, genome: Genome) -> None:
        """Decides which programs there will be and where members are kept; begins to compile.

        Asked again before the first round, in case the policy has chosen other architectures.

        Raises:
            InputError: the swarm does not fit into memory.
        """
        self.planner.prepare(genome)

    def round(self, plan: Plan, frame: Frame) -> Frame:
        """Follows `plan` from the state that `frame` showed, and shows the state afterwards."""
        plan = jax.tree.map(np.asarray, plan)
        if self._swarm.births == 0:
            self.prepare(plan.genome)
        self.planner.follow(plan.genome, plan.steps)
        reports = self.train(plan, frame)
        self.flags = flags_of(reports, self._members)
        wanted = self.planner.engine.wanted
        networks = self.networks(wanted.traced if wanted.parameters else (), plan.genome)
        self.shown = curves.rows(self.recipe, wanted, reports, np.asarray(plan.steps), networks)
        after = frame_after(
            self.recipe, self.task, self._swarm, plan, frame, reports, self.flags, self.measured
        )
        self._retire(after)
        return after

    def train(self, plan: Plan, frame: Frame, born: np.ndarray | None = None) -> list[LaneReport]:
        """Follows `plan`, of which programs were decided on, and returns what the lanes showed.

        Of `frame` only the round and the genes count; `born` as in `apply_plan`.
        """
        busy = np.flatnonzero((plan.steps > 0) | changed(self.recipe, plan, frame))
        decks = cache(partial(lanes.make_deck, self.task, self.seed, int(frame.round)))
        planner, mesh = self.planner, self.planner.mesh
        engine = planner.engine._replace(decks=decks)
        # While one cohort's program compiles, another cohort trains.
        with ThreadPoolExecutor(max(2, mesh.size)) as pool:
            swarm = apply_plan(
                self.recipe, planner.containers(plan.genome), engine.key, self._swarm,
                frame.genome, plan, planner.store, born=born, each=pool.map,
            )  # fmt: skip
            # Weights that nobody trained before have no past.
            fresh = plan.fresh | (swarm.step == 0) | (plan.operator != 0)
            self._detector = anomaly.inherit(self._detector, plan.parent, fresh)
            jobs = self._jobs(swarm, plan, busy)
            schedule, _ = placement.schedule([job for _, job in jobs], mesh.size)
            queues: dict[Any, list[tuple[Layout, list[np.ndarray]]]] = {}
            for (container, job), some in zip(jobs, schedule, strict=True):
                queues.setdefault(container, []).append((job.layout, some))
            cohort, begun = partial(self._cohort, engine, swarm, plan), time.perf_counter()
            trained = dict(zip(queues, pool.map(cohort, queues.items()), strict=True))
        wall = time.perf_counter() - begun
        cohorts = swarm.cohorts | {kind: stack for kind, (stack, _) in trained.items()}
        reports = [report for _, some in trained.values() for report in some]
        self._swarm = swarm._replace(cohorts=cohorts, step=swarm.step + plan.steps)
        self._watch(reports)
        self._strains, slow = pace.observe(self._strains, pace.paces(reports, wall))
        self.measured = {"slow": pace.of_members(reports, slow, plan)}
        return reports

    def _retire(self, frame: Frame) -> None:
        """Ends the networks whose program fails, now and from now on."""
        failed = list(self.planner.failed.values())
        frame.alive[self.retired()] = False
        if failed and not frame.alive.any():
            raise rescue.ProgramError(f"no program trains: {failed[0]}")

    def retired(self) -> np.ndarray:
        """Whose program fails, `[N]` bool; those that failed since are told of, and not tried."""
        self.planner.retire()
        swarm = self._swarm
        known = [self.planner.retired(container) for container in swarm.containers]
        return np.asarray(known, bool)[swarm.kind]

    def arrays(self) -> Named:
        """A copy of all that the next round begins with, as `holding` names it, and detectors."""
        return holding.arrays_of(self._swarm) | named(self._detector, _DETECTOR)

    def take_up(self, plans: Sequence[Plan], genome: Genome, arrays: Named) -> None:
        """Takes up what another trainer of the same run held.

        Args:
            plans: of all rounds so far, by which programs were decided on; members that are trained
                elsewhere come last, and are not heeded.
            genome: `[N]` genes of the networks, and of such members.
            arrays: from `arrays`, perhaps with others.

        Raises:
            InputError: they are not of such a swarm.
        """
        planner, cut = self.planner, partial(_first, self._members)
        self.prepare(cut(plans[0].genome))
        homes = planner.homes
        for plan in plans:
            steps = np.asarray(plan.steps)[: self._members]
            homes = planner.followed(homes, cut(plan.genome), steps)
        planner.adopt(homes)
        own, store = cut(genome), planner.store
        self._swarm = holding.swarm_of(self.recipe, homes, own, arrays, store)
        self._detector = rebuilt(anomaly.init(self._members), arrays, _DETECTOR)

    def decide_freely(self) -> None:
        """From now on tries out what the choices it was given say nothing of."""
        self.planner.free = True

    def boxes(self, genes: Genome) -> list[Any]:
        """Containers in which a network of these scalar genes may have been, likeliest first."""
        return candidates_of(self.recipe, self.planner.homes, genes)

    def network(self, slot: int, genome: Genome) -> Network:
        """A copy of the network in `slot`, on the host; `genome` is the swarm's."""
        return next(self.networks([slot], genome))[1]

    def networks(self, slots: Sequence[int], genome: Genome) -> Iterator[tuple[int, Network]]:
        """Every one of `slots`, all different, with a copy of its network on the host.

        They come a lane at a time, in an order of their own, so that few copies are needed and few
        networks are held at once. `genome` is the swarm's.
        """
        mesh, swarm = self.planner.mesh, self._swarm
        chosen = np.asarray(slots, np.int64)
        for kind in np.unique(swarm.kind[chosen]):
            alike = chosen[swarm.kind[chosen] == kind]
            container, row = swarm.containers[kind], swarm.row[alike]
            for places in stacks.home_lanes(row, mesh.size, self.planner.store.lane):
                rows = np.where(places >= 0, row[places], -1).astype(np.int32)
                # From where it is kept: by a program that training uses anyway.
                lane = jax.device_get(stacks.take(swarm.cohorts[container], mesh, rows, near=True))
                for at in zip(*np.nonzero(places >= 0), strict=True):
                    slot = int(alike[places[at]])
                    member = jax.tree.map(lambda leaf, at=at: np.array(leaf[at]), lane)
                    genes = {name: np.asarray(v)[slot] for name, v in genome.items()}
                    yield slot, Network(container, member, genes)

    def weights(self, slot: int) -> Any:
        """A copy of the `Member` in `slot`, padded as its container is."""
        return self.network(slot, {}).member

    def _jobs(self, swarm: Swarm, plan: Plan, slots: np.ndarray):
        """Containers and what of them trains or is evaluated, the longest work first."""
        flops = step_costs(self.recipe, self.task, plan.genome)
        size = self.planner.mesh.size
        share = placement.shares(np.asarray(plan.devices), size)
        jobs = []
        for kind, k in sorted(
            set(zip(swarm.kind[slots].tolist(), share[slots].tolist(), strict=True))
        ):
            mine = slots[(swarm.kind[slots] == kind) & (share[slots] == k)]
            container = swarm.containers[kind]
            home = stacks.device_of(swarm.row[mine], size)
            layout = self.planner.layout(container, k, plan.genome)
            steps = np.asarray(plan.steps)[mine]
            jobs.append((container, Job(layout, mine, steps, flops[mine], home)))
        return sorted(jobs, key=lambda item: -float(item[1].steps @ item[1].flops))

    def _cohort(self, engine, swarm: Swarm, plan: Plan, item):
        container, queue = item
        reports: list[LaneReport] = []
        if self.planner.retired(container):
            return swarm.cohorts[container], reports
        self.planner.wait(container)

        def attempt(layout, lane):
            nonlocal swarm
            begun = time.perf_counter()
            stack, told = lanes.train_cohort(
                engine, layout, swarm, container, [lane], plan.genome, np.asarray(plan.steps),
                self._detector,
            )  # fmt: skip
            swarm = swarm._replace(cohorts=swarm.cohorts | {container: stack})
            return told[0], time.perf_counter() - begun

        def trained():
            for layout, some in queue:
                for lane in some:
                    yield from rescue.attempted(attempt, layout, lane)

        try:
            for layout, lane, (told, seconds) in trained():
                reckoned = pace.reckon(
                    self.recipe, self.task, self.choices.costs, layout, container, lane, plan
                )
                program = container, layout
                reports.append(LaneReport(lane, told, seconds, program, reckoned))
        except rescue.ProgramError as error:
            self.planner.failed[container] = str(error)
        return swarm.cohorts[container], reports

    def _watch(self, reports: Sequence[LaneReport]) -> None:
        """Keeps what the lanes' detectors remember."""
        for places, report, *_ in reports:
            real = places >= 0
            for values, new in zip(self._detector, report.detector, strict=True):
                values[places[real]] = new[real]


def _first(members: int, genome: Genome) -> Genome:
    return {name: np.asarray(values)[:members] for name, values in genome.items()}
