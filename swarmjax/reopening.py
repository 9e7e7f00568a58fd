"""A run directory opened again by a trainer that goes on where the one before it ended."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from swarmjax import anomaly, events, seals, tenure
from swarmjax.errors import one_line
from swarmjax.store import DATABASE, Writer
from swarmjax.types import InputError

# What rounds that are trained once more tell once more.
_RETOLD = ("died", "steered", *anomaly.KINDS)


def reopen(directory: Path) -> Writer:
    """The writer of a run that exists.

    Raises:
        InputError: another trainer is at work there, or nothing can be written.
    """
    try:
        held = tenure.hold(directory)
    except OSError as error:
        raise InputError(f"cannot write to {directory}: {error}") from None
    try:
        address = f"{(directory / DATABASE).resolve().as_uri()}?mode=rw"
        database = sqlite3.connect(address, uri=True, timeout=30, check_same_thread=False)
        database.execute("PRAGMA journal_mode=WAL")
        (sound,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if sound != "ok":
            raise sqlite3.DatabaseError(f"it is damaged: {sound}")
        seals.upgrade(database)
        events.upgrade(database)
    except sqlite3.Error as error:
        os.close(held)
        raise InputError(f"{directory} cannot be opened for writing: {one_line(error)}") from None
    for part in directory.rglob(".*.part"):
        with contextlib.suppress(OSError):
            part.unlink()
    return Writer(directory, database, held)


def rewind(writer: Writer, round: int, event: int) -> None:
    """Forgets what will be told again by the rounds after `round`, and asks again what was asked.

    Args:
        writer: of the run.
        round: finished rounds that the run goes on from.
        event: number of the last event before them; what was told later is told again.
    """
    writer.forget(event, _RETOLD)
    writer.rewind(round)
    writer.ledger.requeue(round)
