"""Rows of a run's database that tell whether they are as they were written.

SQLite has no checksums of its own. The last column of a sealed table holds a digest of the others;
it is empty in rows of earlier versions, which are taken as they are.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Any

from swarmjax.errors import InputError

COLUMN = "seal BLOB"
TABLES = ("meta", "plans", "events", "summaries", "digests")


def seal(*values: str | bytes | int | float | None) -> bytes:
    """Eight bytes that tell these values, in this order, from all others."""
    made = hashlib.blake2b(digest_size=8)
    for value in values:
        part = value if isinstance(value, bytes) else str(value).encode()
        made.update(f"{len(part)},".encode() + part)
    return made.digest()


def sealed(*values: Any, added: int = 0) -> tuple[Any, ...]:
    """The values and their seal, as a row holds them; the last so many `added` by a later version.

    The seal covers these where one of them is not None.
    """
    return (*values, seal(*_covered(values, added)))


def opened(row: Sequence[Any], width: int, added: int = 0) -> tuple[Any, ...]:
    """The `width` values of a row, which may have a seal after them; `added` as in `sealed`.

    Raises:
        InputError: they are not those that were sealed.
    """
    values, rest = tuple(row[:width]), row[width:]
    if rest and rest[0] is not None and rest[0] != seal(*_covered(values, added)):
        raise InputError("a row is not as it was written")
    return values


def _covered(values: tuple[Any, ...], added: int) -> tuple[Any, ...]:
    least = len(values) - added
    return values[:least] if all(value is None for value in values[least:]) else values


def upgrade(database: sqlite3.Connection) -> None:
    """Gives tables of earlier versions the column of seals."""
    for table in TABLES:
        names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        if names and "seal" not in names:
            database.execute(f"ALTER TABLE {table} ADD COLUMN {COLUMN}")
