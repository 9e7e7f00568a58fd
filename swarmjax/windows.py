"""Tables of windows: what a network's training showed, every so many steps.

Columns, one row per window:

    round            int32    round of the swarm that it belongs to
    step             int32    training steps behind the weights at the end of the window
    steps            int32    training steps in the window
    train_loss_min   float32  least loss of a step
    train_loss       float32  mean loss
    train_loss_max   float32  greatest loss of a step
    train_loss_last  float32  loss of the last step
    gradient_norm    float32  mean gradient norm; NaN if not told
    seconds          float32  wall seconds of one step
    cpu              float32  cores that the process kept busy
    memory           float32  bytes of memory that the process holds
    gpu              float32  share of time that its GPU was busy, 0-1; NaN without one
    gpu_memory       float32  bytes in use on that GPU; NaN without one
    wall_ns, monotonic_ns, clock_offset, clock_bound
                     int64    the `clock.Stamp` of the end of the window
    valid_*          float32  validation metrics, where measured in the window, else NaN
    <path>:<s>       float32  statistic s (mean, std, min, max, norm) of the parameter at the path,
                              where measured in the window, else NaN
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from swarmjax import ipc
from swarmjax.clock import Stamp
from swarmjax.errors import InputError, one_line
from swarmjax.records import Metric, Path

# Rows of one table.
MOST_WINDOWS = 4096
STATISTICS = ("mean", "std", "min", "max", "norm")
_USAGE = ("cpu", "memory", "gpu", "gpu_memory")
COLUMNS = {
    **dict.fromkeys(("round", "step", "steps"), pa.int32()),
    **dict.fromkeys(
        ("train_loss_min", "train_loss", "train_loss_max", "train_loss_last", "gradient_norm"),
        pa.float32(),
    ),
    **dict.fromkeys(("seconds", *_USAGE), pa.float32()),
    **dict.fromkeys(Stamp._fields, pa.int64()),
}


def window(
    losses: Sequence[float],
    norms: Sequence[float],
    *,
    round: int,
    step: int,
    seconds: float,
    usage: Mapping[str, float],
    stamp: Stamp,
) -> dict[str, Any]:
    """One row without metrics and parameters; of at least one loss, `seconds` for all of them."""
    loss, norm = np.asarray(losses, np.float64), np.asarray(norms, np.float64)
    # Of infinite ones the mean need not be a number.
    with np.errstate(invalid="ignore", over="ignore"):
        means = loss.mean(), norm.mean() if len(norm) else np.nan
    return {
        "round": round, "step": step, "steps": len(loss),
        "train_loss_min": loss.min(), "train_loss": means[0], "train_loss_max": loss.max(),
        "train_loss_last": loss[-1],
        "gradient_norm": means[1], "seconds": seconds / len(loss),
        **{name: usage.get(name, np.nan) for name in _USAGE}, **stamp._asdict(),
    }  # fmt: skip


def statistics(arrays: Mapping[str, np.ndarray], patterns: Sequence[str]) -> dict[str, float]:
    """Column -> value of every parameter whose path fits a pattern, such as `Dense_*/kernel`."""
    columns: dict[str, float] = {}
    for path, array in arrays.items():
        if np.size(array) and any(fnmatchcase(path, pattern) for pattern in patterns):
            columns |= {f"{path}:{name}": value for name, value in summary(array).items()}
    return columns


def summary(array: np.ndarray) -> dict[str, float]:
    """Statistic -> value of an array that is not empty."""
    values = np.asarray(array, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        made = [f(values) for f in (np.mean, np.std, np.min, np.max, _norm)]
    return {name: float(value) for name, value in zip(STATISTICS, made, strict=True)}


def _norm(values: np.ndarray) -> float:
    return float(np.sqrt(np.sum(values**2)))


def write_windows(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Rows as bytes; where a row lacks a metric or parameter that others have, NaN."""
    names = [*COLUMNS, *sorted({name for row in rows for name in row} - set(COLUMNS))]
    kinds = {name: COLUMNS.get(name, pa.float32()).to_pandas_dtype() for name in names}
    # A loss beyond float32 is as good as infinite.
    with np.errstate(over="ignore"):
        columns = {n: np.asarray([row.get(n, np.nan) for row in rows], kinds[n]) for n in names}
    return ipc.to_bytes(ipc.table(columns))


def read_windows(blob: bytes) -> pa.Table:
    """The table that `write_windows` wrote; InputError on anything else."""
    found = ipc.from_bytes(blob, most_rows=MOST_WINDOWS)
    for name, kind in COLUMNS.items():
        if name not in found.schema.names:
            raise InputError(f"a table of windows lacks {name}; refused")
        if found.schema.field(name).type != kind:
            raise InputError(f"{name} of a table of windows is not {kind}; refused")
    for field in found.schema:
        if field.name not in COLUMNS and not _optional(field):
            raise InputError(f"a table of windows has {one_line(field.name)!r}, unknown; refused")
    if any(column.null_count for column in found.columns):
        raise InputError("a table of windows has empty places; refused")
    return found


def _optional(field: pa.Field) -> bool:
    """Whether the column may be there: a validation metric, or a statistic of a parameter."""
    path, _, statistic = field.name.rpartition(":")
    wanted, kind = (path, Path) if statistic in STATISTICS else (field.name, Metric)
    try:
        msgspec.convert(wanted, kind)
    except msgspec.ValidationError:
        return False
    return field.type == pa.float32()
