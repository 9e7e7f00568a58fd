"""The run directory: numbers as Parquet segments, everything said as one SQLite database.

    DIR/swarm.db                 meta, plans, events, directives (SQLite, WAL; see `ledger`),
                                 summaries of rounds (see `SUMMARIES`), and what nodes showed
    DIR/frames/r000012.parquet   one row per member of round 12; columns of all tables: `telemetry`
    DIR/windows/                 segments (see `segments`): every member's training, some steps at a
                                 time
    DIR/coarse/                  segments: the same, `levels.FACTOR` windows at a time
    DIR/steps/                   segments: every step of the members that are traced
    DIR/parameters/              segments: their parameters, round by round
    DIR/best.npz                 the best network so far: one array per parameter path, and as text
                                 under `RECORD` its genes, scores and origin
    DIR/descriptors.npz          what every network made of the probes in the latest round

A segment is written aside and renamed, so a reader sees it whole or not at all, and a killed run
leaves everything that finished readable.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from swarmjax import events, ipc, ledger, levels, seals, segments, tenure
from swarmjax.dials import Dial
from swarmjax.space import Space
from swarmjax.types import Array, InputError

VERSION = 1
DATABASE = "swarm.db"
RECORD = ".record"
_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL, {seals.COLUMN});
CREATE TABLE plans (round INTEGER PRIMARY KEY, arrow BLOB NOT NULL, {seals.COLUMN});
{events.TABLE};
"""
_SUMMARIES = (
    "CREATE TABLE IF NOT EXISTS summaries "
    f"(kind TEXT, round INTEGER, arrow BLOB NOT NULL, {seals.COLUMN}, PRIMARY KEY (kind, round))"
)
_DIGESTS = (
    "CREATE TABLE IF NOT EXISTS digests "
    f"(round INTEGER PRIMARY KEY, bytes BLOB NOT NULL, {seals.COLUMN})"
)
_PARTS = (
    "CREATE TABLE IF NOT EXISTS parts "
    f"(round INTEGER PRIMARY KEY, frame BLOB NOT NULL, {seals.COLUMN})"
)
# Tables that are kept as segments, and those that are as small as a few rows a round.
SEGMENTS = "windows", "steps", "parameters"
SUMMARIES = "usage", "quantiles", "layers", "islands"
COARSE = "coarse"


class Status(NamedTuple):
    """How a run stands.

    Attributes:
        state: running, paused, finished, stopped or failed.
        round: finished rounds.
        done: member-steps taken.
        budget: member-steps in all.
        best: best fitness metric so far, or None.
        alive: members still finite.
        members: members in all.
        heartbeat: wall-clock seconds of the last sign of life.
        lineages: ancestors that the living descend from, or None.
    """

    state: str
    round: int
    done: int
    budget: int
    best: float | None
    alive: int
    members: int
    heartbeat: float
    lineages: int | None = None


