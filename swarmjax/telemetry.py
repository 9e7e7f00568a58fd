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
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from swarmjax import ipc
from swarmjax.space import Choice, Gene
from swarmjax.types import Array, Frame, Plan


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
