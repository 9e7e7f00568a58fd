"""One swarm over many islands: a Plan is cut up for them, and what they bring in put together.

The controller holds no weights. To everyone else it is a trainer like the local one, and members
are the same to the last bit wherever they train.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import jax
import numpy as np
import pyarrow as pa

from swarmjax import anomaly, curves, dealing, descent, moving, telemetry
from swarmjax.containers import candidates_of
from swarmjax.convoy import Convoy
from swarmjax.decisions import followed_line
from swarmjax.following import Homes, follow
from swarmjax.frames import flags_of, frame_after
from swarmjax.island import Harvest, Prepared, Settings
from swarmjax.island_protocol import Crew, Entry, IslandError, Lost, State
from swarmjax.members import Network
from swarmjax.naming import Named
from swarmjax.planner import Choices
from swarmjax.rescue import ProgramError
from swarmjax.swarm import empty_swarm
from swarmjax.types import Frame, Genome, Plan

# Weight of the last round in the measured speed of an island.
_NEW = 0.3


class Archipelago:
    """The trainer of all islands, with what `train.LocalTrainer` has.

    `convoy` are the islands; `harvests` what each brought in last.
    """

    def __init__(
        self,
        crew: Crew,
        settings: Settings,
        islands: int,
        choices: Choices | None = None,
        notes: Sequence[str] = (),
    ):
        """Begins all islands; nothing is compiled or trained before the first round.

        Args:
            crew: runs them.
            settings: that they share.
            islands: how many.
            choices: made by an earlier run, or None to try out what is fastest on the first island.
            notes: to be told as soon as somebody listens.
        """
        self.recipe, self.choices = settings.recipe, choices or Choices()
        self._crew, self._settings, self._free = crew, settings, choices is None
        self._notes, self._tell, self.report = list(notes), None, lambda text: None
        self.convoy = Convoy(crew, settings.recipe, settings.members, self.say)
        self.convoy.owner = dealing.blocks(settings.members, islands)
        self._pace, self._seen = np.zeros(0), np.zeros(0, np.int64)
        self._books = empty_swarm(settings.members)
        self.harvests: dict[int, Harvest] = {}
        self._steps = np.zeros(settings.members, np.int32)
        self.flags, self.measured = anomaly.silent(settings.members), {}
        nobody = np.zeros(settings.members, np.int32)
        self.shown = curves.rows(settings.recipe, settings.wanted, [], nobody, ())
        for _ in range(islands):
            self.convoy.join()

    @property
    def tell(self) -> Callable[[str], None] | None:
        """Told in a line what becomes of islands, and at once what was said before."""
        return self._tell

    @tell.setter
    def tell(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        while self._notes:
            tell(self._notes.pop(0))

    def say(self, text: str) -> None:
        """Tells of islands in a line."""
        self._notes.append(text)
        if self._tell is not None:
            self.tell = self._tell

    def check_memory(self, genome: Genome) -> None:
        """Every island does that when it prepares."""

    def decide_freely(self) -> None:
        """What nothing was decided on yet is decided when it is met, without trying out."""

    def prepare(self, genome: Genome) -> None:
        """Lets the first island decide on programs; then all of them begin to compile.

        Raises:
            InputError: the swarm does not fit into their memory.
        """
        islands = self.convoy.islands
        if self._free:
            call = self._crew.call(islands[0], "decide", genome)
            self.choices = self._answers({call: islands[0]})[0].choices
        self.convoy.first = self.choices, genome
        prepared = self._answers({self.convoy.equip(island): island for island in islands})
        self.convoy.homes = prepared[0].homes
        for note in prepared[0].notes:
            self.report(note)

    def _answers(self, pending: dict[Any, int]) -> list[Prepared]:
        """What islands answer while nothing is trained, in their order."""
        answers, order = {}, list(pending)
        while pending:
            reference, answer = self._crew.wait(pending)
            island = pending.pop(reference)
            if isinstance(answer, Lost):
                raise IslandError(f"island {island} cannot begin: {answer.why}")
            answers[reference] = answer
        return [answers[reference] for reference in order]

    def round(self, plan: Plan, frame: Frame) -> Frame:
        """Follows `plan` from the state that `frame` showed, and shows the state afterwards."""
        plan = jax.tree.map(np.asarray, plan)
        if self._books.births == 0:
            self.prepare(plan.genome)
        self._free = False
        self._welcome()
        frame = frame._replace(birth=self._books.birth)
        line = descent.descent(self.recipe, frame.genome, plan)
        born = descent.numbered(self._books.birth, self._books.births, line.newborn)
        homes = self._followed(plan)
        owner = self._dealt(plan, frame)
        entry = Entry(plan, frame, line, born, self.convoy.owner, owner, {}, homes)
        state = State(int(frame.round) + 1, plan.genome, born)
        self.harvests = self.convoy.train(entry, state)
        self._measure(plan, frame)
        self._steps = np.asarray(plan.steps)
        return self._merged(entry)

    def _followed(self, plan: Plan) -> Homes:
        """Where networks are trained in a round: perhaps not where they were before."""
        before, settings = self.convoy.homes, self._settings
        if not self.choices.follows:
            return before
        homes = follow(
            before, self.recipe, settings.task.batch, self.choices.costs, plan.genome, plan.steps
        )
        if homes.containers != before.containers:
            self.report(followed_line(before, homes))
        return homes

    def _welcome(self) -> None:
        """Begins islands on hosts that have joined; they take part once they are ready."""
        for island in self.convoy.welcome():
            self.say(f"island {island}, on a host that has joined, is ready")
        for _ in range(min(self._crew.newcomers(), self.convoy.vacant)):
            self.say(f"a host has joined: island {self.convoy.invite()} is begun there")

    def _dealt(self, plan: Plan, frame: Frame) -> np.ndarray:
        """Who trains each member from now on."""
        convoy = self.convoy
        self._grow()
        known = self._pace[np.isfinite(self._pace)]
        usual = float(np.median(known)) if len(known) else 1e-12
        pace = np.where(np.isfinite(self._pace), self._pace, usual)
        work, size = dealing.work_of(plan, frame), np.asarray(frame.bytes)
        owner = dealing.deal(convoy.owner, work, pace, size, convoy.open)
        if moved := int((owner != convoy.owner).sum()):
            counts = ", ".join(f"{k} has {(owner == k).sum()}" for k in convoy.islands)
            self.say(f"{moved} members go to other islands, of which {counts}")
        return owner

    def _grow(self) -> None:
        """Makes room for what is known of islands that have joined."""
        more = len(self.convoy.open) - len(self._pace)
        self._pace = np.append(self._pace, np.full(more, np.nan))
        self._seen = np.append(self._seen, np.zeros(more, np.int64))

    def _measure(self, plan: Plan, frame: Frame) -> None:
        """Learns how long an operation takes on each island."""
        work = dealing.work_of(plan, frame)
        for island, harvest in self.harvests.items():
            # Programs are compiled in the first round of a process.
            if self._seen[island] == self.convoy.begun[island]:
                found = harvest.seconds / work[harvest.slots].sum()
                before = self._pace[island]
                known = np.isfinite(before)
                self._pace[island] = (1 - _NEW) * before + _NEW * found if known else found
            self._seen[island] = self.convoy.begun[island]

    def _merged(self, entry: Entry) -> Frame:
        """The Frame of all members, from what their islands brought in."""
        plan, frame, line, members = entry.plan, entry.frame, entry.line, len(entry.born)
        found = [self.harvests[island] for island in sorted(self.harvests)]
        reports = [report for harvest in found for report in harvest.reports]
        step, slow = np.zeros(members, np.int32), np.zeros(members)
        retired = np.zeros(members, bool)
        for harvest in found:
            step[harvest.slots], slow[harvest.slots] = harvest.step, harvest.slow
            retired[harvest.slots] = harvest.retired
            for note in harvest.notes:
                self.report(note)
        lineage = np.where(line.fresh, entry.born, self._books.lineage[line.parent])
        births = self._books.births + int(line.newborn.sum())
        self._books = self._books._replace(
            birth=entry.born, lineage=lineage, step=step, births=births
        )
        self.flags, self.measured = flags_of(reports, members), {"slow": slow}
        wanted = self._settings.wanted
        networks = self.networks(wanted.traced if wanted.parameters else (), plan.genome)
        self.shown = curves.rows(self.recipe, wanted, reports, np.asarray(plan.steps), networks)
        after = frame_after(
            self.recipe, self._settings.task, self._books, plan, frame, reports, self.flags,
            self.measured,
        )  # fmt: skip
        self._retire(after, retired)
        return after

    def _retire(self, frame: Frame, retired: np.ndarray) -> None:
        """Ends the networks whose program fails, now and from now on."""
        failed = dict.fromkeys(n for h in self.harvests.values() for n in h.choices.retired)
        frame.alive[retired] = False
        if retired.any() and not frame.alive.any():
            raise ProgramError(f"no program trains, on any island: {', '.join(failed)}")
        self.choices = self.choices._replace(retired=tuple(failed))

    def table(self) -> pa.Table:
        """What each island did in the last round, as `telemetry.island_table`."""
        steps, rows = self._steps, []
        for island, harvest in sorted(self.harvests.items()):
            arrived, size = harvest.arrived
            rows.append({
                "round": harvest.round, "island": island, "host": harvest.host,
                "pid": harvest.pid, "members": len(harvest.slots),
                "steps": int(steps[harvest.slots].sum()), "seconds": harvest.seconds,
                "arrived": arrived, "arrived_bytes": size, "begun": self.convoy.begun[island],
                **harvest.used, **harvest.stamp._asdict(),
            })  # fmt: skip
        return telemetry.island_table(rows)

    def network(self, slot: int, genome: Genome) -> Network:
        """A copy of the network in `slot`; `genome` is the swarm's."""
        return next(self.networks([slot], genome))[1]

    def networks(self, slots: Sequence[int], genome: Genome) -> Iterator[tuple[int, Network]]:
        """Every one of `slots`, all different, with a copy of its network, in any order."""
        for crate in chain.from_iterable(self.convoy.packed(np.asarray(slots, np.int64))):
            for i, slot in enumerate(crate.slots.tolist()):
                member = jax.tree.map(lambda leaf, i=i: np.array(leaf[i]), crate.members)
                genes: Genome = {name: np.asarray(v)[slot] for name, v in genome.items()}
                yield slot, Network(crate.container, member, genes)

    def boxes(self, genes: Genome) -> list[Any]:
        """As of `LocalTrainer`."""
        return candidates_of(self.recipe, self.convoy.homes, genes)

    def arrays(self) -> Named:
        """A copy of all that the next round begins with, whoever holds it."""
        everyone = np.arange(len(self.convoy.owner))
        crates = list(chain.from_iterable(self.convoy.packed(everyone)))
        return moving.arrays_of(self._books, crates)

    def take_up(self, plans: Sequence[Plan], genome: Genome, arrays: Named) -> None:
        """Takes up what another trainer of the same run held, as `LocalTrainer.take_up`."""
        self._free = False
        self.prepare(plans[0].genome)
        for plan in plans:
            self.convoy.homes = self._followed(plan)
        names = ("birth", "lineage", "step")
        books = {name: np.array(arrays[f"swarm.{name}"]) for name in names}
        self._books = self._books._replace(births=int(arrays["swarm.births"]), **books)
        state = State(int(arrays["frame.round"]), genome, self._books.birth)
        self.convoy.begin(state, arrays)

    def close(self) -> None:
        """Ends all islands."""
        self._crew.close()
