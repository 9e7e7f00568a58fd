"""Stored rounds as arrays by column, and windows of a few members, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
import pyarrow as pa

from swarmjax.stored import Reader
from viz.history import Columns

# Members whose windows are held, at most: as many as are drawn at once, several times over.
_FOLLOWED = 64
_NO_WINDOWS = pd.DataFrame({
    **dict.fromkeys(("round", "member", "birth", "step", "steps"), np.zeros(0, np.int32)),
    **dict.fromkeys(
        ("train_loss_min", "train_loss", "train_loss_max", "gradient_norm"), np.zeros(0, np.float32)
    ),
})  # fmt: skip


class Stored(Mapping[str, np.ndarray]):
    """A stored round, whose columns are read at each asking and not kept.

    Beside those that are stored there is `mate`, the slot of the second parent.

    Raises:
        InputError: the round is damaged, or is stored no longer.
    """

    def __init__(self, reader: Reader, number: int):
        keys = reader.round(number, ["round", "member", "parent"])
        member = array(keys["member"])
        self._reader, self.number, self.members = reader, number, len(member)
        self._own = bool((array(keys["round"]) == number).all())
        self._names = (*reader.columns(number), "mate")
        # Of rows that are in order nothing has to be kept.
        sorted_ = bool((np.diff(member) > 0).all())
        self._order = None if sorted_ else np.argsort(member, kind="stable")
        parent = array(keys["parent"])
        self._numbered = np.array_equal(self._sorted(member), np.arange(self.members))
        self._descends = not ((parent < 0) | (parent >= self.members)).any()

    def __getitem__(self, name: str) -> np.ndarray:
        if name == "round":
            return np.broadcast_to(np.int32(self.number), self.members)
        if name == "mate":
            return self._mates(self["member"])
        if name not in self._names:
            raise KeyError(name)
        return self._sorted(array(self._reader.round(self.number, [name])[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def some(self, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Some of the stored columns, read at once."""
        table = self._reader.round(self.number, list(names))
        return {name: self._sorted(array(table[name])) for name in names}

    def whole(self) -> dict[str, np.ndarray]:
        """All columns, read at once."""
        table = self._reader.round(self.number)
        found = {name: self._sorted(array(table[name])) for name in table.column_names}
        return found | {"mate": self._mates(found["member"])}

    def problem(self, first: Columns | None) -> str:
        """Why the round cannot stand beside the first one; empty when it can."""
        if not self._own:
            return "it holds rows of another round"
        if not self._numbered:
            return "its members are not numbered 0 to N - 1"
        if not self._descends:
            return "it names parents that are no members"
        if first is not None and (
            self.members != len(first["round"]) or set(self._names) != set(first)
        ):
            return "its members or columns differ from the first round's"
        return ""

    def _sorted(self, values: np.ndarray) -> np.ndarray:
        return values if self._order is None else values[self._order]

    def _mates(self, member: np.ndarray) -> np.ndarray:
        """The second parent of each member, itself where it has none."""
        plan = self._reader.plan(self.number)
        if plan is None or plan.num_rows != self.members or "mate" not in plan.column_names:
            return member
        mate, operator = plan["mate"].to_numpy(), plan["operator"].to_numpy()
        known = (operator != 0) & (mate >= 0) & (mate < self.members)
        return np.where(known, mate, member)


class Windows:
    """Windows of training of a few members; what was read is not read again.

    Called with members, it returns their rows of a window table, by member and then time.

    Raises:
        InputError: what is stored is damaged.
    """

    def __init__(self, reader: Reader):
        self._reader, self._round = reader, -1
        self._members: frozenset[int] = frozenset()
        self._held = _NO_WINDOWS

    def __call__(self, members: tuple[int, ...]) -> pd.DataFrame:
        """Rows of these members; none where none are kept."""
        missing = set(members) - self._members
        if len(self._members | missing) > _FOLLOWED:
            self._members, self._held, missing = frozenset(), _NO_WINDOWS, set(members)
        latest = self._reader.windowed()
        if latest > self._round and self._members:
            self._add(self._reader.windows(self._round + 1, sorted(self._members)))
        if missing and latest >= 0:
            self._add(self._reader.windows(0, sorted(missing), until=latest + 1))
            self._members |= missing
        self._round = latest
        wanted = self._held["member"].isin(members).to_numpy()
        return self._held.iloc[np.flatnonzero(wanted)].reset_index(drop=True)

    def _add(self, rows: pa.Table) -> None:
        order = ["member", "round", "step"]
        both = [part for part in (self._held, rows.to_pandas()) if len(part)] or [self._held]
        self._held = pd.concat(both).sort_values(order, kind="stable", ignore_index=True)


def split_rounds(table: pa.Table) -> Iterator[dict[str, np.ndarray]]:
    """The arrays of each round of a frame table, ascending by round and then member."""
    columns = {name: array(table[name]) for name in table.column_names}
    order = np.lexsort((columns["member"], columns["round"]))
    starts = np.flatnonzero(np.diff(columns["round"][order])) + 1
    for rows in np.split(order, starts):
        yield {name: values[rows] for name, values in columns.items()}


def array(column: pa.ChunkedArray) -> np.ndarray:
    """A column as NumPy has it, options as they are called."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.to_numpy()
