"""A run directory seen by those who do not write it, while it is written or afterwards: `store`."""

from __future__ import annotations

import json
import sqlite3
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from swarmjax import events, ipc, ledger, levels, seals, segments, telemetry
from swarmjax.dials import Dial
from swarmjax.errors import one_line
from swarmjax.events import Event
from swarmjax.space import Space
from swarmjax.steerable import Scene
from swarmjax.store import COARSE, DATABASE, RECORD, VERSION, Status, writable
from swarmjax.types import InputError

# Of a Plan that is read: more than any host trains.
MOST_MEMBERS = 2**24
# Of a summary of a round.
MOST_METRICS = 4096
# No round comes after it.
_LAST = 2**63 - 1
# What NumPy and those below it make of damaged archives.
_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    # What zipfile raises where damage makes an unknown compression, or a password, of something.
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


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
            InputError: no such round is stored yet, or one is damaged.
        """
        wanted = [r for r in self.rounds() if r >= since]
        if not wanted:
            raise InputError(f"{self.directory} has no finished round from {since} on yet")
        return segments.joined([segments.load(self._frame(r)) for r in wanted])

    def round(self, number: int, columns: list[str] | None = None) -> pa.Table:
        """Rows of all members in one stored round, with all columns or some.

        Raises:
            InputError: it is not stored, or damaged.
        """
        try:
            return segments.load(self._frame(number), columns)
        except FileNotFoundError:
            raise InputError(f"{self.directory} does not hold round {number}") from None

    def columns(self, number: int) -> list[str]:
        """Names of the columns of a stored round.

        Raises:
            InputError: it is not stored, or damaged.
        """
        try:
            return segments.columns(self._frame(number))
        except FileNotFoundError:
            raise InputError(f"{self.directory} does not hold round {number}") from None

    def rows_of(self, number: int) -> int:
        """Rows of a round, by what its file says of itself."""
        return segments.count(self._frame(number))

    @property
    def members(self) -> int:
        """Members in all."""
        return int(self.config.get("members", 0))

    def complete(self) -> int:
        """The last round of which everything is stored; what it used is stored last."""
        asked = "SELECT ifnull(max(round), 0) FROM summaries WHERE kind = 'usage'"
        for (round,) in self._asked(asked, (), 1):
            return round
        return 0

    def rows(
        self,
        kind: str,
        since: int = 0,
        members: Sequence[int] | None = None,
        *,
        until: int | None = None,
    ) -> pa.Table:
        """What rounds showed beside their Frames, of all members or some.

        They are those >= `since` and < `until`. The `kind` is one of `store.SEGMENTS`, or `coarse`;
        columns are documented in `telemetry`.

        Raises:
            InputError: nothing of it is stored.
        """
        found = segments.read(self.directory / kind, since, members, until=until)
        if found is None:
            raise InputError(f"{self.directory} has no {kind} of rounds from {since} on")
        return found

    def windows(
        self,
        since: int = 0,
        members: Sequence[int] | None = None,
        *,
        until: int | None = None,
        coarse: bool = False,
    ) -> pa.Table:
        """Windows of training, as fine as they are kept, or all of them `coarse`.

        They are of rounds >= `since` and < `until`. The column `steps` says how long each is: the
        oldest may be kept at the coarser level alone.

        Raises:
            InputError: nothing of it is stored.
        """
        fine, merged = self.directory / "windows", self.directory / COARSE
        # Of both levels each round is read once.
        held = segments.listed(merged) if coarse else segments.listed(fine)
        reached = (held[-1].last + 1 if held else 0) if coarse else held[0].first if held else None
        ends = [round for round in (reached, until) if round is not None]
        parts = [segments.read(merged, since, members, until=min(ends, default=None))]
        rest = segments.read(fine, max(since, reached or 0), members, until=until)
        parts.append(levels.coarsen(rest) if coarse and rest is not None else rest)
        found = [part for part in parts if part is not None]
        if not found:
            raise InputError(f"{self.directory} has no windows of rounds from {since} on")
        return segments.joined(found)

    def windowed(self) -> int:
        """The last round of which windows are stored; -1 where there are none."""
        held = segments.listed(self.directory / "windows") or segments.listed(
            self.directory / COARSE
        )
        return held[-1].last if held else -1

    def summaries(self, kind: str, since: int = 0, until: int | None = None) -> pa.Table:
        """A few rows about each round >= `since` and < `until`; `kind` as in `store.SUMMARIES`.

        Raises:
            InputError: nothing of it is stored.
        """
        asked = "SELECT * FROM summaries WHERE kind = ? AND round BETWEEN ? AND ? ORDER BY round"
        last = _LAST if until is None else until - 1
        found = self._asked(asked, (kind, since, last), 3)
        if not found:
            raise InputError(f"{self.directory} has no {kind} of rounds from {since} on")
        blobs = [blob for _, _, blob in found]
        return pa.concat_tables([ipc.from_bytes(b, most_rows=MOST_METRICS) for b in blobs])

    def resources(self, since: int = 0) -> pa.Table:
        """CPU, GPU and memory attributed to every member in rounds >= `since`: `telemetry`.

        Raises:
            InputError: nothing of it is stored.
        """
        return telemetry.attributed(self.frames(since), self.summaries("usage", since))

    def plans(self, since: int = 0) -> Iterator[tuple[int, pa.Table]]:
        """Every stored Plan of a round >= `since` with its round, ascending."""
        rounds = self._asked("SELECT round FROM plans WHERE round >= ? ORDER BY round", (since,), 1)
        for (round,) in rounds:
            # One at a time: all together may be large.
            if (plan := self.plan(round)) is not None:
                yield round, plan

    def plan(self, number: int) -> pa.Table | None:
        """The stored Plan of one round, None without."""
        for _, blob in self._asked("SELECT * FROM plans WHERE round = ?", (number,), 2):
            return ipc.from_bytes(blob, most_rows=MOST_MEMBERS)
        return None

    def events(self, since: int = 0) -> list[Event]:
        """Events whose id is greater than `since`, in order."""
        held = {row[1] for row in self._asked("PRAGMA table_info(events)", (), 6)}
        width, added = len(events.SEALED), len(events.ADDED)
        rows = self._asked(events.select(held), (since,), width, skipped=1, added=added)
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
        except _DAMAGED as error:
            raise InputError(f"{path} cannot be read: {one_line(error)}; delete it") from None
        if not fits or round.dtype.kind != "i" or values.dtype.kind != "f":
            raise InputError(f"{path} holds no descriptors of a swarm; delete it")
        return int(round), birth, values

    def digests(self, round: int) -> np.ndarray | None:
        """What tells the networks of a round from others, `[N, 16]`; None where it was not kept."""
        for _, blob in self._asked("SELECT * FROM digests WHERE round = ?", (round,), 2):
            return np.frombuffer(blob, np.uint8).reshape(-1, 16)
        return None

    def parts(self, since: int = 0) -> dict[int, bytes]:
        """Round >= `since` -> what members that nodes train showed, for `elsewhere.unpacked`."""
        return dict(self._asked("SELECT * FROM parts WHERE round >= ?", (since,), 2))

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
        columns = segments.load(self._frame(last[0]), ["birth", "alive"])
        birth, alive = columns["birth"].to_numpy(), columns["alive"].to_numpy()
        nodes = int(self.config.get("nodes", 0))
        return Scene(self.space, dials, known["resizes"], birth, alive, nodes)

    def best(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """The best network so far: parameter path -> array, and its genes and scores.

        Raises:
            InputError: no round is finished yet.
        """
        path = self.directory / "best.npz"
        if not path.exists():
            raise InputError(f"{self.directory} has no finished round yet, so no best network")
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
                params = {name: held[name] for name in held.files}
            return params, json.loads(str(params.pop(RECORD)))
        except _DAMAGED as error:
            raise InputError(f"{path} is damaged: {one_line(error)}") from None

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def _frame(self, number: int) -> Path:
        return self.directory / "frames" / f"r{number:06d}.parquet"

    def _meta(self, key: str) -> Any:
        for _, value in self._asked("SELECT * FROM meta WHERE key = ?", (key,), 2):
            return json.loads(value)
        raise InputError(f"{self.directory} is not a complete run: it has no {key}")

    def _asked(
        self, statement: str, values: tuple, width: int, skipped: int = 0, added: int = 0
    ) -> list[tuple]:
        """Rows of the database whose `width` values, after the `skipped`, are as they were sealed.

        The last `added` of them as in `seals.sealed`. None where there is no such table: runs of
        earlier versions lack some.
        """
        try:
            rows = self._database.execute(statement, values).fetchall()
            return [row[:skipped] + seals.opened(row[skipped:], width, added) for row in rows]
        except (sqlite3.Error, UnicodeDecodeError, InputError) as error:
            if "no such table" in str(error):
                return []
            path = self.directory / DATABASE
            raise InputError(f"{path} is damaged: {one_line(error)}") from None


def open_run(directory: str | Path) -> Reader:
    """Opens a run directory for reading.

    Raises:
        InputError: the directory holds no run, or one of another version.
    """
    directory = Path(directory)
    path = directory / DATABASE
    if not path.is_file():
        if (directory / "frames").is_dir():
            raise InputError(
                f"{directory} has the rounds of a run, but no {DATABASE}, without which they say "
                "nothing; bring it back from a copy"
            )
        raise InputError(f"{directory} holds no run; `swarmjax runs` lists the runs of a directory")
    # A read-only place cannot get the files that WAL needs; a killed run has left them there.
    closed = not path.with_name(f"{DATABASE}-wal").exists()
    mode = "immutable=1" if closed and not writable(directory) else "mode=ro"
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
