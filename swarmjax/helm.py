"""A person at the helm: between rounds directives are taken from the ledger and heeded.

Whatever a row of the ledger holds, the run goes on: it is refused, and the reason written down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from swarmjax import fitness, steerable
from swarmjax.coming import Coming, Standing
from swarmjax.dials import Dial, at_rest
from swarmjax.errors import one_line
from swarmjax.heeding import Heeded, heed
from swarmjax.ledger import Entry, Ledger
from swarmjax.naming import Named, named, rebuilt
from swarmjax.obey import obey
from swarmjax.space import Space
from swarmjax.steerable import Scene
from swarmjax.steering import Directive, Note, Pause, Resume, Stop, Undo, decode, describe
from swarmjax.types import Frame, InputError, Plan

# Seconds between looks at the ledger while a run is paused.
_PATIENCE = 0.2
Tell = Callable[[str, int | None], None]


class Helm:
    """What was asked of a run, and what of it holds.

    Args:
        ledger: of the run.
        space: the genes.
        dials: numbers that may be turned.
        resizes: whether weights can be fitted to another structure.
        seed: of the run.
        goal: by which the worst give way; `fitness.default` where it is None.
        tell: told in words what was done, and on which member.
        announce: told the run's state when it is paused and when it goes on.
        leaving: whether the process is to end, however long the run is paused.
        nodes: as in `Scene`.
    """

    def __init__(
        self,
        ledger: Ledger,
        space: Space,
        dials: Mapping[str, Dial],
        resizes: bool,
        seed: int,
        goal: fitness.Goal | None,
        *,
        tell: Tell,
        announce: Callable[[str], None],
        leaving: Callable[[], bool] = lambda: False,
        nodes: int = 0,
    ):
        nobody = np.zeros(0, int)
        self._scene = Scene(space, dials, resizes, nobody, nobody.astype(bool), nodes)
        self._ledger, self._seed, self._goal = ledger, seed, goal or fitness.default
        self._tell, self._announce, self._leaving = tell, announce, leaving
        self._standing: Standing | None = None
        self._coming: Coming | None = None
        # Never taken twice, even where the ledger could not be written to.
        self._taken: set[int] = set()
        # What waits for the round, and what was done for it, by number.
        self._asked: dict[int, tuple[Entry, Directive]] = {}
        self._heeded: dict[int, Heeded] = {}
        self.paused = False
        self.stopped = ""

    def hear(self, frame: Frame) -> bool:
        """Takes what is asked of the round after `frame`, waits while paused; False: stop."""
        standing = self._begin(frame)
        for slot in standing.expire(frame):
            self._tell(f"what was asked for member {slot} ended with its network", slot)
        self._take(frame)
        while self.paused and not self.stopped and not self._leaving():
            time.sleep(_PATIENCE)
            self._take(frame)
        going = not self.stopped or int(frame.round) == 0
        if going:
            self._heed(frame)
        return going

    def seen(self, frame: Frame) -> Frame:
        """What the policy is shown: turned dials, and the dead-to-be as dead."""
        assert self._coming is not None and self._standing is not None, "hear comes first"
        ended = self._coming.asked.ended
        alive = frame.alive & ~ended if ended.any() else frame.alive
        return frame._replace(alive=alive, dials=self._standing.dials)

    def steer(self, plan: Plan, frame: Frame) -> Plan:
        """The Plan, on the host, as a person wants it; what was asked is now applied."""
        assert self._coming is not None, "hear comes first"
        wanted = obey(plan, frame, self._coming.orders())
        for id, heeded in self._heeded.items():
            changes = [
                f"member {slot} gets {wanted.steps[slot]} steps instead of {plan.steps[slot]}"
                for slot in heeded.slots
                if wanted.steps[slot] != plan.steps[slot]
            ]
            told = "; ".join(filter(None, [heeded.told, *changes]))
            self._heeded[id] = heeded._replace(told=told)
            self._settle(id, frame, heeded._replace(told=told))
        return wanted

    def report(self, before: Frame, after: Frame) -> None:
        """Completes what was told of the directives of the round between two Frames."""
        for id, heeded in self._heeded.items():
            born = [
                f"slot {slot} holds network {after.birth[slot]} now"
                for slot in heeded.slots
                if after.birth[slot] != before.birth[slot]
            ]
            if born:
                self._ledger.tell(id, "; ".join(filter(None, [heeded.told, *born])))
        self._asked.clear()
        self._heeded.clear()

    def orders(self) -> Named:
        """What holds from round to round, by name; nothing before anything was heard."""
        return {} if self._standing is None else named(vars(self._standing), "orders")

    def take_over(self, orders: Named, members: int) -> None:
        """Lets hold what `orders` of an earlier helm told, perhaps among others."""
        self._standing = Standing(members, at_rest(self._scene.dials))
        vars(self._standing).update(rebuilt(vars(self._standing), orders, "orders"))

    def _begin(self, frame: Frame) -> Standing:
        if self._standing is None:
            self._standing = Standing(len(frame.alive), at_rest(self._scene.dials))
        if frame.round > 0:
            birth, alive = np.asarray(frame.birth), np.asarray(frame.alive)
            self._scene = self._scene._replace(birth=birth, alive=alive)
        host: Any = jax.tree.map(np.asarray, frame)
        self._coming = Coming(self._scene, host, self._standing, self._seed, self._goal)
        return self._standing

    def _take(self, frame: Frame) -> None:
        """Takes what waits: what concerns the whole run is done at once, the rest in the round."""
        for entry in self._ledger.waiting(int(frame.round) + 1):
            if entry.id not in self._taken:
                self._taken.add(entry.id)
                self._tried(entry, frame, lambda entry=entry: self._sort(entry, frame))

    def _sort(self, entry: Entry, frame: Frame) -> None:
        directive = decode(entry.body)
        if isinstance(directive, Undo):
            directive = self._contrary(entry, directive, frame)
        if directive is None:
            return
        steerable.check(directive, self._scene)
        self._asked[entry.id] = entry, directive
        match directive:
            case Pause():
                self._pause(entry, frame, True)
            case Resume():
                self._pause(entry, frame, False)
            case Stop():
                self.stopped = entry.who
                self._settle(entry.id, frame, Heeded("the run ends"))
            case Note():
                self._settle(entry.id, frame, Heeded(""))

    def _contrary(self, entry: Entry, undo: Undo, frame: Frame) -> Directive | None:
        """What takes back a directive that was applied; None where it was only withdrawn."""
        target = self._ledger.entry(undo.id)
        if target is None or target.id == entry.id:
            raise InputError(f"there is no directive {undo.id}")
        if target.state == "queued":
            self._asked.pop(undo.id, None)
            self._taken.add(undo.id)
            self._ledger.settle(undo.id, "withdrawn", int(frame.round), f"withdrawn by {entry.who}")
            self._ledger.settle(entry.id, "applied", int(frame.round) + 1, "it was withdrawn")
            return None
        if target.state != "applied" or target.inverse is None:
            what = target.state if target.state != "applied" else "of a kind that stays done"
            raise InputError(f"directive {undo.id} cannot be undone: it is {what}")
        return decode(target.inverse)

    def _pause(self, entry: Entry, frame: Frame, paused: bool) -> None:
        if paused == self.paused:
            raise InputError(f"the run is {'paused' if paused else 'running'} already")
        self.paused = paused
        contrary = Resume() if paused else Pause()
        self._settle(entry.id, frame, Heeded("", contrary))
        self._announce("paused" if paused else "running")

    def _heed(self, frame: Frame) -> None:
        assert self._coming is not None, "hear begins with it"
        coming = self._coming
        for entry, directive in list(self._asked.values()):
            if not isinstance(directive, Pause | Resume | Stop | Note):
                self._tried(
                    entry, frame, lambda e=entry, d=directive: self._note(e, heed(d, coming))
                )

    def _note(self, entry: Entry, heeded: Heeded) -> None:
        self._heeded[entry.id] = heeded

    def _tried(self, entry: Entry, frame: Frame, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # A directive is never worth more than the run.
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            told = one_line(f"{kind}{error}")
            self._asked.pop(entry.id, None)
            self._ledger.settle(entry.id, "refused", int(frame.round) + 1, told)
            self._tell(f"directive {entry.id} of {entry.who} is refused: {told}", None)

    def _settle(self, id: int, frame: Frame, heeded: Heeded) -> None:
        entry, directive = self._asked[id]
        self._ledger.settle(id, "applied", int(frame.round) + 1, heeded.told, heeded.inverse)
        named = getattr(directive, "member", None)
        told = f": {heeded.told}" if heeded.told else ""
        slot = None if named is None else named.slot
        self._tell(f"{entry.who}: {describe(directive)}{told}", slot)
