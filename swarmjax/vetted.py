"""Tables of a round that come from elsewhere: what they must be to be stored here."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from swarmjax import ipc, telemetry
from swarmjax.bulletins import MOST_BYTES, Rows
from swarmjax.errors import InputError, one_line
from swarmjax.store import SUMMARIES
from swarmjax.stored import MOST_MEMBERS, MOST_METRICS

_NEEDED = {"round", "member", "birth", "alive", "steps", "step"}
# Letters of a text in a table.
_LONGEST = 256


class Gathering:
    """The parts of one table as they come; `of` is its round and kind."""

    def __init__(self, of: tuple[int, str] = (0, "")):
        self.of, self._parts, self._size = of, [], 0

    def add(self, record: Rows) -> pa.Table | None:
        """The whole table with its last part, else None.

        Raises:
            InputError: it is not the next part, too large, or no part of such a table.
        """
        if (record.round, record.kind, record.part) != (*self.of, len(self._parts)):
            raise InputError(f"part {record.part} of {record.kind} came out of order; refused")
        self._size += len(record.table)
        if self._size > MOST_BYTES:
            raise InputError(f"{record.kind} of a round have more than {MOST_BYTES} bytes; refused")
        table = checked(record)
        if self._parts and table.schema != self._parts[0].schema:
            raise InputError(f"parts of {record.kind} have different columns; refused")
        self._parts.append(table)
        return pa.concat_tables(self._parts) if len(self._parts) == record.parts else None


def checked(record: Rows) -> pa.Table:
    """The table of a part; raises InputError unless it is one of that kind and round."""
    kind, most = record.kind, MOST_METRICS if record.kind in SUMMARIES else MOST_MEMBERS
    table = ipc.from_bytes(record.table, most_rows=most, lists=kind == "parameters")
    if kind == "frame":
        missing = _NEEDED - set(table.column_names)
        if missing:
            raise InputError(f"a table lacks {', '.join(sorted(missing))}; refused")
    else:
        _check_columns(kind, table)
    if table.num_rows == 0 or table["round"].unique().to_pylist() != [record.round]:
        raise InputError(f"a table of {kind} is not of round {record.round}; refused")
    return table


def _check_columns(kind: str, table: pa.Table) -> None:
    """Columns and types are those of `telemetry`, every place is filled, counts are counts."""
    wanted = telemetry.TYPES[kind]
    if odd := sorted(set(wanted) ^ set(table.column_names)):
        raise InputError(f"{kind} differ in {one_line(odd[0])} from what they must hold; refused")
    for name, made in wanted.items():
        if table[name].type != made:
            raise InputError(f"{name} of {kind} is not {made}; refused")
        if table[name].null_count:
            raise InputError(f"{name} of {kind} has empty places; refused")
        if made == pa.int32() and table.num_rows:
            least = pc.min(table[name]).as_py()  # pyright: ignore[reportAttributeAccessIssue]
            if least < (name == "steps"):
                raise InputError(f"{name} of {kind} is {least}; refused")
        if made == pa.string():
            for text in table[name].unique().to_pylist():
                if len(text) > _LONGEST or not text.isprintable():
                    raise InputError(f"{name} of {kind} is {one_line(text)!r}; refused")
