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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from swarmjax.errors import InputError, one_line

# Under what a file says which it is.
_PLACE = b"swarmjax"
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
    # Bytes of like significance side by side compress best.
    options = {"use_dictionary": others, "use_byte_stream_split": floats}
    save(folder / f"{name}.parquet", rows, row_group_size=_GROUP, **options)


def save(path: Path, rows: pa.Table, **options: Any) -> None:
    """Writes rows as a Parquet file that tells what it was called and if it is damaged."""
    buffer, named = io.BytesIO(), rows.replace_schema_metadata({_PLACE: _place(path)})
    pq.write_table(named, buffer, compression="zstd", write_page_checksum=True, **options)
    replace(path, buffer.getvalue())


def columns(path: Path) -> list[str]:
    """Names of the columns of a Parquet file.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is damaged.
    """
    with _damage(path):
        return pq.read_schema(path).names


def count(path: Path) -> int:
    """Rows of a Parquet file; errors as of `columns`."""
    with _damage(path):
        return pq.read_metadata(path).num_rows


def load(path: Path, columns: list[str] | None = None, wanted: Any = None) -> pa.Table:
    """What a Parquet file holds, compared with its checksums: some columns, and the rows `wanted`.

    Raises:
        FileNotFoundError: there is none.
        InputError: it is damaged, or was put in the place of another.
    """
    with _damage(path):
        rows = pq.read_table(path, columns=columns, filters=wanted, page_checksum_verification=True)
    # Files of earlier versions do not tell.
    place = (rows.schema.metadata or {}).get(_PLACE, _place(path))
    if place != _place(path):
        raise InputError(f"{path} is damaged: it was {one_line(place.decode(errors='replace'))}")
    return rows.replace_schema_metadata(None)


@contextlib.contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Tells of a file that cannot be read, unless there is none."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        raise InputError(f"{path} is damaged: {one_line(error)}") from None


def _place(path: Path) -> bytes:
    return f"{path.parent.name}/{path.name}".encode()


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
            tables = [load(s.path, wanted=wanted) for s in held if until is None or s.first < until]
            return joined(tables) if tables else None
        except FileNotFoundError:
            # Put together with others since it was listed.
            if attempt + 1 == _TRIES:
                raise
    return None


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of all tables; raises InputError if one has other columns than the others."""
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid as error:
        raise InputError(f"segments do not fit together: {one_line(error)}") from None


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
        rows = pa.concat_tables([load(segment.path) for segment in some])
        keys = [name for name in ("member", "round", "step") if name in rows.column_names]
        rows = rows.sort_by([(name, "ascending") for name in keys])
        before(some[0].first, some[-1].last, rows)
        write(folder, some[0].first, some[-1].last, rows)
        for segment in some:
            segment.path.unlink()
    return full > 0


def rewind(folder: Path, round: int) -> None:
    """Deletes the rows of all rounds after `round`.

    What is left of a longer segment becomes one for each round, as if these had just been written.
    """
    for segment in _found(folder):
        if segment.first <= round < segment.last:
            rows = load(segment.path)
            for each in range(segment.first, round + 1):
                some = rows.filter(pc.field("round") == each)
                if some.num_rows:
                    write(folder, each, each, some)
        if segment.last > round:
            segment.path.unlink()


def cut(folder: Path, round: int, made_anew: Callable[[int], bool]) -> None:
    """Deletes the rows of all rounds after `round`, and segments that are `made_anew` wholly.

    Args:
        folder: of the segments.
        round: the last that stays.
        made_anew: says by its first round whether a segment will be.
    """
    for segment in _found(folder):
        if segment.first <= round < segment.last and not made_anew(segment.first):
            rows = load(segment.path, wanted=pc.field("round") <= round)
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
