"""The vectorised local trainer: one round of a swarm from a Plan to a Frame."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, partial, reduce
from typing import Any, NamedTuple

import jax
import numpy as np

from swarmjax import (
    anomaly,
    capacity,
    curves,
    decisions,
    lanes,
    pace,
    placement,
    rescue,
    stacks,
    trial,
)
from swarmjax import weights as weights_of
from swarmjax.cohorts import Cohorts, Costs, Load, place, plan_cohorts
from swarmjax.frames import LaneReport, changed, frame_after, step_costs
from swarmjax.members import Member, Recipe
from swarmjax.models import Architecture, architectures
from swarmjax.placement import Job, Layout
from swarmjax.population import Store, Swarm, apply_plan, empty_swarm
from swarmjax.tasks import Task
from swarmjax.types import Frame, Genome, InputError, Plan
from swarmjax.watch import Wanted


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


class Choices(NamedTuple):
    """What was decided about speed; it may change the last bits, so a replay needs it.

    Attributes:
        costs: of the machine, for the planner of cohorts.
        chunks: container, as text -> members vmapped together.
        devices: that the run trains on; None for all there are.
        retired: containers, as text, whose programs failed.
    """

    costs: Costs = Costs()
    chunks: dict[str, int] = {}
    devices: int | None = None
    retired: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A plain description that `from_json` reads back."""
        return {**self._asdict(), "costs": self.costs._asdict(), "retired": list(self.retired)}

    @staticmethod
    def from_json(described: Mapping[str, Any]) -> Choices:
        """The choices that `to_json` described; InputError on anything else."""
        try:
            # Runs of the first versions trained on all devices and say nothing of them.
            devices = described.get("devices")
            retired = tuple(map(str, described.get("retired", ())))
            costs, chunks = Costs(**described["costs"]), dict(described["chunks"])
            chosen = Choices(costs, chunks, devices, retired)
            if devices is not None and (type(devices) is not int or devices < 1):
                raise ValueError(f"devices {devices!r}")
            return chosen
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"the run's record of its engine is damaged: {error!r}") from None


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
            report: told in one line what was decided, as it happens.
        """
        self.recipe, self.task, self.seed, self.choices = recipe, task, seed, choices or Choices()
        self._members, self._budget, self.report = members, budget, report
        self._storage, self._free = storage, choices is None
        self._swarm, self._mesh = empty_swarm(members), placement.make_mesh()
        self._engine = lanes.Engine(
            recipe, task, jax.random.key(seed),
            lanes.place_data((task.train, task.valid), self._mesh),
            partial(lanes.make_deck, task, seed, 0), wanted or Wanted(),
        )  # fmt: skip
        self._containers: dict[Architecture, Any] = {}
        self._seconds: dict[Any, float] = {}
        self._largest, self._store = members, Store(self._mesh, self.choices.costs.chunk)
        self._layouts: dict[tuple[Any, int], Layout] = {}
        self._detector, self.flags = anomaly.init(members), anomaly.silent(members)
        self._compiling: dict[Any, Future[None]] = {}
        self._failed: dict[Any, str] = {}
        self.measured: anomaly.Measured = {}
        self.shown = self._rows([], np.zeros(members, np.int32), {})
        self._strains: pace.Strains = {}

    def check_memory(self, genome: Genome) -> None:
        """Raises InputError if a swarm of these genes does not fit; nothing of it is compiled."""
        found, _ = architectures(self.recipe.space, genome)
        family = self.recipe.family

        def larger(a, b):
            return family.cover(a, b) or max(a, b, key=family.parameters)

        try:
            largest = reduce(larger, map(family.contain, found))
            self._reckon(genome, {largest: self._members})
        except InputError:
            # Too pessimistic, perhaps: everyone as large as the largest.
            _, _, sizes = self._plan_cohorts(genome)
            self._reckon(genome, sizes)

    def prepare(self, genome: Genome) -> None:
        """Decides which programs there will be and where members are kept; begins to compile.

        Asked again before the first round, in case the policy has chosen other architectures.

        Raises:
            InputError: the swarm does not fit into memory.
        """
        found, cohorts, sizes = self._plan_cohorts(genome)
        if cohorts.containers == self._containers:
            return
        self._containers, self._seconds = cohorts.containers, cohorts.training
        self._largest = max(sizes.values())
        devices = self._choose_devices(genome)
        need, host = self._reckon(genome, sizes)
        layout = placement.make_layout(self._largest, self._mesh)
        self._store = self._store._replace(lane=layout.chunk * layout.chunks, host=host)
        costs = self.choices.costs
        self.report(decisions.programs_line(found, len(sizes), cohorts, costs))
        self.report(decisions.devices_line(*devices, host, need._asdict()))
        pool, self._layouts = ThreadPoolExecutor(max(2, self._mesh.size)), {}
        for container in sizes:
            layout = self._layout(self._engine, container, 1, genome)
            job = pool.submit(lanes.compile_lane, self._engine, layout, container)
            self._compiling[container] = job
        pool.shutdown(wait=False)

    def _choose_devices(self, genome: Genome) -> tuple[int, int, str, str]:
        """Settles on some of the devices, before anything is kept there.

        Returns how many, of how many, of what platform, and why.
        """
        everyone, why = jax.local_devices(), ""
        if self._free and self.choices.devices is None:
            container = max(self._seconds, key=self._seconds.__getitem__)
            layout = self._usual_layout(container, genome)
            count, why = trial.choose_devices(
                self._engine, container, layout, genome, self._seconds[container],
                self.choices.costs,
            )  # fmt: skip
            self.choices = self.choices._replace(devices=count)
        count = min(self.choices.devices or len(everyone), len(everyone))
        if count != self._mesh.size:
            self._mesh = placement.make_mesh(devices=everyone[:count])
            data = lanes.place_data(self._engine.data, self._mesh)
            self._engine = self._engine._replace(data=data)
            self._store = self._store._replace(mesh=self._mesh)
        return count, len(everyone), everyone[0].platform, why

    def _usual_layout(self, container: Any, genome: Genome) -> Layout:
        state = capacity.trained_bytes(self.recipe, container, genome)
        usual = placement.usual_chunk(state, self._mesh.devices.flat[0].platform)
        return placement.make_layout(self._largest, self._mesh, usual)

    def _plan_cohorts(self, genome: Genome) -> tuple[int, Cohorts, Mapping[Any, int]]:
        """How many architectures there are, their containers, and members of each container."""
        found, index = architectures(self.recipe.space, genome)
        if self._free and len(found) > 1 and self.choices.costs == Costs():
            self.choices = self.choices._replace(costs=trial.machine_costs())
        counts, each = np.bincount(index), self._budget / self._members
        loads = {a: Load(int(n), n * each) for a, n in zip(found, counts, strict=True)}
        cohorts = plan_cohorts(self.recipe.family, loads, self.task.batch, self.choices.costs)
        sizes: Counter[Any] = Counter()
        for architecture, load in loads.items():
            sizes[cohorts.containers[architecture]] += int(load.members)
        return len(found), cohorts, sizes

    def _reckon(self, genome: Genome, sizes: Mapping[Any, int]):
        """The memory needed, and whether the host keeps members."""
        need = capacity.reckon(self.recipe, self.task, genome, sizes, self._mesh)
        devices = jax.local_devices()
        host = capacity.choose_storage(need, self._members, self._storage, devices)
        return need(self._members), host

    def round(self, plan: Plan, frame: Frame) -> Frame:
        """Follows `plan` from the state that `frame` showed, and shows the state afterwards."""
        plan = jax.tree.map(np.asarray, plan)
        if self._swarm.births == 0:
            self.prepare(plan.genome)
        busy = np.flatnonzero((plan.steps > 0) | changed(self.recipe, plan, frame))
        decks = cache(partial(lanes.make_deck, self.task, self.seed, int(frame.round)))
        engine = self._engine._replace(decks=decks)
        # While one cohort's program compiles, another cohort trains.
        with ThreadPoolExecutor(max(2, self._mesh.size)) as pool:
            swarm = apply_plan(
                self.recipe, self._containers, engine.key, self._swarm, frame.genome, plan,
                self._store, each=pool.map,
            )  # fmt: skip
            # Weights that nobody trained before have no past.
            fresh = plan.fresh | (swarm.step == 0) | (plan.operator != 0)
            self._detector = anomaly.inherit(self._detector, plan.parent, fresh)
            jobs = self._jobs(engine, swarm, plan, busy)
            schedule, _ = placement.schedule([job for _, job in jobs], self._mesh.size)
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
        self.shown = self._rows(reports, np.asarray(plan.steps), plan.genome)
        after = frame_after(
            self.recipe, self.task, self._swarm, plan, frame, reports, self.flags, self.measured
        )
        self._retire(after)
        return after

    def _retire(self, frame: Frame) -> None:
        """Ends the networks whose program fails, now and from now on."""
        swarm, before = self._swarm, self.choices.retired
        for container, error in self._failed.items():
            self.report(decisions.retired_line(container, error))
            self.choices = self.choices._replace(retired=(*self.choices.retired, str(container)))
        known = [str(container) in self.choices.retired for container in swarm.containers]
        frame.alive[np.asarray(known)[swarm.kind]] = False
        if self.choices.retired != before and not frame.alive.any():
            raise rescue.ProgramError(f"no program trains: {next(iter(self._failed.values()))}")
        self._failed.clear()

    def _rows(self, reports: Sequence[LaneReport], granted: np.ndarray, genome: Genome):
        wanted = self._engine.wanted
        # Before the first round there are no networks yet.
        slots = wanted.traced if wanted.parameters and reports else ()
        networks = self.networks(slots, genome)
        return curves.Rows(
            curves.window_columns(reports, granted, wanted.window),
            curves.step_columns(reports, granted, wanted.traced),
            list(weights_of.parameter_rows(self.recipe, networks, wanted.parameters)),
        )

    @property
    def state(self) -> tuple[Swarm, anomaly.Detector]:
        """All that the next round begins with, which consumes it."""
        return self._swarm, self._detector

    def resume(
        self,
        genome: Genome,
        make: Callable[[Mapping[Architecture, Any], Store], tuple[Swarm, anomaly.Detector]],
    ) -> None:
        """Takes up what another trainer of the same run held.

        Args:
            genome: that of the first Plan, by which programs were decided on.
            make: the `state` from containers and how cohorts are kept.
        """
        self.prepare(genome)
        self._swarm, self._detector = make(self._containers, self._store)

    def decide_freely(self) -> None:
        """From now on tries out what the choices it was given say nothing of."""
        self._free = True

    def blank(self, genome: Genome) -> tuple[Any, Member]:
        """The container of a network with these genes, and the shapes of what it holds."""
        ((architecture,), _) = architectures(
            self.recipe.space, {k: v[None] for k, v in genome.items()}
        )
        container = place(self.recipe.family, self._containers, architecture)
        return container, capacity.shapes(self.recipe, container, genome)

    def network(self, slot: int, genome: Genome) -> Network:
        """A copy of the network in `slot`, on the host; `genome` is the swarm's."""
        return next(self.networks([slot], genome))[1]

    def networks(self, slots: Sequence[int], genome: Genome) -> Iterator[tuple[int, Network]]:
        """Every one of `slots`, all different, with a copy of its network on the host.

        They come a lane at a time, in an order of their own, so that few copies are needed and few
        networks are held at once. `genome` is the swarm's.
        """
        mesh, swarm = self._mesh, self._swarm
        chosen = np.asarray(slots, np.int64)
        for kind in np.unique(swarm.kind[chosen]):
            alike = chosen[swarm.kind[chosen] == kind]
            container, row = swarm.containers[kind], swarm.row[alike]
            for places in stacks.home_lanes(row, mesh.size, self._store.lane):
                rows = np.where(places >= 0, row[places], -1).astype(np.int32)
                # From where it is kept: by a program that training uses anyway.
                lane = jax.device_get(stacks.take(swarm.cohorts[container], mesh, rows, near=True))
                for at in zip(*np.nonzero(places >= 0), strict=True):
                    slot = int(alike[places[at]])
                    member = jax.tree.map(lambda leaf, at=at: np.array(leaf[at]), lane)
                    genes = {name: np.asarray(v)[slot] for name, v in genome.items()}
                    yield slot, Network(container, member, genes)

    def weights(self, slot: int) -> Member:
        """A copy of what training changed in `slot`, padded as its container is."""
        return self.network(slot, {}).member

    def _jobs(self, engine, swarm: Swarm, plan: Plan, slots: np.ndarray):
        """Containers and what of them trains or is evaluated, the longest work first."""
        flops = step_costs(self.recipe, self.task, plan.genome)
        share = placement.shares(np.asarray(plan.devices), self._mesh.size)
        jobs = []
        for kind, k in sorted(
            set(zip(swarm.kind[slots].tolist(), share[slots].tolist(), strict=True))
        ):
            mine = slots[(swarm.kind[slots] == kind) & (share[slots] == k)]
            container = swarm.containers[kind]
            home = stacks.device_of(swarm.row[mine], self._mesh.size)
            layout = self._layout(engine, container, k, plan.genome)
            steps = np.asarray(plan.steps)[mine]
            jobs.append((container, Job(layout, mine, steps, flops[mine], home)))
        return sorted(jobs, key=lambda item: -float(item[1].steps @ item[1].flops))

    def _layout(self, engine, container: Any, share: int, genome: Genome) -> Layout:
        """The layout of members of one container whose batch `share` devices share."""
        if (container, share) not in self._layouts:
            if share > 1:
                # Few members are worth several devices each: they train one after the other.
                mesh = placement.make_mesh(share, list(self._mesh.devices.flat))
                layout, why = placement.make_layout(self._largest, mesh, chunk=1), ""
            else:
                layout = self._usual_layout(container, genome)
                chunk, why = self._chunk(engine, container, layout, genome)
                layout = placement.make_layout(self._largest, self._mesh, chunk)
            self._layouts[container, share] = layout
            self.report(decisions.compiling_line(container, layout, why))
        return self._layouts[container, share]

    def _chunk(self, engine, container: Any, layout: Layout, genome: Genome) -> tuple[int, str]:
        chosen = self.choices.chunks.get(str(container))
        if chosen is not None or not self._free:
            return chosen or layout.chunk, ""
        seconds = self._seconds.get(container, 0.0)
        chunk, why = trial.choose_chunk(
            engine, container, layout, genome, seconds, self.choices.costs
        )
        self.choices = self.choices._replace(chunks=self.choices.chunks | {str(container): chunk})
        return chunk, why

    def _cohort(self, engine, swarm: Swarm, plan: Plan, item):
        container, queue = item
        reports: list[LaneReport] = []
        if str(container) in self.choices.retired:
            return swarm.cohorts[container], reports
        if container in self._compiling:
            # If that failed, it fails again below, where it is told apart from a want of memory.
            self._compiling[container].exception()

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
            self._failed[container] = str(error)
        return swarm.cohorts[container], reports

    def _watch(self, reports: Sequence[LaneReport]) -> None:
        """Keeps what the lanes' detectors remember, and their alarms of this round."""
        self.flags = anomaly.silent(self._members)
        for places, report, *_ in reports:
            real = places >= 0
            for all_, some in ((self._detector, report.detector), (self.flags, report.flags)):
                for values, new in zip(all_, some, strict=True):
                    values[places[real]] = new[real]
