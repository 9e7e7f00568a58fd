"""Reads a run directory, once or following it: one feed per server process for every open page."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from swarmjax.events import Event
from swarmjax.ledger import STEERABLE, Entry
from swarmjax.store import Status
from swarmjax.stored import Reader, open_run
from swarmjax.types import InputError
from viz import pacing
from viz.history import Columns, History, Migration
from viz.made import Made
from viz.reading import Stored, Windows

SILENCE = 30.0
# More than these are not kept; the database has them all.
MAX_EVENTS, MAX_ASKED = 5000, 200

# As the policy `swarmjax.topology.migrate` is called.
_MIGRATES = re.compile(r"\bmigrate\((\d{1,9}), topology='\w+', every=([1-9]\d{0,8}),")

log = logging.getLogger(__name__)


class Snapshot(NamedTuple):
    """What a page shows.

    Attributes:
        version: grows with every change.
        history: the rounds so far, None before the first.
        status: the run's own account, None before its first.
        state: waiting, running, paused, finished, stopped, failed, silent (going on by its own
            account, but without a sign of life) or unreadable.
        note: one sentence on the state, empty when there is nothing to add.
        derived: what `derive` made of the history.
        events: the latest events, at most `MAX_EVENTS`.
        directives: the latest things that were asked of the run, at most `MAX_ASKED`.
        islands: what each island did in the latest round, see `swarmjax.telemetry`; None without.
        layers: of every architecture so far, see `swarmjax.telemetry`; None where none is told of.
        beside: the trainer needs the cores of this machine, which pages should leave to it.
    """

    version: int
    history: History | None
    status: Status | None
    state: str
    note: str
    derived: Any = None
    events: tuple[Event, ...] = ()
    directives: tuple[Entry, ...] = ()
    islands: pd.DataFrame | None = None
    layers: pd.DataFrame | None = None
    beside: bool = False


class Feed:
    """Reads what is new in a run directory and keeps it for all sessions, and what is `made` of it.

    Args:
        directory: the run directory.
        derive: called in the reading thread with a new history and what it returned before;
            what it returns is shown together with that history.

    Raises:
        InputError: the directory holds no run.
    """

    def __init__(
        self, directory: str | Path, derive: Callable[[History, Any], Any] = lambda *_: None
    ):
        self._reader = open_run(directory)
        self._derive = derive
        self._stop, self.made = threading.Event(), Made()
        self._refused: dict[int, str] = {}
        # The latest round, as it is kept once another follows it.
        self._last: list[Stored] = []
        self.snapshot = Snapshot(0, None, None, "waiting", "")

    @property
    def directory(self) -> Path:
        """The run's directory."""
        return self._reader.directory.resolve()

    @property
    def name(self) -> str:
        """The name of the run's directory."""
        return self.directory.name

    @property
    def config(self) -> dict:
        """The run's own description."""
        return self._reader.config

    @property
    def cells(self) -> int:
        """Members times rounds that are stored."""
        numbers = self._reader.rounds()
        return len(numbers) * self._reader.rows_of(numbers[-1]) if numbers else 0

    def windows(self) -> Windows | None:
        """What reads the run's windows of training; None if it keeps none."""
        return Windows(self._reader) if self.config.get("window") else None

    def start(self, interval: float = 0.5) -> None:
        """Polls in a thread, every `interval` seconds unless a training needs the machine."""
        threading.Thread(target=self._follow, args=(interval,), daemon=True, name="feed").start()

    def close(self) -> None:
        """Stops polling."""
        self._stop.set()

    def poll(self) -> None:
        """Takes in what is new; trouble in reading becomes the snapshot's state."""
        old = self.snapshot
        try:
            fresh = self._look(old)
        except Exception as error:  # Whatever the disk holds, the pages must stay up.
            fresh = old._replace(state="unreadable", note=f"cannot read the run: {error}")
            if fresh.note != old.note:
                # Damage is told of in a line; what else goes wrong is a fault of this program.
                log.warning("%s", fresh.note, exc_info=not isinstance(error, InputError))
        if fresh != old:
            self.snapshot = fresh._replace(version=old.version + 1)

    def _follow(self, interval: float) -> None:
        pause = interval
        while not self._stop.wait(pause):
            begun = time.monotonic()
            self.poll()
            pause = max(interval, pacing.rest(time.monotonic() - begun, self.snapshot.beside))

    def _look(self, old: Snapshot) -> Snapshot:
        status = _status(self._reader)
        history = self._extend(old.history)
        derived, islands, layers = old.derived, old.islands, old.layers
        beside = old.beside
        if history is not None and history is not old.history:
            beside = pacing.needed(self._reader, int(history.rounds[-1]))
            derived = self._derive(history, derived)
            islands = _islands(self._reader, int(history.rounds[-1]))
            layers = _layers(self._reader, layers)
        state, note = judge(status, history is not None, time.time())
        if state == "failed":
            note = _reason(self._reader) or note
        if self._refused:
            last = max(self._refused)
            note = f"{len(self._refused)} rounds refused; round {last}: {self._refused[last]}"
        events = old.events
        if fresh := self._reader.events(events[-1].id if events else 0):
            events = (*events, *fresh)[-MAX_EVENTS:]
        asked = tuple(self._reader.directives(MAX_ASKED))
        return Snapshot(
            old.version, history, status, state, note, derived, events, asked, islands, layers,
            beside and state == "running",
        )  # fmt: skip

    def _extend(self, history: History | None) -> History | None:
        """The history with the stored rounds that it lacks; itself when there are none."""
        since = 1 + max(int(history.rounds[-1]) if history else -1, *self._refused, -1)
        frames: list[Columns] = [*history.frames[:-1], *self._last] if history else []
        fresh = []
        for number in [number for number in self._reader.rounds() if number >= since]:
            frame = Stored(self._reader, number)
            if problem := frame.problem(frames[0] if frames else None):
                self._refused[number] = problem
            else:
                frames.append(frame)
                fresh.append(frame)
        if not fresh:
            return history
        # Of the latest round much is shown; of the others, few columns.
        self._last, frames[-1] = fresh[-1:], fresh[-1].whole()
        latest = described(self._reader, frames[-1])
        growing = history.growing if history else None
        migration = migration_of(self.config)
        return History(self._reader.space, tuple(frames), latest, growing, migration)


