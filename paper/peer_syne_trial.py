"""One trial of `peer_syne`, which starts it with the genes as options and reads what it reports."""

# The peer lies in an environment of its own.
# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import os
from pathlib import Path

from syne_tune import Reporter

from paper.peer_protocol import RATES, read
from paper.peer_torch import Trainee


def main() -> None:
    """Trains a network to its end, unless it is stopped before."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--experiment", required=True)
    experiment = read(parser.parse_known_args()[0].experiment)
    for name, gene in experiment.space.items():
        parser.add_argument(f"--{name}", type=float if name in RATES else type(gene[1]))
    genes = vars(parser.parse_known_args()[0])
    genes.pop("experiment")
    report, folder = Reporter(), Path(experiment.folder)
    # What tells one trial from another is its process.
    trainee = Trainee(experiment, genes, os.getpid())
    for round in range(experiment.rounds):
        valid = trainee.train(experiment.round_steps)
        file = trainee.keep(valid, folder / f"{os.getpid()}-{round}.npz")
        report(valid_accuracy=valid, round=round + 1, network=file or "")


if __name__ == "__main__":
    main()
