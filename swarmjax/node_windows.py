"""Windows of training nodes as those of all other members are kept: `telemetry`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from swarmjax import ipc
from swarmjax.types import Frame

# Columns of `curves.Rows.windows`, whose members and steps are added here.
_FLOATS = ("train_loss_min", "train_loss", "train_loss_max", "train_loss_last", "gradient_norm")
_KINDS = {"member": np.int32, "done": np.int32, "steps": np.int32}
_KINDS |= dict.fromkeys(_FLOATS, np.float32) | dict.fromkeys(("wall_ns", "monotonic_ns"), np.int64)


def window_columns(
    tables: Mapping[int, Sequence[pa.Table]], frame: Frame
) -> Mapping[str, np.ndarray]:
    """Columns of every window of the round that `frame` shows, by member and then time.

    Windows of other rounds, and of steps that nobody reported, are left out. Times are the
    controller's, as far as a node knows how far its clock is off.

    Args:
        tables: slot -> tables of windows of its node, as `windows.read_windows` gives them.
        frame: of the nodes.
    """
    parts = [_of(slot, tables[slot], frame) for slot in sorted(tables)]
    return {
        name: np.concatenate([part[name] for part in parts] or [[]]).astype(kind)
        for name, kind in _KINDS.items()
    }


def _of(slot: int, tables: Sequence[pa.Table], frame: Frame) -> dict[str, np.ndarray]:
    names = ("round", "step", "steps", "clock_offset", *_FLOATS, "wall_ns", "monotonic_ns")
    found = {n: np.concatenate([ipc.numbers(table[n]) for table in tables]) for n in names}
    taken, total = int(frame.steps[slot]), int(frame.total_steps[slot])
    found["done"] = found.pop("step") - (total - taken)
    found["member"] = np.full(len(found["done"]), slot)
    found["wall_ns"] = found["wall_ns"] + found.pop("clock_offset")
    own = found.pop("round") == int(frame.round)
    own &= (found["steps"] > 0) & (found["done"] >= found["steps"]) & (found["done"] <= taken)
    order = np.argsort(found["done"][own], kind="stable")
    return {name: values[own][order] for name, values in found.items()}
