"""Rows of problems whose answers are known: the PBT paper's toy and the noisy quadratic."""

from __future__ import annotations

from typing import Any

import numpy as np

from paper.intervals import middle_mean
from paper.measure import Row, at_least, at_most, progress
from paper.toys import explore, pbt_toy, play, quadratic
from swarmjax.allocate import uniform

SEEDS = 40


def toy() -> Row:
    """The best quality that two members find, with PBT and with the genes of the grid."""

    def targets(quick: bool):
        del quick
        return {"toy-pbt": at_least(1.18), "toy-grid": at_most(0.4)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        del quick
        how = {"seeds": SEEDS, "members": 2, "rounds": 100, "round_steps": 5}
        found = {
            "pbt": play(pbt_toy(), explore(0.5), **how),
            "grid": play(pbt_toy(), uniform(), **how),
        }
        values = {f"toy-{name}": float(some.mean()) for name, some in found.items()}
        progress(f"toy: {values}")
        return values, {name: some.tolist() for name, some in found.items()}

    return Row(targets, measure)


def noise() -> Row:
    """Loss of PBT over that of the best of 16 constant learning rates."""

    def targets(quick: bool):
        del quick
        return {"quadratic": at_most(0.6)}

    def measure(quick: bool) -> tuple[dict[str, float], Any]:
        del quick
        how = {"seeds": SEEDS, "members": 16, "rounds": 50, "round_steps": 20}
        loss = {
            "pbt": -play(quadratic(), explore(0.25), **how),
            "constant": -play(quadratic(), uniform(), **how),
        }
        ratio = float(np.mean(loss["pbt"]) / np.mean(loss["constant"]))
        each = {name: middle_mean(some)._asdict() for name, some in loss.items()}
        progress(f"quadratic: {ratio:.3f} of the best constant")
        return {"quadratic": ratio}, {
            "middle_mean": each,
            "loss": {k: v.tolist() for k, v in loss.items()},
        }

    return Row(targets, measure)
