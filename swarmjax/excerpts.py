"""What of a run directory is told to followers: whole rounds, table by table, cut to messages."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from swarmjax import ipc
from swarmjax.bulletins import KINDS
from swarmjax.errors import InputError
from swarmjax.records import LARGEST
from swarmjax.store import SUMMARIES
from swarmjax.stored import Reader

# Of a message, beside its table; schemas of many columns are repeated in every part.
_ROOM = LARGEST - 4096
# Rounds read at a time, and members whose rows of as many rounds are held at once.
ROUNDS, _MEMBERS = 20, 10_000

Tables = list[tuple[str, pa.Table]]


def rounds_after(reader: Reader, round: int) -> Iterator[tuple[int, Tables]]:
    """The tables of the next rounds, by kind and in the order of `KINDS`; those without rows not.

    Only rounds of which everything is stored; at most `ROUNDS`, fewer where members are many.
    """
    last, most = reader.complete(), max(1, ROUNDS * _MEMBERS // max(reader.members, _MEMBERS))
    wanted = [each for each in reader.rounds() if round < each <= last][:most]
    if not wanted:
        return
    # Read at once: of segments that were put together every look would read all.
    beside = {kind: _read(reader, kind, wanted[0], wanted[-1] + 1) for kind in KINDS[:-1]}
    for each in wanted:
        # In one piece: every other would be a batch of its own, with a header.
        chosen = {
            kind: rows.filter(pc.field("round") == each).combine_chunks()
            for kind, rows in beside.items()
            if rows
        }
        tables = [(kind, rows) for kind, rows in chosen.items() if rows.num_rows]
        yield each, [*tables, (KINDS[-1], reader.round(each))]


def _read(reader: Reader, kind: str, since: int, until: int) -> pa.Table | None:
    try:
        if kind in SUMMARIES:
            return reader.summaries(kind, since, until)
        if kind == "windows":
            return reader.windows(since, until=until)
        return reader.rows(kind, since, until=until)
    except InputError as error:
        if "has no " in str(error):
            return None
        raise


def parted(table: pa.Table) -> list[bytes]:
    """A table as streams of some of its rows, each short enough for a message."""
    blob = ipc.to_bytes(table)
    if len(blob) <= _ROOM or table.num_rows < 2:
        return [blob]
    half = table.num_rows // 2
    return parted(table.slice(0, half)) + parted(table.slice(half))
