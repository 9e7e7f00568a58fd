"""Frames and Plans as Arrow tables, the one schema from the trainer to the disk and the screen.

Columns of a frame table, one row per member:

    round           int32    finished rounds, counted from 1
    time            float64  wall-clock seconds when the round ended
    member          int32    slot
    birth           int32    unique number of the network in the slot
    lineage         int32    birth number of its oldest ancestor
    parent          int32    slot it started this round from (itself: carried on)
    fresh           bool     it started this round from new weights
    alive           bool     its loss, gradients and weights are finite
    alarm           int32    bits of the anomalies it showed, in the order of `anomaly.KINDS`
    steps           int32    training steps taken this round
    step            int32    training steps behind its weights, ancestors included
    cost            float32  floating-point operations of one training step
    parameters      int32    weights, without padding
    bytes           float32  bytes of variables and optimizer state, without padding
    seconds         float32  wall seconds of one training step, attributed; NaN before any. The lane
                             it trained in, shared out by steps x cost; differs from run to run
    train_loss      float32  mean training loss over the steps of the last round it trained in
    gradient_norm   float32  mean gradient norm over the same steps
    valid_*         float32  validation metrics of its weights (valid_loss, valid_accuracy, ...)
    <gene>          one column per gene, in the gene's own values (choices: the option)

Columns of a window table, one row per member and window of at most k steps; k is the run's
`window`, or more where `levels.coarsen` made it so:

    round, member, birth     as above; steps never reach from one round into another, unless coarser
    step            int32    training steps behind the weights at the end of the window
    steps           int32    training steps in the window
    train_loss_min  float32  least training loss of a step; NaN if one is, as for the others
    train_loss      float32  mean training loss
    train_loss_max  float32  greatest training loss of a step
    train_loss_last float32  training loss of the last step
    gradient_norm   float32  mean gradient norm
    wall_ns         int64    wall clock, nanoseconds, when the call that trained the window ended
    monotonic_ns    int64    monotonic clock of this machine, nanoseconds, at the same moment

Which node's they are, what to add to its clocks and how wrong that may be, is told once a round: by
the usage table of the process that trains, and with islands by the island table.

Windows of members that nodes train are as long as the node says; their wall_ns is the controller's
clock, as far as the node knew it, their monotonic_ns the node's own. What else a node sends with
them, such as metrics and its use of resources, is in DIR/inbox.db, see `inbox` and `windows`.

Columns of a step table, one row per step of the members that are traced:

    round, member, birth, step, train_loss, gradient_norm    as above, of a single step

Columns of a parameter table, one row per round, traced member and parameter:

    round, member, birth, step                as above
    parameter                        text     its path, such as `Dense_0/kernel`
    size                             int32    numbers it has
    mean, std, min, max, norm        float32  of all of them
    values                  list of float32   at most `weights.MOST_VALUES` of them, always the same

Columns of a usage table, one row per round, of the process that trains:

    round           int32    as above
    node            text     `local`
    sequence        int64    number of the record, never used twice by the node
    seconds         float64  wall seconds since the record before
    cpu             float64  cores that the process kept busy
    memory          float64  bytes of memory that the process holds
    gpu             float64  share of time that its GPU was busy, 0-1; NaN without one
    gpu_memory      float64  bytes in use on that GPU; NaN without one
    wall_ns, monotonic_ns, clock_offset, clock_bound    int64    see `clock.Stamp`

Columns of the table `events` in the run's database, `swarm.db`, one row per event:

    id              integer  number of the event, from 1 on
    time            real     wall-clock seconds when it was told
    round           integer  finished rounds at that time
    kind            text     started, note, node, island, died, ..., or one of `anomaly.KINDS`
    member          integer  slot that it is about; null without one
    text            text     what happened, for a person
    value           real     of an alarm: what exceeded the threshold; null without one
    threshold       real     of an alarm: `anomaly.THRESHOLDS` of its kind; null without one
    seal            blob     tells the row from all others, see `seals`

Columns of a quantile table, one row per round and metric:

    round           int32    as above
    metric          text     a column of the frame table
    members         int32    living members whose value of it is finite
    q00 ... q100    float32  quantiles of these values, in percent: `levels.QUANTILES`

Columns of a layer table, one row per layer of each architecture of the vectorised members, in the
round after which it was first described (few are in one round); nodes announce their own:

    round           int32    as above
    architecture    text     structural genes, such as `depth=2, width=64`
    place           int32    of the layer in its model, in the order of calls
    layer           text     its path, such as `Dense_0`
    kind            text     its type, such as `Dense`
    sizes           text     features that go in and come out
    inputs          text     places of the layers that feed it; none: the model's input, or unknown

Columns of an island table, one row per round and island, of its process:

    round           int32    as above
    island          int32    its number
    host            text     where it runs
    pid             int64    number of its process there
    members         int32    that it trained
    steps           int64    that they took
    seconds         float64  wall seconds that it took for them; in its first round, compilation too
    arrived         int64    networks that came from other islands
    arrived_bytes   int64    their bytes
    begun           int32    how often it was begun: once, and after each loss again
    cpu, memory, gpu, gpu_memory                        float64  as in a usage table
    wall_ns, monotonic_ns, clock_offset, clock_bound    int64    see `clock.Stamp`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from swarmjax import ipc, levels
from swarmjax.clock import Stamp
from swarmjax.space import Choice, Gene
from swarmjax.types import Array, Frame, Plan
from swarmjax.windows import STATISTICS

_WHO = {name: pa.int32() for name in ("round", "member", "birth", "step")}
_STEP = {name: pa.float32() for name in ("train_loss", "gradient_norm")}
_SPREAD = [f"q{levels.round_percent(quantile):02d}" for quantile in levels.QUANTILES]
_LOSSES = ("train_loss_min", "train_loss", "train_loss_max", "train_loss_last")
# Types of all columns of the tables beside the Frames, by what `store` calls these tables.
TYPES: Mapping[str, Mapping[str, pa.DataType]] = {
    "windows": _WHO | {"steps": pa.int32()} | dict.fromkeys(_LOSSES, pa.float32()) | _STEP
    | dict.fromkeys(("wall_ns", "monotonic_ns"), pa.int64()),
    "steps": _WHO | _STEP,
    "parameters": _WHO | {"parameter": pa.string(), "size": pa.int32()}
    | dict.fromkeys(STATISTICS, pa.float32()) | {"values": pa.list_(pa.float32())},
    "usage": {"round": pa.int32(), "node": pa.string()}
    | dict.fromkeys(("seconds", "cpu", "memory", "gpu", "gpu_memory"), pa.float64())
    | dict.fromkeys(("sequence", *Stamp._fields), pa.int64()),
    "islands": dict.fromkeys(("round", "island", "members", "begun"), pa.int32())
    | dict.fromkeys(("pid", "steps", "arrived", "arrived_bytes", *Stamp._fields), pa.int64())
    | dict.fromkeys(("seconds", "cpu", "memory", "gpu", "gpu_memory"), pa.float64())
    | {"host": pa.string()},
    "layers": {"round": pa.int32(), "architecture": pa.string(), "place": pa.int32()}
    | {name: pa.string() for name in ("layer", "kind", "sizes", "inputs")},
    "quantiles": {"round": pa.int32(), "metric": pa.string(), "members": pa.int32()}
    | dict.fromkeys(_SPREAD, pa.float32()),
}  # fmt: skip


def frame_table(plan: Plan, frame: Frame, time: float) -> pa.Table:
    """One row per member for the round that `frame` shows and `plan` asked for."""
    members = len(np.asarray(frame.birth))
    columns: dict[str, Any] = {
        "round": np.full(members, int(frame.round), np.int32),
        "time": np.full(members, time, np.float64),
        "member": np.arange(members, dtype=np.int32),
        "birth": _ints(frame.birth),
        "lineage": _ints(frame.lineage),
        "parent": _ints(plan.parent),
        "fresh": np.asarray(plan.fresh, bool),
        "alive": np.asarray(frame.alive, bool),
        "alarm": _ints(frame.alarm),
        "steps": _ints(frame.steps),
        "step": _ints(frame.total_steps),
        "cost": _floats(frame.cost),
        "parameters": _ints(frame.parameters),
        "bytes": _floats(frame.bytes),
        "seconds": _floats(frame.seconds),
        "train_loss": _floats(frame.loss),
        "gradient_norm": _floats(frame.gradient_norm),
    }
    columns |= {name: _floats(values) for name, values in frame.metrics.items()}
    columns |= {name: _options(gene, frame.genome[name]) for name, gene in frame.space.genes}
    return pa.table({name: ipc.column(values) for name, values in columns.items()})


def window_table(frame: Frame, columns: Mapping[str, np.ndarray]) -> pa.Table:
    """Windows, or steps, of the round that `frame` shows, from `curves.Rows`."""
    columns = dict(columns)
    member, done = columns.pop("member"), columns.pop("done")
    before = _ints(frame.total_steps) - _ints(frame.steps)
    return ipc.table({**_who(frame, member), "step": before[member] + done, **columns})


def parameter_table(frame: Frame, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Parameters after the round that `frame` shows, from `curves.Rows`."""
    member = np.asarray([row["member"] for row in rows], np.int32)
    names = ipc.texts(row["parameter"] for row in rows)
    size = np.asarray([row["size"] for row in rows], np.int32)
    numbers = {name: np.asarray([row[name] for row in rows], np.float32) for name in STATISTICS}
    ends = np.cumsum([0, *(len(row["values"]) for row in rows)]).astype(np.int32)
    values = np.concatenate([row["values"] for row in rows] or [[]]).astype(np.float32)
    lists = pa.ListArray.from_arrays(ipc.column(ends), ipc.column(values))
    return ipc.table({
        **_who(frame, member), "step": _ints(frame.total_steps)[member], "parameter": names,
        "size": size, **numbers, "values": lists,
    })  # fmt: skip


