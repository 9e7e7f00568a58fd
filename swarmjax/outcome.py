"""What a run returns."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from swarmjax.archipelago import Archipelago
from swarmjax.ensemble import Ensemble, Soup, choose_ensemble, choose_soup, ranked
from swarmjax.experiment import Setup
from swarmjax.mixed import Mixed
from swarmjax.result import Best
from swarmjax.train import LocalTrainer
from swarmjax.types import Frame


class DivergedError(RuntimeError):
    """No member ever reached a finite validation score."""


class Result(NamedTuple):
    """What a run returns.

    Attributes:
        best: the best network the run has seen.
        ensemble: the best few that live after the last round, who vote; None where nobody does, or
            none was asked for.
        soup: the mean of the last round's best network and its relatives; None as before.
        frame: the last Frame.
        directory: where everything is stored.
        trainer: holds the weights of all members but nodes; `trainer.network(slot, frame.genome)`.
    """

    best: Best
    ensemble: Ensemble | None
    soup: Soup | None
    frame: Frame
    directory: Path
    trainer: LocalTrainer | Mixed | Archipelago


def together(
    setup: Setup, trainer: LocalTrainer | Mixed | Archipelago, frame: Frame
) -> tuple[Ensemble | None, Soup | None]:
    """What the living of the last round are worth together; None where nobody asked, or lives."""
    size = setup.experiment.ensemble
    if not size or not ranked(setup, frame):
        return None, None
    return choose_ensemble(setup, trainer, frame, size), choose_soup(setup, trainer, frame)
