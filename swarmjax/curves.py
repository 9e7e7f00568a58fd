"""What single steps of a round showed, as columns: windows of all members, series of chosen ones.

Both are ordered by member and then by time; `done` counts the steps of this round's grant. How they
are stored is in `telemetry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from swarmjax import weights
from swarmjax.frames import LaneReport
from swarmjax.lanes import DECK
from swarmjax.members import Network, Recipe
from swarmjax.watch import Wanted

Columns = Mapping[str, np.ndarray]


class Rows(NamedTuple):
    """What a round showed beside its Frame.

    Attributes:
        windows: columns, as from `window_columns`.
        steps: columns, as from `step_columns`.
        parameters: rows, as from `weights.parameter_rows`.
    """

    windows: Columns
    steps: Columns
    parameters: Sequence[Mapping[str, Any]]


# Columns of windows -> fields of `watch.Windows`.
_LOSSES = {
    "train_loss_min": "loss_min",
    "train_loss": "loss",
    "train_loss_max": "loss_max",
    "train_loss_last": "loss_last",
    "gradient_norm": "gradient_norm",
}


def rows(
    recipe: Recipe,
    wanted: Wanted,
    reports: Sequence[LaneReport],
    granted: np.ndarray,
    networks: Iterable[tuple[int, Network]],
) -> Rows:
    """All that a round showed beside its Frame.

    Args:
        recipe: what all members share.
        wanted: what is kept of single steps and of weights.
        reports: of all lanes; none before the first round, when there are no networks either.
        granted: `[N]` steps that each member took.
        networks: slots and networks of the traced members.
    """
    return Rows(
        window_columns(reports, granted, wanted.window),
        step_columns(reports, granted, wanted.traced),
        list(weights.parameter_rows(recipe, networks if reports else (), wanted.parameters)),
    )


def window_columns(reports: Iterable[LaneReport], granted: np.ndarray, size: int) -> Columns:
    """Columns of every window of a round.

    Args:
        reports: of all lanes.
        granted: `[N]` steps that each member took.
        size: steps of a window.
    """
    floats = dict.fromkeys(_LOSSES, np.float32)
    kinds = {"member": np.int32, "done": np.int32, "steps": np.int32} | floats
    kinds |= {"wall_ns": np.int64, "monotonic_ns": np.int64}
    return _ordered((_windows(lane, granted, size) for lane in reports), kinds)


def step_columns(
    reports: Iterable[LaneReport], granted: np.ndarray, traced: Sequence[int]
) -> Columns:
    """Columns of every step that the `traced` members took in a round."""
    kinds = {"member": np.int32, "done": np.int32}
    kinds |= {"train_loss": np.float32, "gradient_norm": np.float32}
    return _ordered((c for lane in reports for c in _steps(lane, granted, traced)), kinds)


def _windows(lane: LaneReport, granted: np.ndarray, size: int) -> Columns:
    shown, real = lane.report.shown, lane.places >= 0
    slots = lane.places[real][:, None]
    begin = size * np.arange(shown.windows.loss.shape[-1])[None]
    end = np.minimum(granted[slots], begin + size)
    taken = end > begin
    columns = {name: getattr(shown.windows, f)[real][taken] for name, f in _LOSSES.items()}
    call = (end[taken] - 1) // DECK
    return columns | {
        "member": np.broadcast_to(slots, end.shape)[taken], "done": end[taken],
        "steps": (end - begin)[taken],
        "wall_ns": shown.wall_ns[call], "monotonic_ns": shown.monotonic_ns[call],
    }  # fmt: skip


def _steps(lane: LaneReport, granted: np.ndarray, traced: Sequence[int]) -> Iterator[Columns]:
    shown = lane.report.shown
    loss: np.ndarray = np.asarray(shown.traced.loss)
    norm: np.ndarray = np.asarray(shown.traced.gradient_norm)
    for place in np.flatnonzero(shown.held).tolist():
        steps = int(granted[traced[place]])
        yield {
            "member": np.full(steps, traced[place]), "done": 1 + np.arange(steps),
            "train_loss": loss[place, :steps],
            "gradient_norm": norm[place, :steps],
        }  # fmt: skip


def _ordered(parts: Iterable[Columns], kinds: Mapping[str, type]) -> Columns:
    some = list(parts)
    whole = {
        name: np.concatenate([part[name] for part in some] or [[]]).astype(kind)
        for name, kind in kinds.items()
    }
    order = np.lexsort((whole["done"], whole["member"]))
    return {name: values[order] for name, values in whole.items()}