def usage_table(round: int, seconds: float, used: Mapping[str, float], stamp: Stamp) -> pa.Table:
    """What this process used in a round, from `usage.Usage.sample`."""
    numbers = {"seconds": seconds, **used}
    whole = {"sequence": round, **stamp._asdict()}
    return ipc.table({
        "round": np.asarray([round], np.int32), "node": ipc.texts(["local"]),
        **{name: np.asarray([value], np.float64) for name, value in numbers.items()},
        **{name: np.asarray([value], np.int64) for name, value in whole.items()},
    })  # fmt: skip


def island_table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """What each island did in a round; rows have the columns of an island table."""
    kinds = {name: kind for name, kind in TYPES["islands"].items() if name != "host"}
    numbers = {
        name: np.asarray([row[name] for row in rows], kind.to_pandas_dtype())
        for name, kind in kinds.items()
    }
    return ipc.table({**numbers, "host": ipc.texts(row["host"] for row in rows)})


def layer_table(round: int, found: Sequence[tuple[str, Sequence[Any]]]) -> pa.Table:
    """Architectures that turned up in a round, and the `anatomy.Layer`s of each."""
    rows = [(text, place, layer) for text, some in found for place, layer in enumerate(some)]
    return ipc.table({
        "round": np.full(len(rows), round, np.int32),
        "architecture": ipc.texts(text for text, _, _ in rows),
        "place": np.asarray([place for _, place, _ in rows], np.int32),
        "layer": ipc.texts(layer.name for *_, layer in rows),
        "kind": ipc.texts(layer.kind for *_, layer in rows),
        "sizes": ipc.texts(", ".join(map(str, layer.sizes)) for *_, layer in rows),
        "inputs": ipc.texts(", ".join(map(str, layer.inputs)) for *_, layer in rows),
    })  # fmt: skip


