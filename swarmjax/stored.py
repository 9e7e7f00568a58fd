"""A run directory seen by those who do not write it, while it is written or afterwards: `store`."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from swarmjax import ipc, ledger, levels, segments, telemetry
from swarmjax.dials import Dial
from swarmjax.errors import one_line
from swarmjax.space import Space
from swarmjax.steerable import Scene
from swarmjax.store import COARSE, DATABASE, RECORD, VERSION, Event, Status, writable
from swarmjax.types import InputError

# Of a Plan that is read: more than any host trains.
MOST_MEMBERS = 2**24
# Of a summary of a round.
MOST_METRICS = 4096


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
        return pa.concat_tables([_rows(self._frame(r)) for r in wanted])

    def round(self, number: int, columns: list[str] | None = None) -> pa.Table:
        """Rows of all members in one stored round, with all columns or some.

        Raises:
            InputError: it is not stored, or damaged.
        """
        try:
            return _rows(self._frame(number), columns)
        except FileNotFoundError:
            raise InputError(f"{self.directory} does not hold round {number}") from None

    def columns(self, number: int) -> list[str]:
        """Names of the columns of a stored round."""
        return pq.read_schema(self._frame(number)).names

    def rows(self, kind: str, since: int = 0, members: Sequence[int] | None = None) -> pa.Table:
        """What rounds >= `since` showed beside their Frames, of all members or some.

        The `kind` is one of `store.SEGMENTS`, or `coarse`; columns are documented in `telemetry`.

        Raises:
            InputError: nothing of it is stored.
        """
        found = segments.read(self.directory / kind, since, members)
        if found is None:
            raise InputError(f"{self.directory} has no {kind} of rounds from {since} on")
        return found

    def windows(
        self, since: int = 0, members: Sequence[int] | None = None, *, coarse: bool = False
    ) -> pa.Table:
        """Windows of training, as fine as they are kept, or all of them `coarse`.

        The column `steps` says how long each is: the oldest may be kept at the coarser level alone.

        Raises:
            InputError: nothing of it is stored.
        """
        fine, merged = self.directory / "windows", self.directory / COARSE
        # Of both levels each round is read once.
        held = segments.listed(merged) if coarse else segments.listed(fine)
        reached = (held[-1].last + 1 if held else 0) if coarse else held[0].first if held else None
        parts = [segments.read(merged, since, members, until=reached)]
        rest = segments.read(fine, max(since, reached or 0), members)
        parts.append(levels.coarsen(rest) if coarse and rest is not None else rest)
        found = [part for part in parts if part is not None]
        if not found:
            raise InputError(f"{self.directory} has no windows of rounds from {since} on")
        return pa.concat_tables(found)

    def summaries(self, kind: str, since: int = 0) -> pa.Table:
        """A few rows about each round >= `since`; `kind` is one of `store.SUMMARIES`.

        Raises:
            InputError: nothing of it is stored.
        """
        asked = "SELECT arrow FROM summaries WHERE kind = ? AND round >= ? ORDER BY round"
        # Runs of earlier versions have no such table.
        with contextlib.suppress(sqlite3.OperationalError):
            blobs = self._database.execute(asked, (kind, since)).fetchall()
            if blobs:
                return pa.concat_tables(
                    [ipc.from_bytes(b, most_rows=MOST_METRICS) for (b,) in blobs]
                )
        raise InputError(f"{self.directory} has no {kind} of rounds from {since} on")

    def resources(self, since: int = 0) -> pa.Table:
        """CPU, GPU and memory attributed to every member in rounds >= `since`: `telemetry`.

        Raises:
            InputError: nothing of it is stored.
        """
        return telemetry.attributed(self.frames(since), self.summaries("usage", since))

    def plans(self, since: int = 0) -> Iterator[tuple[int, pa.Table]]:
        """Every stored Plan of a round >= `since` with its round, ascending."""
        asked = "SELECT round, arrow FROM plans WHERE round >= ? ORDER BY round"
        for round, blob in self._database.execute(asked, (since,)):
            yield round, ipc.from_bytes(blob, most_rows=MOST_MEMBERS)

    def plan(self, number: int) -> pa.Table | None:
        """The stored Plan of one round, None without."""
        asked = "SELECT arrow FROM plans WHERE round = ?"
        found = self._database.execute(asked, (number,)).fetchone()
        return ipc.from_bytes(found[0], most_rows=MOST_MEMBERS) if found else None

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

    def digests(self, round: int) -> np.ndarray | None:
        """What tells the networks of a round from others, `[N, 16]`; None where it was not kept."""
        asked = "SELECT bytes FROM digests WHERE round = ?"
        # Only runs with checkpoints have such a table.
        with contextlib.suppress(sqlite3.OperationalError):
            for (blob,) in self._database.execute(asked, (round,)):
                return np.frombuffer(blob, np.uint8).reshape(-1, 16)
        return None

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
        columns = _rows(self._frame(last[0]), ["birth", "alive"])
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
        with np.load(path, allow_pickle=False) as arrays:
            params = {name: arrays[name] for name in arrays.files}
        return params, json.loads(str(params.pop(RECORD)))

    def close(self) -> None:
        """Closes the database."""
        self._database.close()

    def _frame(self, number: int) -> Path:
        return self.directory / "frames" / f"r{number:06d}.parquet"

    def _meta(self, key: str) -> Any:
        row = self._database.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise InputError(f"{self.directory} is not a complete run: it has no {key}")
        return json.loads(row[0])


def _rows(path: Path, columns: list[str] | None = None) -> pa.Table:
    """What a Parquet file holds, compared with its checksums."""
    try:
        return pq.read_table(path, columns=columns, page_checksum_verification=True)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}") from None


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
