"""Islands that go through the rounds of one swarm together, whoever is lost on the way.

Every round since the last checkpoint is remembered: its Plan, who trained whom, and where the
networks are that went from one island to another. An island that dies is made anew from the
checkpoint and goes through these rounds once more while the others go on; where a network on its
way was lost too, all of them do. An island refuses to train a round twice or out of turn, so that
nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np

from swarmjax import dealing, moving
from swarmjax.dealing import Order
from swarmjax.errors import InputError
from swarmjax.following import Homes
from swarmjax.island import Harvest
from swarmjax.island_protocol import Crew, Entry, IslandError, Lost, State
from swarmjax.members import Recipe
from swarmjax.moving import Crate
from swarmjax.naming import Named
from swarmjax.types import Genome

# A round is not tried more often: who fails so often fails always.
_ATTEMPTS = 20


class Convoy:
    """The islands of a run.

    `open` `[K]` says who takes part, `owner` `[N]` who holds each member, `begun` `[K]` how often
    each was begun, `repeated` how many finished rounds were trained once more each time, `first`
    what all are told first: choices, and genes by which programs are decided on; `homes` are those
    of the latest round.
    """

    def __init__(self, crew: Crew, recipe: Recipe, members: int, say: Callable[[str], None]):
        """Without islands; `say` is told in a line what becomes of them."""
        self._crew, self._recipe, self._say = crew, recipe, say
        self.open, self.begun = np.zeros(0, bool), np.zeros(0, np.int64)
        self.owner = np.zeros(members, np.int32)
        self.repeated: list[int] = []
        self.first: tuple[Any, Genome] | None = None
        self.homes = Homes()
        self.recall: Callable[[], Named | None] = lambda: None
        self._now: State | None = None
        self._log: list[Entry] = []
        self._pending: dict[Any, int] = {}
        self._given: dict[int, list[Any]] = {}
        self._stranded: set[int] = set()
        self._found: dict[int, Harvest] = {}
        self._coming: dict[Any, int] = {}

    @property
    def islands(self) -> list[int]:
        """Numbers of those that take part."""
        return np.flatnonzero(self.open).tolist()

    def join(self) -> int:
        """Begins one more island; its number.

        Raises:
            InputError: there would not be a member for each.
        """
        if self.vacant < 1:
            raise InputError(f"{len(self.owner)} members are not enough for one more island")
        island = self._begin()
        if self.first is not None:
            self.equip(island)
        self._open(island)
        return island

    def invite(self) -> int:
        """Begins one more island, for which nobody waits; its number. See `welcome`."""
        island = self._begin()
        self._coming[self.equip(island)] = island
        return island

    def welcome(self) -> list[int]:
        """The islands that were invited and are ready: they take part from now on."""
        ready = []
        for reference, island in list(self._coming.items()):
            answer = self._crew.answered(reference, island)
            if answer is not None:
                del self._coming[reference]
            if isinstance(answer, Lost):
                self._crew.dismiss(island)
            elif answer is not None:
                self._open(island)
                ready.append(island)
        return ready

    @property
    def vacant(self) -> int:
        """How many islands more there may be."""
        return len(self.owner) - len(self.islands) - len(self._coming)

    def _begin(self) -> int:
        self.open, self.begun = np.append(self.open, False), np.append(self.begun, 1)
        island = len(self.open) - 1
        self._crew.hire(island)
        return island

    def _open(self, island: int) -> None:
        self.open[island] = True
        if self._now is not None:
            self._hold(island, self._now, self.owner, None)

    def leave(self, island: int) -> None:
        """An island takes part no more, and is ended after the next round.

        Raises:
            InputError: it is the last one, or does not take part.
        """
        if island not in self.islands or len(self.islands) < 2:
            raise InputError(f"island {island} cannot leave; those there are: {self.islands}")
        self.open[island] = False

    def equip(self, island: int) -> Any:
        """Tells an island which programs there are; a reference to what it `Prepared`."""
        assert self.first is not None, "programs are decided on first"
        choices, genome = self.first
        self._crew.call(island, "settle", choices)
        return self._crew.call(island, "decide", genome)

    def saved(self, round: int) -> None:
        """There is a checkpoint of that round, which `recall` finds: nobody goes back beyond it."""
        self._log = [entry for entry in self._log if int(entry.frame.round) >= round]

    def begin(self, state: State, arrays: Named | None) -> None:
        """Every island holds what is its own of `arrays`, which a checkpoint kept."""
        self._now, self._log = state, []
        for island in self.islands:
            self._hold(island, state, self.owner, arrays)

    def packed(self, slots: np.ndarray) -> Iterator[list[Crate]]:
        """Copies of the networks in `slots` between two rounds, whoever is lost meanwhile.

        Raises:
            IslandError: an island fails again and again.
        """
        left, failures = np.asarray(slots), 0
        while len(left):
            island = int(self.owner[left[0]])
            there = self.owner[left] == island
            _, answer = self._crew.wait({self._crew.call(island, "pack", left[there]): island})
            if not isinstance(answer, Lost):
                yield answer
                left = left[~there]
            elif (failures := failures + 1) > _ATTEMPTS:
                raise IslandError(f"island {island} fails again and again: {answer.why}")
            elif not answer.again:
                self._replace(island, answer)
                self._gather()

    def _replace(self, island: int, lost: Lost) -> None:
        """Sees to it that the members of an island that is gone are held by somebody."""
        if lost.nowhere:
            self.open[island] = False
            self._rebuild(f"no host can run island {island}: others take its members")
        else:
            self._say(f"island {island} is gone ({lost.why}); it is made anew")
            self._revive(island)

    def train(self, entry: Entry, after: State) -> dict[int, Harvest]:
        """What each island brings in, after all have trained the next round."""
        self._log.append(entry)
        self.homes = entry.homes
        self.owner, self._now, self._found = entry.owner, after, {}
        self._set_out(entry, self.islands, range(len(self.open)), self.islands)
        self._gather()
        for island in set(np.flatnonzero(~self.open).tolist()) - set(self._coming.values()):
            self._crew.dismiss(island)
        return self._found

    def _set_out(
        self, entry: Entry, followers: Sequence[int], senders: Collection[int], to: Sequence[int]
    ) -> None:
        """Lets `followers` train a round; `senders` first send what those in `to` borrow."""
        orders = {k: self._order(entry, k) for k in (*followers, *to)}
        asked: dict[int, dict[int, np.ndarray]] = {}
        for k in to:
            for sender, slots in dealing.borrowed(orders[k], entry.held, k).items():
                if sender in senders:
                    asked.setdefault(sender, {})[k] = slots
        for sender, parts in asked.items():
            sent = self._crew.send(sender, int(entry.frame.round), list(parts.values()))
            entry.sent.update(zip([(sender, k) for k in parts], sent, strict=True))
        for k in followers:
            self._follow(entry, k, orders[k])

    def _order(self, entry: Entry, island: int) -> Order:
        return dealing.order_for(
            island, entry.owner, entry.plan, entry.line, entry.frame, entry.born, entry.homes
        )

    def _follow(self, entry: Entry, island: int, order: Order) -> None:
        senders = dealing.borrowed(order, entry.held, island)
        given = [entry.sent[sender, island] for sender in senders]
        reference = self._crew.call(island, "follow", order, *given)
        if entry is self._log[-1]:
            self._pending[reference], self._given[island] = island, given

    def _gather(self) -> None:
        """Waits until every island has trained the latest round, whatever happens to it."""
        failures = 0
        while self._pending or (self._log and set(self.islands) - set(self._found)):
            if not self._pending:
                self._rebuild("networks on their way are lost")
            reference, answer = self._crew.wait(self._pending)
            island = self._pending.pop(reference)
            if not isinstance(answer, Lost):
                self._found[island] = answer
                continue
            if (failures := failures + 1) > _ATTEMPTS:
                raise IslandError(f"island {island} fails again and again: {answer.why}")
            self._mend(island, answer)

    def _mend(self, island: int, lost: Lost) -> None:
        """Sees to it that an island trains the latest round all the same."""
        if lost.nowhere or lost.gone:
            self._replace(island, lost)
        elif lost.again:
            self._follow(self._log[-1], island, self._order(self._log[-1], island))
        else:
            self._stranded.add(island)
        self._relieve()

    def _relieve(self) -> None:
        """Lets go on who lacked something that was sent anew meanwhile."""
        for island in sorted(self._stranded):
            order = self._order(entry := self._log[-1], island)
            senders = dealing.borrowed(order, entry.held, island)
            if [entry.sent[k, island] for k in senders] != self._given[island]:
                self._stranded.discard(island)
                self._follow(entry, island, order)

    def _revive(self, island: int) -> None:
        """Makes an island anew: it begins with the checkpoint and repeats the rounds since."""
        self._crew.hire(island)
        self.begun[island] += 1
        self.equip(island)
        self._repeat([island])

    def _rebuild(self, why: str) -> None:
        """All islands go back to the checkpoint, and repeat the rounds since."""
        self._say(f"{why}; all islands go back to the last checkpoint")
        self._pending.clear()
        self._stranded.clear()
        self._found = {}
        homes = [
            entry._replace(
                held=dealing.rehomed(entry.held, self.open),
                owner=dealing.rehomed(entry.owner, self.open), sent={},
            )
            for entry in self._log
        ]  # fmt: skip
        self._log, self.owner = homes, dealing.rehomed(self.owner, self.open)
        self._repeat(self.islands)

    def _repeat(self, islands: Sequence[int]) -> None:
        arrays = self.recall()
        if arrays is not None:
            self.saved(int(arrays["frame.round"]))
        state, owner = self._base()
        if state.round and (arrays is None or int(arrays["frame.round"]) != state.round):
            raise IslandError(
                f"an island is lost, and no checkpoint of round {state.round} is left"
            )
        self.repeated.append(max(len(self._log) - 1, 0))
        for island in islands:
            self._hold(island, state, owner, arrays if state.round else None)
        for entry in self._log:
            latest = entry is self._log[-1]
            late = [k for k in self.islands if k not in self._found] if latest else []
            self._set_out(entry, islands, islands, sorted({*islands, *late}))

    def _base(self) -> tuple[State, np.ndarray]:
        """Where the rounds that are remembered began, and who held whom."""
        if not self._log:
            assert self._now is not None, "a round was trained"
            return self._now, self.owner
        first = self._log[0]
        birth = np.asarray(first.frame.birth)
        return State(int(first.frame.round), first.frame.genome, birth), first.held

    def _hold(self, island: int, state: State, owner: np.ndarray, arrays: Named | None) -> None:
        """Lets an island hold what was its own in a state."""
        crates: list[Crate] = []
        slots = np.flatnonzero(owner == island) if arrays is not None else np.zeros(0, np.int64)
        if arrays is not None and len(slots):
            crates = list(moving.crates_of(self._recipe, self.homes, state.genome, arrays, slots))
        birth = np.asarray(state.birth)[slots]
        self._crew.call(island, "hold", state.round, slots, birth, crates)