class Writer:
    """The one writer of a run directory; made by `create`.

    `rounds` are stored so far; in `ledger` others ask for something.
    """

    def __init__(self, directory: Path, database: sqlite3.Connection, held: int | None = None):
        self.directory, self.rounds = directory, 0
        self._database, self._held = database, held
        # Cohorts report from several threads, which one transaction must not mix.
        self._lock = threading.Lock()
        self.ledger = ledger.Ledger(database, self._lock)

    def frame(self, round: int, table: pa.Table) -> None:
        """Stores the rows of one finished round."""
        path = self.directory / "frames" / f"r{round:06d}.parquet"
        segments.save(path, table)
        self.rounds = round

    def rows(self, kind: str, round: int, table: pa.Table) -> None:
        """Stores what a round showed beside its Frame; `kind` is one of `SEGMENTS`.

        Of windows the oldest that exceed the GiB to `retain` are kept at the coarser level alone.
        """
        folder = self.directory / kind
        if table.num_rows:
            segments.write(folder, round, round, table)
        if round % segments.ROUNDS == 0 and folder.exists():
            before = self._coarse if kind == "windows" else segments.forget
            segments.compact(folder, segments.ROUNDS, before)
            if kind == "windows":
                segments.thin(folder, self._most_bytes())

    def summary(self, kind: str, round: int, table: pa.Table) -> None:
        """Stores a few rows about a round; `kind` is one of `SUMMARIES`."""
        blob = ipc.to_bytes(table)
        # Runs of earlier versions have no such table.
        self._execute(_SUMMARIES, ())
        row = seals.sealed(kind, round, blob)
        self._execute("REPLACE INTO summaries VALUES (?, ?, ?, ?)", row)

    def rewind(self, round: int) -> None:
        """Deletes what rounds after `round` showed beside their Frames."""
        fine = self.directory / "windows"
        for kind in SEGMENTS:
            segments.rewind(self.directory / kind, round)
        # Of these, coarse ones are made when they are put together again.
        begun = {segment.first for segment in segments.listed(fine)}
        segments.cut(self.directory / COARSE, round, begun.__contains__)
        self._execute(_SUMMARIES, ())
        self._execute("DELETE FROM summaries WHERE round > ?", (round,))

    def _most_bytes(self) -> float:
        with self._lock:
            row = self._database.execute("SELECT value FROM meta WHERE key = 'config'").fetchone()
        return json.loads(row[0]).get("retain", math.inf) * 2**30

    def _coarse(self, first: int, last: int, windows: pa.Table) -> None:
        segments.write(self.directory / COARSE, first, last, levels.coarsen(windows))

    def plan(self, round: int, table: pa.Table) -> None:
        """Stores the Plan that a round is about to follow."""
        row = seals.sealed(round, ipc.to_bytes(table))
        self._execute("INSERT INTO plans VALUES (?, ?, ?)", row)

    def event(
        self,
        round: int,
        kind: str,
        text: str,
        member: int | None = None,
        value: float | None = None,
        threshold: float | None = None,
    ) -> None:
        """Stores one event, stamped with the wall clock; `events.Event` says what belongs to it."""
        row = events.sealed(time.time(), round, kind, member, text, value, threshold)
        self._execute(events.INSERT, row)

    def last_event(self) -> int:
        """The number of the latest event; 0 before there is one."""
        with self._lock:
            return self._database.execute("SELECT ifnull(max(id), 0) FROM events").fetchone()[0]

    def forget(self, after: int, kinds: Sequence[str]) -> None:
        """Removes the events of these kinds whose number is greater than `after`."""
        marks = ", ".join("?" * len(kinds))
        self._execute(f"DELETE FROM events WHERE id > ? AND kind IN ({marks})", (after, *kinds))

    def digests(self, round: int, made: np.ndarray) -> None:
        """Stores `[N, 16]` bytes that tell the networks after a round from all others."""
        self._execute(_DIGESTS, ())
        row = seals.sealed(round, made.tobytes())
        self._execute("REPLACE INTO digests VALUES (?, ?, ?)", row)

    def part(self, round: int, frame: bytes) -> None:
        """Stores what the members that nodes train showed in a round, from `elsewhere.packed`."""
        self._execute(_PARTS, ())
        self._execute("REPLACE INTO parts VALUES (?, ?, ?)", seals.sealed(round, frame))

    def status(self, status: Status) -> None:
        """Stores how the run stands now."""
        self._put("status", status._asdict())
        self.beat()
        if status.state not in ledger.STEERABLE:
            self.ledger.close(status.round)

    def beat(self) -> None:
        """Stores a sign of life."""
        self._put("heartbeat", time.time())

    def ended(self, state: str, text: str) -> None:
        """Stores that the run ended as `state` and why, whatever its status was."""
        with self._lock:
            row = self._database.execute("SELECT value FROM meta WHERE key = 'status'").fetchone()
        status = Status(**json.loads(row[0]))
        self.event(status.round, state, text)
        self.status(status._replace(state=state))

    def descriptors(self, round: int, birth: Array, values: Array) -> None:
        """Stores `Frame.descriptor` `[N, P, C]` of the latest round, in place of the one before."""
        buffer = io.BytesIO()
        np.savez(buffer, round=round, birth=np.asarray(birth), values=np.asarray(values))
        segments.replace(self.directory / "descriptors.npz", buffer.getvalue())

    def best(self, params: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
        """Stores the best network so far: parameter path -> array, and its genes and scores."""
        buffer, text = io.BytesIO(), json.dumps(record, allow_nan=False)
        np.savez(buffer, **{**params, RECORD: np.asarray(text)})  # pyright: ignore[reportArgumentType]
        # One file: weights and genes of different networks can never meet.
        segments.replace(self.directory / "best.npz", buffer.getvalue())

    def engine(self, choices: Mapping[str, Any]) -> None:
        """Stores what was decided about speed, which a replay needs."""
        self._put("engine", choices)

    def steering(self, dials: Mapping[str, Dial], resizes: bool) -> None:
        """Stores what of the run can be steered, as in `steerable.Scene`."""
        self._put("steering", {"dials": dials, "resizes": resizes})

    def close(self) -> None:
        """Folds the write-ahead log into the database, closes it and lets others train here."""
        # On a full disk it stays as it is, and is read all the same.
        with contextlib.suppress(sqlite3.Error):
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _put(self, key: str, value: Any) -> None:
        self._execute("REPLACE INTO meta VALUES (?, ?, ?)", seals.sealed(key, json.dumps(value)))

    def _execute(self, statement: str, values: tuple[Any, ...]) -> None:
        with self._lock, self._database as database:
            database.execute(statement, values)


def create(directory: str | Path, config: Mapping[str, Any], space: Space) -> Writer:
    """Starts a run directory.

    Args:
        directory: may exist, but must not hold a run.
        config: JSON-ready description of the run.
        space: the genes of the run.

    Raises:
        InputError: the directory holds a run, or cannot be written.
    """
    directory = check_free(directory)
    try:
        for folder in (directory, directory / "frames"):
            folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, held := tenure.hold(directory))
            database = sqlite3.connect(directory / DATABASE, timeout=30, check_same_thread=False)
            undo.callback(database.close)
            database.execute("PRAGMA journal_mode=WAL")
            _begin(database, {"version": VERSION, "config": config, "space": space.to_json()})
            undo.pop_all()
    except (OSError, sqlite3.Error) as error:
        raise InputError(
            f"cannot write to {directory}: {error}; choose another --directory"
        ) from None
    return Writer(directory, database, held)


