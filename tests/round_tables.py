"""The tables of a round of a small run, made up, for tests."""

import numpy as np
import pyarrow as pa

from swarmjax import ipc, telemetry
from swarmjax.clock import Stamp
from swarmjax.levels import quantiles

USED = {"cpu": 1.5, "memory": 2e9, "gpu": float("nan"), "gpu_memory": float("nan")}


def frames(round, members=3):
    whole = {name: np.arange(members, dtype=np.int32) for name in ("member", "birth", "step")}
    whole |= {"round": np.full(members, round, np.int32), "steps": np.full(members, 5, np.int32)}
    rate = np.full(members, 0.01, np.float32)
    return ipc.table(whole | {"alive": np.ones(members, bool), "learning_rate": rate})


def made(kind, round, count=6, seed=0):
    """Rows of a table of numbers, in the order of member and step."""
    rng, columns = np.random.default_rng((seed, round)), {}
    fixed = {"round": np.full(count, round), "steps": np.full(count, 8), "size": np.full(count, 4)}
    fixed["member"] = fixed["birth"] = np.arange(count) // 2
    fixed["step"] = 16 * round + 8 * (np.arange(count) % 2)
    for name, made_of in telemetry.TYPES[kind].items():
        if pa.types.is_list(made_of):
            ends = ipc.column(np.arange(0, 2 * count + 1, 2, dtype=np.int32))
            values = ipc.column(rng.random(2 * count).astype(np.float32))
            columns[name] = pa.ListArray.from_arrays(ends, values)
        elif made_of == pa.string():
            columns[name] = ipc.texts(["Dense_0/kernel"] * count)
        else:
            values = fixed.get(name, rng.integers(1, 1000, count))
            values = values if pa.types.is_integer(made_of) else rng.random(count)
            columns[name] = ipc.column(values.astype(made_of.to_pandas_dtype()))
    return pa.table(columns)


def of_round(round, members=3):
    """All tables by kind, with two windows of every member."""
    rows = frames(round, members)
    return {
        **{kind: made(kind, round, 2 * members) for kind in ("windows", "steps", "parameters")},
        "quantiles": quantiles(rows, ["learning_rate"]),
        **{kind: made(kind, round, 2) for kind in ("layers", "islands")},
        "usage": telemetry.usage_table(round, 0.5, USED, Stamp(round, round, 0, 0)),
        "frame": rows,
    }


def write(writer, round, members=3):
    """Stores a round as a trainer does: what it used comes last."""
    tables = of_round(round, members)
    writer.frame(round, tables["frame"])
    for kind in ("windows", "steps", "parameters"):
        writer.rows(kind, round, tables[kind])
    for kind in ("quantiles", "layers", "islands", "usage"):
        writer.summary(kind, round, tables[kind])


def same(a, b):
    """Whether tables hold the same bits, NaN being what it is, whatever their lists call items."""
    if not a.schema.equals(b.schema):
        return False
    # Cast to one name of the items.
    one, other = (table.cast(b.schema).combine_chunks() for table in (a, b))
    return ipc.to_bytes(one) == ipc.to_bytes(other)
