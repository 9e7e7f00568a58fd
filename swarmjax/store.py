"""The run directory: numbers as Parquet segments, everything said as one SQLite database.

    DIR/swarm.db                 meta, plans, events, directives (SQLite, WAL; see `ledger`)
    DIR/frames/r000012.parquet   one row per member of round 12 (columns: `telemetry.frame_table`)
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
import os
import sqlite3
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swarmjax import ledger
from swarmjax.dials import Dial
from swarmjax.space import Space
from swarmjax.steerable import Scene
from swarmjax.types import Array, InputError

VERSION = 1
DATABASE = "swarm.db"
RECORD = ".record"
_TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE plans (round INTEGER PRIMARY KEY, arrow BLOB NOT NULL);
CREATE TABLE events (id INTEGER PRIMARY KEY, time REAL NOT NULL, round INTEGER NOT NULL,
                     kind TEXT NOT NULL, member INTEGER, text TEXT NOT NULL);
"""


class Event(NamedTuple):
    """Something that happened.

    `kind` is one of started, note, compiled, node, died, steered, best, finished, failed, or of
    `anomaly.KINDS`.
    """

    id: int
    time: float
    round: int
    kind: str
    member: int | None
    text: str


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

    def __init__(self, directory: Path, database: sqlite3.Connection):
        self.directory, self.rounds = directory, 0
        self._database = database
        # Cohorts report from several threads, which one transaction must not mix.
        self._lock = threading.Lock()
        self.ledger = ledger.Ledger(database, self._lock)

    def frame(self, round: int, table: pa.Table) -> None:
        """Stores the rows of one finished round."""
        path = self.directory / "frames" / f"r{round:06d}.parquet"
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        _replace(path, buffer.getvalue())
        self.rounds = round

    def plan(self, round: int, table: pa.Table) -> None:
        """Stores the Plan that a round is about to follow."""
        self._execute("INSERT INTO plans VALUES (?, ?)", (round, _to_ipc(table)))

    def event(self, round: int, kind: str, text: str, member: int | None = None) -> None:
        """Stores one event, stamped with the wall clock."""
        self._execute(
            "INSERT INTO events (time, round, kind, member, text) VALUES (?, ?, ?, ?, ?)",
            (time.time(), round, kind, member, text),
        )

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
        _replace(self.directory / "descriptors.npz", buffer.getvalue())

    def best(self, params: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
        """Stores the best network so far: parameter path -> array, and its genes and scores."""
        buffer, text = io.BytesIO(), json.dumps(record, allow_nan=False)
        np.savez(buffer, **{**params, RECORD: np.asarray(text)})  # pyright: ignore[reportArgumentType]
        # One file: weights and genes of different networks can never meet.
        _replace(self.directory / "best.npz", buffer.getvalue())

    def engine(self, choices: Mapping[str, Any]) -> None:
        """Stores what was decided about speed, which a replay needs."""
        self._put("engine", choices)

    def steering(self, dials: Mapping[str, Dial], resizes: bool) -> None:
        """Stores what of the run can be steered, as in `steerable.Scene`."""
        self._put("steering", {"dials": dials, "resizes": resizes})

    def close(self) -> None:
        """Folds the write-ahead log into the database and closes it."""
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()

    def _put(self, key: str, value: Any) -> None:
        self._execute("REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

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
        database = sqlite3.connect(directory / DATABASE, timeout=30, check_same_thread=False)
        database.execute("PRAGMA journal_mode=WAL")
        database.executescript(_TABLES + ledger.TABLE)
    except (OSError, sqlite3.Error) as error:
        raise InputError(
            f"cannot write to {directory}: {error}; choose another --directory"
        ) from None
    writer = Writer(directory, database)
    writer._put("version", VERSION)
    writer._put("config", config)
    writer._put("space", space.to_json())
    members, budget = int(config.get("members", 0)), int(config.get("budget", 0))
    writer.status(Status("running", 0, 0, budget, None, members, members, time.time()))
    return writer


def check_free(directory: str | Path) -> Path:
    """The directory as a path; raises InputError if it holds a run or is not writable."""
    directory = Path(directory)
    try:
        directory.joinpath(DATABASE).lstat()
        held = True
    except (FileNotFoundError, NotADirectoryError):
        # Rounds without their database would be taken for rounds of the new run.
        held = any(directory.glob("frames/r*.parquet"))
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
    if not _writable(existing):
        raise InputError(f"no permission to write to {existing}; choose another --directory")
    return directory


class Reader:
    """A read-only view of a run directory, running or finished; made by `open_run`."""

    def __init__(self, directory: Path, database: sqlite3.Connection):
        self.directory = directory
        self._database = database
        self.config: dict[str, Any] = self._meta("config")
        self.space = Space.from_json(self._meta("space"))

    def status(self) -> Status:
        """How the run stands."""
        status = Status(**self._meta("status"))
        return status._replace(heartbeat=max(status.heartbeat, self._meta("heartbeat")))

    def engine(self) -> dict[str, Any]:
        """What was decided about speed; stored with the first round."""
        return self._meta("engine")

    def rounds(self) -> list[int]:
        """Numbers of the rounds whose rows are stored, ascending."""
        stems = [path.stem[1:] for path in self.directory.glob("frames/r*.parquet")]
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def frames(self, since: int = 0) -> pa.Table:
        """Rows of all members for every stored round >= `since`, by round then member.

        Raises:
            InputError: no such round is stored yet.
        """
        wanted = [r for r in self.rounds() if r >= since]
        if not wanted:
            raise InputError(f"{self.directory} has no finished round from {since} on yet")
        paths = [self.directory / "frames" / f"r{r:06d}.parquet" for r in wanted]
        return pa.concat_tables([pq.read_table(path) for path in paths])

    def plans(self, since: int = 0) -> Iterator[tuple[int, pa.Table]]:
        """Every stored Plan of a round >= `since` with its round, ascending."""
        asked = "SELECT round, arrow FROM plans WHERE round >= ? ORDER BY round"
        for round, blob in self._database.execute(asked, (since,)):
            yield round, _from_ipc(blob)

    def events(self, since: int = 0) -> list[Event]:
        """Events whose id is greater than `since`, in order."""
        rows = self._database.execute("SELECT * FROM events WHERE id > ? ORDER BY id", (since,))
        return [Event(*row) for row in rows]

    def descriptors(self) -> tuple[int, np.ndarray, np.ndarray] | None:
        """Round, births `[N]` and `Frame.descriptor` `[N, P, C]` of the latest round stored.

        Raises:
            InputError: the file is damaged.
        """
        path = self.directory / "descriptors.npz"
        if not path.exists():
            return None
        try:
            # Of a damaged file, NumPy would leave its own handle open.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                round, birth, values = (held[name] for name in ("round", "birth", "values"))
                fits = (round.ndim, values.ndim) == (0, 3) and birth.shape == values.shape[:1]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} cannot be read: {error}; delete it") from None
        if not fits or round.dtype.kind != "i" or values.dtype.kind != "f":
            raise InputError(f"{path} holds no descriptors of a swarm; delete it")
        return int(round), birth, values

    def directives(self, latest: int = 1000) -> list[ledger.Entry]:
        """What was asked of the run and what became of it, the latest last."""
        return ledger.entries(self._database, latest)

    def directive(self, id: int) -> ledger.Entry:
        """The directive of that number; raises InputError where there is none."""
        found = ledger.entries(self._database, 1, id)
        if not found:
            raise InputError(f"{self.directory} has no directive {id}")
        return found[0]

    def scene(self) -> Scene:
        """What a directive is checked against, as of the last stored round.

        Raises:
            InputError: the run cannot be steered.
        """
        known, last = self._meta("steering"), self.rounds()[-1:]
        dials = {name: Dial(*values) for name, values in known["dials"].items()}
        if not last:
            nobody = np.zeros(0, int)
            return Scene(self.space, dials, known["resizes"], nobody, nobody.astype(bool))
        path = self.directory / "frames" / f"r{last[0]:06d}.parquet"
        columns = pq.read_table(path, columns=["birth", "alive"])
        birth, alive = columns["birth"].to_numpy(), columns["alive"].to_numpy()
        return Scene(self.space, dials, known["resizes"], birth, alive)

    def best(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The best network so far: parameter path -> array, and its genes and scores.

        Raises:
            InputError: no round is finished yet.
        """
        path = self.directory / "best.npz"
        if not path.exists():
            raise InputError(f"{self.directory} has no finished round yet, so no best network")
        with np.load(path, allow_pickle=False) as arrays:
            params = {name: arrays[name] for name in arrays.files}
        return params, json.loads(str(params.pop(RECORD)))

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def _meta(self, key: str) -> Any:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise InputError(f"{self.directory} is not a complete run: it has no {key}")
        return json.loads(row[0])


def open_run(directory: str | Path) -> Reader:
    """Opens a run directory for reading.

    Raises:
        InputError: the directory holds no run, or one of another version.
    """
    directory = Path(directory)
    path = directory / DATABASE
    if not path.is_file():
        raise InputError(f"{directory} holds no run; `swarmjax runs` lists the runs of a directory")
    # A read-only place cannot get the files that WAL needs; a killed run has left them there.
    closed = not path.with_name(f"{DATABASE}-wal").exists()
    mode = "immutable=1" if closed and not _writable(directory) else "mode=ro"
    try:
        database = sqlite3.connect(
            f"{path.resolve().as_uri()}?{mode}", uri=True, check_same_thread=False
        )
        reader = Reader(directory, database)
        version = reader._meta("version")
    except sqlite3.Error as error:
        raise InputError(f"{path} cannot be read as a run: {error}") from None
    if version != VERSION:
        raise InputError(f"{directory} has format {version}; this version reads format {VERSION}")
    return reader


def list_runs(directory: str | Path) -> list[Path]:
    """Run directories at or below `directory` (two levels), newest first."""
    directory = Path(directory)
    found = [p.parent for depth in ("", "*/", "*/*/") for p in directory.glob(depth + DATABASE)]
    return sorted(found, key=lambda path: (path / DATABASE).stat().st_mtime, reverse=True)


def _writable(directory: Path) -> bool:
    effective = os.access in os.supports_effective_ids
    return os.access(directory, os.W_OK | os.X_OK, effective_ids=effective)


def _replace(path: Path, content: bytes) -> None:
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _from_ipc(blob: bytes) -> pa.Table:
    with pa.ipc.open_stream(blob) as stream:
        return stream.read_all()