def _begin(database: sqlite3.Connection, said: dict[str, Any]) -> None:
    """Makes the tables and says what the run is, all at once: a killed process leaves no half."""
    members, budget = (int(said["config"].get(name, 0)) for name in ("members", "budget"))
    status = Status("running", 0, 0, budget, None, members, members, time.time())
    said |= {"status": status._asdict(), "heartbeat": status.heartbeat}
    with database:
        database.execute("BEGIN IMMEDIATE")
        for statement in (_TABLES + ledger.TABLE).split(";"):
            database.execute(statement)
        for key, value in said.items():
            row = seals.sealed(key, json.dumps(value))
            database.execute("INSERT INTO meta VALUES (?, ?, ?)", row)


def check_free(directory: str | Path) -> Path:
    """The directory as a path; raises InputError if it holds a run or is not writable."""
    directory = Path(directory)
    try:
        directory.joinpath(DATABASE).lstat()
        held = not _unbegun(directory / DATABASE)
    except (FileNotFoundError, NotADirectoryError):
        # Rounds without their database would be taken for rounds of the new run.
        kinds = ("frames", *SEGMENTS, COARSE)
        held = any(path for kind in kinds for path in directory.glob(f"{kind}/r*.parquet"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot use {directory}: {error}; choose another --directory") from None
    if held:
        raise InputError(
            f"{directory} already holds a run; choose another --directory, or delete it first"
        )
    existing = directory
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise InputError(f"{existing} is not a directory; choose another --directory")
    if not writable(existing):
        raise InputError(f"no permission to write to {existing}; choose another --directory")
    return directory


def _unbegun(path: Path) -> bool:
    """Whether a process was killed before it had said anything of its run."""
    with contextlib.suppress(sqlite3.Error):
        # So that a look leaves no files behind: what was committed is in no log, if there is none.
        logged = path.with_name(f"{DATABASE}-wal").exists()
        address = f"{path.resolve().as_uri()}?{'mode=ro' if logged else 'immutable=1'}"
        with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
            return database.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    return False


def writable(directory: Path) -> bool:
    """Whether this process may make files there."""
    effective = os.access in os.supports_effective_ids
    return os.access(directory, os.W_OK | os.X_OK, effective_ids=effective)


@contextlib.contextmanager
def reported(writer: Writer) -> Iterator[None]:
    """Writes down how a run that does not finish ended."""
    try:
        yield
    except BaseException as error:
        state = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
        with contextlib.suppress(Exception):
            writer.ended(state, f"{type(error).__name__}: {error}")
        raise


@contextlib.contextmanager
def alive(writer: Writer, seconds: float = 5.0) -> Iterator[None]:
    """Gives signs of life while a round or a compilation takes its time."""
    over = threading.Event()

    def beat():
        while not over.wait(seconds):
            # A sign of life that cannot be written now is written later; training goes on.
            with contextlib.suppress(sqlite3.Error):
                writer.beat()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