def attributed(frames: pa.Table, usage: pa.Table) -> pa.Table:
    """What every member used in every round: its share of what the process did.

    Columns `round`, `member`, `cpu_seconds` and `gpu_seconds`, shared out by the time of its steps;
    `memory` and `gpu_memory` bytes, shared out by its `bytes`. NaN where it is not known.
    """
    round = frames["round"].to_numpy()
    known, at = np.unique(usage["round"].to_numpy(), return_index=True)
    place = np.searchsorted(known, round).clip(0, max(len(known) - 1, 0))
    found = known[place] == round if len(known) else np.zeros(len(round), bool)

    def used(name):
        values = usage[name].to_numpy()[at] if len(known) else np.zeros(1)
        return np.where(found, values[place], np.nan)

    time = _share(round, frames["steps"].to_numpy() * np.nan_to_num(frames["seconds"].to_numpy()))
    space = _share(round, frames["bytes"].to_numpy())
    shares = {"cpu_seconds": (time, "cpu"), "gpu_seconds": (time, "gpu")}
    made = {name: part * used(of) * used("seconds") for name, (part, of) in shares.items()}
    made |= {name: space * used(name) for name in ("memory", "gpu_memory")}
    return ipc.table({"round": round, "member": frames["member"].to_numpy(), **made})


def _share(group: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Each amount as a part of the sum of its group; 0 where that is none."""
    _, index = np.unique(group, return_inverse=True)
    total = np.bincount(index, amount.astype(np.float64))[index]
    return np.divide(amount, total, out=np.zeros(len(total)), where=total > 0)


def _who(frame: Frame, member: np.ndarray) -> dict[str, np.ndarray]:
    round = np.full(len(member), int(frame.round), np.int32)
    return {"round": round, "member": member, "birth": _ints(frame.birth)[member]}


def plan_table(plan: Plan) -> pa.Table:
    """A Plan as stored: genes by their raw values, so that it reads back bit for bit."""
    columns = {name: ipc.column(getattr(plan, name)) for name in Plan._fields if name != "genome"}
    return pa.table(columns | {f"gene.{name}": ipc.column(v) for name, v in plan.genome.items()})


def plan_from_table(table: pa.Table) -> Plan:
    """Inverse of `plan_table`."""
    columns = {name: table[name].to_numpy() for name in table.column_names}
    genome = {name[5:]: columns.pop(name) for name in table.column_names if name[:5] == "gene."}
    return Plan(genome=genome, **columns)


def _options(gene: Gene, raw: Array) -> pa.Array:
    if isinstance(gene, Choice):
        indices = ipc.column(_ints(raw))
        kinds = {type(option) for option in gene.options}
        if kinds == {str} or len(kinds) > 1:
            return pa.DictionaryArray.from_arrays(indices, ipc.texts(map(str, gene.options)))
        return ipc.column(np.asarray(gene.options)[_ints(raw)])
    return ipc.column(_floats(raw))


def _ints(values: Array) -> np.ndarray:
    return np.asarray(values, np.int32)


def _floats(values: Array) -> np.ndarray:
    return np.asarray(values, np.float32)
