"""Ray Tune: PBT or ASHA over PyTorch networks. `python -m paper.peer_ray pbt|asha EXPERIMENT`.

As Ray's guides advise: a `Trainable` that saves and loads checkpoints, actors that are used again,
one core a trial. As many trials run at a time as there are cores, and PBT pauses the others: all
side by side would need a PyTorch each in memory. PBT exchanges after every validation and changes
the rates; ASHA has Ray's own settings, and begins new trials until the member-steps are spent.
"""

# The peer lies in an environment of its own.
# pyright: reportMissingImports=false

from __future__ import annotations

import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining

from paper.peer_protocol import RATES, Experiment, Report, read
from paper.peer_torch import Trainee

_METRIC = "valid_accuracy"


class Trial(tune.Trainable):
    """One network."""

    def setup(self, config: dict[str, Any], experiment: dict[str, Any]) -> None:
        """A fresh network."""
        self._experiment = Experiment(**experiment)
        self._made = 0
        self._make(config)

    def _make(self, config: dict[str, Any]) -> None:
        self._made += 1
        number = int(self.trial_id.rpartition("_")[2] or 0)
        self.trainee = Trainee(self._experiment, config, number)

    def step(self) -> dict[str, Any]:
        """Trains until the next validation."""
        valid = self.trainee.train(self._experiment.round_steps)
        name = f"{self.trial_id}-{self._made}-{self.iteration}.npz"
        file = self.trainee.keep(valid, Path(self._experiment.folder) / name)
        return {_METRIC: valid, "network": file}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Weights and optimizer state."""
        state = {
            "net": self.trainee.net.state_dict(),
            "optimizer": self.trainee.optimizer.state_dict(),
        }
        torch.save(state, Path(checkpoint_dir) / "state.pt")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Goes on from another network's state, with its own rates."""
        state = torch.load(Path(checkpoint) / "state.pt", weights_only=True)
        self.trainee.net.load_state_dict(state["net"])
        self.trainee.optimizer.load_state_dict(state["optimizer"])
        self.trainee.set_rates()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Lets the process be used for another network."""
        self._make(new_config)
        return True


class Budget(tune.Stopper):
    """Ends a trial after its steps, and all when the member-steps are spent."""

    def __init__(self, experiment: Experiment):
        """Nothing was spent yet."""
        self._rounds, self._budget = experiment.rounds, experiment.members * experiment.rounds
        self._seen: Counter[str] = Counter()

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether this trial has had its steps; counted here, since a copy takes over a count."""
        self._seen[trial_id] += 1
        return self._seen[trial_id] >= self._rounds

    def stop_all(self) -> bool:
        """Whether all have."""
        return self._seen.total() >= self._budget


class Told(tune.Callback):
    """Reports every validation."""

    def __init__(self, report: Report, steps: int):
        """Of networks that are validated after so many steps."""
        self._report, self._steps = report, steps

    def __getstate__(self) -> dict[str, Any]:
        """Ray stores the state of a search, which an open standard output cannot be part of."""
        return {}

    def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
        """One network was validated."""
        self._report.tell(self._steps, result[_METRIC], result["network"])


def domain(kind: str, *rest):
    """A gene as Ray has it."""
    return tune.loguniform(*rest) if kind == "log_uniform" else tune.choice(list(rest))


def main(scheduler: str, path: str) -> None:
    """The search."""
    experiment = read(path)
    report = Report(experiment)
    ray.init(
        num_cpus=experiment.cores, include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip
    space = {name: domain(*gene) for name, gene in experiment.space.items()}
    schedulers = {
        "pbt": lambda: PopulationBasedTraining(
            time_attr="training_iteration", perturbation_interval=1,
            hyperparam_mutations={name: space[name] for name in RATES if name in space},
        ),
        "asha": lambda: ASHAScheduler(time_attr="training_iteration", max_t=experiment.rounds),
    }  # fmt: skip
    trainable = tune.with_parameters(Trial, experiment=experiment._asdict())
    report.begin()
    tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space=space,
        tune_config=tune.TuneConfig(
            metric=_METRIC, mode="max", scheduler=schedulers[scheduler](), reuse_actors=True,
            num_samples=experiment.members if scheduler == "pbt" else -1,
        ),
        run_config=tune.RunConfig(
            storage_path=str(Path(experiment.folder) / "ray"), verbose=0,
            stop=Budget(experiment), callbacks=[Told(report, experiment.round_steps)],
        ),
    ).fit()  # fmt: skip
    report.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
