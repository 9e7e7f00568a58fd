"""The programs of a run: which containers there are, how each is laid out, and their compiling.

Everything that is decided about speed and memory is decided here, and told in a line.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import numpy as np

from swarmjax import capacity, decisions, following, lanes, placement, trial
from swarmjax.cohorts import Cohorts, Costs, Load, depends_on_machine, plan_cohorts
from swarmjax.following import Homes
from swarmjax.members import Recipe
from swarmjax.models import Architecture, architectures
from swarmjax.placement import Layout
from swarmjax.space import Choice
from swarmjax.swarm import Store
from swarmjax.types import Array, Genome, InputError


class Choices(NamedTuple):
    """What was decided about speed; it may change the last bits, so a replay needs it.

    Attributes:
        costs: of the machine, for the planner of cohorts.
        chunks: container, as text -> members vmapped together.
        devices: that the run trains on; None for all there are.
        retired: containers, as text, whose programs failed.
        even: all who are granted steps get as many, as far as is known.
        follows: programs are decided anew as the swarm becomes alike, see `following`.
    """

    costs: Costs = Costs()
    chunks: dict[str, int] = {}
    devices: int | None = None
    retired: tuple[str, ...] = ()
    even: bool = True
    follows: bool = True

    def to_json(self) -> dict[str, Any]:
        """A plain description that `from_json` reads back."""
        return {**self._asdict(), "costs": self.costs._asdict(), "retired": list(self.retired)}

    @staticmethod
    def from_json(described: Mapping[str, Any]) -> Choices:
        """The choices that `to_json` described; InputError on anything else."""
        try:
            # Runs of earlier versions trained on all devices, in chunks for even grants, and kept
            # to the programs that they began with.
            devices, even = described.get("devices"), described.get("even", True)
            follows = described.get("follows", False)
            retired = tuple(map(str, described.get("retired", ())))
            costs, chunks = Costs(**described["costs"]), dict(described["chunks"])
            chosen = Choices(costs, chunks, devices, retired, even, follows)
            if devices is not None and (type(devices) is not int or devices < 1):
                raise ValueError(f"devices {devices!r}")
            if type(even) is not bool or type(follows) is not bool:
                raise ValueError(f"even {even!r}, follows {follows!r}")
            return chosen
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"the run's record of its engine is damaged: {error!r}") from None


class Planner:
    """Decides which programs a run has, and compiles them.

    `engine` is what all of them share, `store` how members are kept, `mesh` the devices,
    `homes` where every architecture goes, `choices` what was decided about speed; `free`: what
    these say nothing of is tried out. `failed` are containers that turned out not to train,
    and why, until `retire` is called; `report` is told of decisions in a line each. A trainer sets
    `choices`, `free` and what is `wanted` of the engine if it is told so.
    """

    def __init__(
        self,
        engine: lanes.Engine,
        members: int,
        budget: int,
        storage: str,
        choices: Choices | None,
        share: float,
        even: bool,
        report: Callable[[str], None],
    ):
        """Decides nothing yet.

        Args:
            engine: that of the run, its data still on the host.
            members: how many.
            budget: member-steps of the whole run, for the cost model.
            storage: keeps members on the `device` or the `host`; `auto`: where they fit.
            choices: made by an earlier run, or None to try out what is fastest where that pays.
            share: part of the swarm that will be kept here, of which memory is needed.
            even: as of `Choices`, where none are given.
            report: told in one line what was decided, as it happens.
        """
        self.choices = choices or Choices(even=even)
        self.free, self.report = choices is None, report
        self.mesh = placement.make_mesh()
        self.engine = engine._replace(data=lanes.place_data(engine.data, self.mesh))
        self.homes = Homes()
        self.store = Store(self.mesh, self.choices.costs.chunk)
        self._members, self._budget, self._storage, self._share = members, budget, storage, share
        self._largest = members
        self._seconds: dict[Any, float] = {}
        self._layouts: dict[tuple[Any, int], Layout] = {}
        self._compiling: dict[Any, Future[None]] = {}
        self.failed: dict[Any, str] = {}

    def check_memory(self, genome: Genome) -> None:
        """Raises InputError if a swarm of these genes does not fit; nothing of it is compiled."""
        found, _ = architectures(self.engine.recipe.space, genome)
        family = self.engine.recipe.family

        def larger(a, b):
            return family.cover(a, b) or max(a, b, key=family.parameters)

        try:
            largest = reduce(larger, map(family.contain, found))
            self._reckon({largest: self._members})
        except InputError:
            # Too pessimistic, perhaps: everyone as large as the largest.
            _, _, sizes = self._plan_cohorts(genome)
            self._reckon(sizes)

    def prepare(self, genome: Genome) -> None:
        """Decides which programs there will be and where members are kept; begins to compile.

        Raises:
            InputError: the swarm does not fit into memory.
        """
        found, cohorts, sizes = self._plan_cohorts(genome)
        if cohorts.containers == self.homes.containers:
            return
        self.homes = following.begun(cohorts.containers, self._budget)
        self._seconds = cohorts.training
        self._largest = math.ceil(self._share * max(sizes.values()))
        devices = self._choose_devices(genome)
        need, host = self._reckon(sizes)
        layout = placement.make_layout(self._largest, self.mesh)
        self.store = self.store._replace(lane=layout.chunk * layout.chunks, host=host)
        self.report(decisions.programs_line(found, len(sizes), cohorts, self.choices.costs))
        self.report(decisions.devices_line(*devices, host, need._asdict()))
        self._layouts = {}
        self._compile({box: self.layout(box, 1, genome) for box in sizes})

    def containers(self, genome: Genome) -> dict[Architecture, Any]:
        """Where the architectures of these genes `[N]` go."""
        return following.containers(self.engine.recipe, self.homes, genome)

    def follow(self, genome: Genome, steps: Array) -> None:
        """Decides anew for a round with these genes `[N]` and grants `[N]`, where that pays."""
        before, homes = self.homes, self.followed(self.homes, genome, steps)
        if homes.containers != before.containers:
            self.report(decisions.followed_line(before, homes))
        self.adopt(homes)

    def followed(self, homes: Homes, genome: Genome, steps: Array) -> Homes:
        """Where networks are trained after `homes` of the round before; compiles nothing."""
        if not self.choices.follows:
            return homes
        recipe, batch = self.engine.recipe, self.engine.task.batch
        return following.follow(homes, recipe, batch, self.choices.costs, genome, steps)

    def adopt(self, homes: Homes) -> None:
        """Trains in `homes` from now on, and begins to compile programs that are new."""
        new = [box for box in homes.known if box not in self.homes.known]
        self.homes = homes
        for container in new:
            # As everyone who repeats the run lays it out: nothing is tried out.
            self._layouts[container, 1] = layout = self._usual_layout(container)
            self.report(decisions.compiling_line(container, layout, ""))
        self._compile({box: self._layouts[box, 1] for box in new})

    def _compile(self, layouts: Mapping[Any, Layout]) -> None:
        pool = ThreadPoolExecutor(max(2, self.mesh.size))
        for container, layout in layouts.items():
            job = pool.submit(lanes.compile_lane, self.engine, layout, container)
            self._compiling[container] = job
        pool.shutdown(wait=False)

    def layout(self, container: Any, share: int, genome: Genome) -> Layout:
        """The layout of members of one container whose batch `share` devices share."""
        if (container, share) not in self._layouts:
            if share > 1:
                # Few members are worth several devices each: they train one after the other.
                mesh = placement.make_mesh(share, list(self.mesh.devices.flat))
                layout, why = placement.make_layout(self._largest, mesh, chunk=1), ""
            else:
                layout = self._usual_layout(container)
                chunk, why = self._chunk(container, layout, genome)
                layout = placement.make_layout(self._largest, self.mesh, chunk)
            self._layouts[container, share] = layout
            self.report(decisions.compiling_line(container, layout, why))
        return self._layouts[container, share]

    def wait(self, container: Any) -> None:
        """Waits until the program that began to compile is ready."""
        if container in self._compiling:
            # If that failed, it fails again in use, where it is told apart from a want of memory.
            self._compiling[container].exception()

    def retire(self) -> None:
        """Tells of programs that failed since, and uses them no more."""
        for container, error in self.failed.items():
            self.report(decisions.retired_line(container, error))
            self.choices = self.choices._replace(retired=(*self.choices.retired, str(container)))
        self.failed.clear()

    def retired(self, container: Any) -> bool:
        """Whether the program of `container` is used no more."""
        return str(container) in self.choices.retired

    def _choose_devices(self, genome: Genome) -> tuple[int, int, str, str]:
        """Settles on some of the devices, before anything is kept there.

        Returns how many, of how many, of what platform, and why.
        """
        everyone, why = jax.local_devices(), ""
        if self.free and self.choices.devices is None:
            container = max(self._seconds, key=self._seconds.__getitem__)
            layout = self._usual_layout(container)
            count, why = trial.choose_devices(
                self.engine, container, layout, genome, self._seconds[container],
                self.choices.costs,
            )  # fmt: skip
            self.choices = self.choices._replace(devices=count)
        count = min(self.choices.devices or len(everyone), len(everyone))
        if count != self.mesh.size:
            self.mesh = placement.make_mesh(devices=everyone[:count])
            data = lanes.place_data(self.engine.data, self.mesh)
            self.engine = self.engine._replace(data=data)
            self.store = self.store._replace(mesh=self.mesh)
        return count, len(everyone), everyone[0].platform, why

    def _usual_layout(self, container: Any) -> Layout:
        state = capacity.trained_bytes(self.engine.recipe, container)
        platform = self.mesh.devices.flat[0].platform
        deep = _varies_in_depth(self.engine.recipe)
        usual = placement.usual_chunk(state, platform, self.choices.even, deep)
        return placement.make_layout(self._largest, self.mesh, usual)

    def _chunk(self, container: Any, layout: Layout, genome: Genome) -> tuple[int, str]:
        chosen = self.choices.chunks.get(str(container))
        if chosen is not None or not self.free:
            return chosen or layout.chunk, ""
        seconds = self._seconds.get(container, 0.0)
        platform = self.mesh.devices.flat[0].platform
        tried = placement.chunks(platform, self.choices.even, _varies_in_depth(self.engine.recipe))
        chunk, why = trial.choose_chunk(
            self.engine, container, layout, genome, seconds, self.choices.costs, tried
        )
        self.choices = self.choices._replace(chunks=self.choices.chunks | {str(container): chunk})
        return chunk, why

    def _plan_cohorts(self, genome: Genome) -> tuple[int, Cohorts, Mapping[Any, int]]:
        """How many architectures there are, their containers, and members of each container."""
        recipe, batch = self.engine.recipe, self.engine.task.batch
        found, index = architectures(recipe.space, genome)
        counts, each = np.bincount(index), self._budget / self._members
        loads = {a: Load(int(n), n * each) for a, n in zip(found, counts, strict=True)}
        if self.free and len(found) > 1 and self.choices.costs == Costs():
            matter = partial(depends_on_machine, recipe.family, loads, batch)
            self.choices = self.choices._replace(costs=trial.machine_costs(matter))
        cohorts = plan_cohorts(recipe.family, loads, batch, self.choices.costs)
        sizes: Counter[Any] = Counter()
        for architecture, load in loads.items():
            sizes[cohorts.containers[architecture]] += int(load.members)
        return len(found), cohorts, sizes

    def _reckon(self, sizes: Mapping[Any, int]):
        """The memory needed, and whether the host keeps members."""
        recipe, task = self.engine.recipe, self.engine.task
        need = capacity.reckon(recipe, task, sizes, self.mesh)
        members = math.ceil(self._share * self._members)
        host = capacity.choose_storage(need, members, self._storage, jax.local_devices())
        return need(members), host


def _varies_in_depth(recipe: Recipe) -> bool:
    """Whether some networks of the space may skip layers that others have."""
    gene = recipe.space["depth"] if "depth" in recipe.space.structural else None
    several = isinstance(gene, Choice) and len(gene.options) > 1
    return several and recipe.family.layers is not None
