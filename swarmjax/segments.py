"""Tables that grow by rounds, on disk: immutable Parquet segments, put together as they get many.

    FOLDER/r000012.parquet          rows of round 12, as they came
    FOLDER/r000001-000032.parquet   rows of rounds 1 to 32, by member and then time

A segment is written aside and renamed, so that a reader sees it whole or not at all. Segments that
a longer one covers are left over from a process that was killed, and are not read.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

# Rounds that are put together.
ROUNDS = 32
_NAME = re.compile(r"r(\d{6,})(?:-(\d{6,}))?\.parquet")
# Rows whose members a reader can skip at once.
_GROUP = 2**16
# A reader that was overtaken looks again.
_TRIES = 5


class Segment(NamedTuple):
    """A file and the rounds it holds, `first` to `last`."""

    first: int
    last: int
    path: Path


def listed(folder: Path) -> list[Segment]:
    """The segments of a folder, ascending, without those that a longer one covers."""
    kept: list[Segment] = []
    for segment in _found(folder):
        if not kept or segment.last > kept[-1].last:
            kept.append(segment)
    return kept


def _found(folder: Path) -> list[Segment]:
    """All segments of a folder, longer ones before those that they cover."""
    found = []
    for path in folder.glob("r*.parquet"):
        if match := _NAME.fullmatch(path.name):
            first = int(match[1])
            found.append(Segment(first, int(match[2] or first), path))
    return sorted(found, key=lambda segment: (segment.first, -segment.last))


def write(folder: Path, first: int, last: int, rows: pa.Table) -> None:
    """Stores the rows of some rounds."""
    folder.mkdir(exist_ok=True)
    name = f"r{first:06d}" if first == last else f"r{first:06d}-{last:06d}"
    floats = [f.name for f in rows.schema if pa.types.is_floating(f.type)]
    others = [f.name for f in rows.schema if not pa.types.is_floating(f.type)]
    buffer = io.BytesIO()
    # Bytes of like significance side by side compress best.
    pq.write_table(
        rows, buffer, compression="zstd", row_group_size=_GROUP,
        use_dictionary=others, use_byte_stream_split=floats,  # pyright: ignore[reportArgumentType]
    )  # fmt: skip
    replace(folder / f"{name}.parquet", buffer.getvalue())


def read(
    folder: Path,
    since: int = 0,
    members: Sequence[int] | None = None,
    *,
    until: int | None = None,
) -> pa.Table | None:
    """Rows of rounds >= `since` and < `until`, of all members or some; None without segments."""
    for attempt in range(_TRIES):
        try:
            wanted = _wanted(since, until, members)
            held = [s for s in listed(folder) if s.last >= since]
            tables = [
                pq.read_table(s.path, filters=wanted)
                for s in held
                if until is None or s.first < until
            ]
            return pa.concat_tables(tables) if tables else None
        except FileNotFoundError:
            # Put together with others since it was listed.
            if attempt + 1 == _TRIES:
                raise
    return None


def _wanted(since: int, until: int | None, members: Sequence[int] | None) -> pc.Expression:
    wanted = pc.field("round") >= since
    if until is not None:
        wanted &= pc.field("round") < until
    if members is not None:
        wanted &= pc.field("member").isin(list(members))
    return wanted


def forget(first: int, last: int, rows: pa.Table) -> None:
    """Does nothing with rows that are about to be put together."""
    del first, last, rows


def compact(
    folder: Path,
    rounds: int,
    before: Callable[[int, int, pa.Table], None] = forget,
) -> bool:
    """Puts every so many segments of one round together, if there are so many; says if it did.

    Args:
        folder: of the segments.
        rounds: how many become one.
        before: called with first and last round and all rows before the new segment is there.
    """
    held = listed(folder)
    for segment in _found(folder):
        if segment not in held:
            segment.path.unlink()
    singles = [segment for segment in held if segment.first == segment.last]
    full = len(singles) // rounds * rounds
    for start in range(0, full, rounds):
        some = singles[start : start + rounds]
        rows = pa.concat_tables([pq.read_table(segment.path) for segment in some])
        keys = [name for name in ("member", "round", "step") if name in rows.column_names]
        rows = rows.sort_by([(name, "ascending") for name in keys])
        before(some[0].first, some[-1].last, rows)
        write(folder, some[0].first, some[-1].last, rows)
        for segment in some:
            segment.path.unlink()
    return full > 0


def rewind(folder: Path, round: int) -> None:
    """Deletes the rows of all rounds after `round`."""
    for segment in _found(folder):
        if segment.first <= round < segment.last:
            rows = pq.read_table(segment.path, filters=pc.field("round") <= round)
            write(folder, segment.first, round, rows)
        if segment.last > round:
            segment.path.unlink()


def thin(folder: Path, most_bytes: float) -> None:
    """Deletes the oldest segments of several rounds until the rest has at most so many bytes."""
    held = listed(folder)
    size = sum(segment.path.stat().st_size for segment in held)
    for segment in held:
        if size <= most_bytes or segment.first == segment.last:
            return
        size -= segment.path.stat().st_size
        segment.path.unlink()


def replace(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all."""
    aside = path.with_name(f".{path.name}.part")
    try:
        aside.write_bytes(content)
        os.replace(aside, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()