def read(directory: str | Path) -> History:
    """The whole history of a run, for the plots of this package, as in a notebook.

    Raises:
        InputError: the directory holds no run, or none of its rounds can be shown.
    """
    with contextlib.closing(open_run(directory)) as reader:
        frames: list[Columns] = []
        for number in reader.rounds():
            frame = Stored(reader, number)
            if not frame.problem(frames[0] if frames else None):
                frames.append(frame.whole())
        if not frames:
            raise InputError(f"{directory} has no round that can be shown; look at its events")
        latest, migration = described(reader, frames[-1]), migration_of(reader.config)
        return History(reader.space, tuple(frames), latest, migration=migration)


def migration_of(config: dict) -> Migration | None:
    """How the policy of a run lets elites migrate; None where it does not."""
    found = _MIGRATES.search(str(config.get("policy")))
    return Migration(int(found[1]), int(found[2])) if found else None


def described(reader: Reader, frame: Columns) -> np.ndarray | None:
    """`History.descriptor` for the networks of a round, as far as they were described last."""
    found = reader.descriptors()
    if found is None or len(found[1]) != len(frame["birth"]):
        return None
    same = (found[1] == frame["birth"])[:, None, None]
    return np.where(same, found[2], np.nan).astype(np.float32)


def judge(status: Status | None, has_rounds: bool, now: float) -> tuple[str, str]:
    """State and note of a run, by its own account at wall-clock second `now`."""
    if status is None:
        return "waiting", ""
    silence = now - status.heartbeat
    if status.state in STEERABLE and silence > SILENCE:
        return "silent", "no sign of life from the trainer; it may have been killed"
    if status.state == "running" and not has_rounds:
        return "waiting", ""
    return status.state, ""


def _status(reader: Reader) -> Status | None:
    try:
        return reader.status()
    except InputError:
        return None


def _islands(reader: Reader, round: int) -> pd.DataFrame | None:
    """What islands did in a round, or the last before it that is told of."""
    try:
        rows = reader.summaries("islands", max(round - 1, 0)).to_pandas()
    except InputError:
        return None
    return rows[rows["round"] == rows["round"].max()].reset_index(drop=True)


def _layers(reader: Reader, known: pd.DataFrame | None) -> pd.DataFrame | None:
    """The layers of all architectures, those that are `known` and those that came since."""
    since = 0 if known is None else int(known["round"].to_numpy().max()) + 1
    try:
        fresh = reader.summaries("layers", since).to_pandas()
    except InputError:
        return known
    if fresh.empty:
        return known
    return fresh if known is None else pd.concat([known, fresh], ignore_index=True)


def _reason(reader: Reader) -> str:
    texts = [event.text for event in reader.events() if event.kind == "failed"]
    return texts[-1] if texts else ""
