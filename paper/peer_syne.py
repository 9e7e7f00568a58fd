"""Syne Tune: ASHA over PyTorch networks. `python -m paper.peer_syne FILE`.

As Syne Tune's documentation has it: a local backend that runs each trial as a process of
`peer_syne_trial`, as many at a time as there are cores, with Syne Tune's own settings of ASHA. Two
are changed, both in its favour: it looks for results every tenth of a second, not every five
seconds, and does not store itself. New trials begin until the member-steps are spent.
"""

# The peer lies in an environment of its own.
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from syne_tune import Tuner, config_space
from syne_tune.backend import LocalBackend
from syne_tune.optimizer.baselines import ASHA
from syne_tune.tuner_callback import TunerCallback

from paper.peer_protocol import Experiment, Report, read

METRIC, TIME = "valid_accuracy", "round"


class Told(TunerCallback):
    """Reports every validation."""

    def __init__(self, report: Report, steps: int):
        """Of networks that are validated after so many steps."""
        self._report, self._steps = report, steps

    def on_trial_result(self, trial, status, result: dict[str, Any], decision) -> None:
        """One network was validated."""
        self._report.tell(self._steps, result[METRIC], result["network"] or None)


def genes(experiment: Experiment) -> dict[str, Any]:
    """The space as Syne Tune has it."""
    return {
        name: config_space.loguniform(*rest) if kind == "log_uniform" else config_space.choice(rest)
        for name, (kind, *rest) in experiment.space.items()
    }


def main(path: str) -> None:
    """The search."""
    logging.getLogger().setLevel(logging.WARNING)
    experiment, here = read(path), Path(__file__)
    report = Report(experiment)
    # Trials are started as files.
    os.environ["PYTHONPATH"] = str(here.parents[1])
    report.begin()
    Tuner(
        trial_backend=LocalBackend(entry_point=str(here.with_name("peer_syne_trial.py"))),
        scheduler=ASHA(
            genes(experiment) | {"experiment": path},
            metric=METRIC,
            do_minimize=False,
            time_attr=TIME,
            max_t=experiment.rounds,
            random_seed=experiment.seed,
        ),
        stop_criterion=lambda status: report.spent,
        n_workers=experiment.cores,
        sleep_time=0.1,
        callbacks=[Told(report, experiment.round_steps)],
        save_tuner=False,
    ).run()
    report.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
