"""A whole program: Population Based Training by Ray Tune. `python -m paper.whole_ray FOLDER`.

Written as Ray's guide to PBT advises: a `Trainable` that saves and loads checkpoints, actors that
are used again, one core a trial: as many trials run at a time as there are cores, and the others
are paused. All trials side by side, with a fraction of a core each, took far longer on two cores,
since each process imports PyTorch.
"""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import ray
import torch
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from paper import whole_data as search
from paper.whole_torch import Trainee


class Trial(tune.Trainable):
    """One member of the population."""

    def setup(self, config: dict[str, Any]) -> None:
        """A fresh network."""
        self.trainee = Trainee(config["learning_rate"])

    def step(self) -> dict[str, float]:
        """Trains until the next exchange."""
        return {"valid_accuracy": self.trainee.steps(search.EVERY)}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Weights and optimizer state."""
        state = {"net": self.trainee.net.state_dict(), "adam": self.trainee.adam.state_dict()}
        torch.save(state, Path(checkpoint_dir) / "state.pt")

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Goes on from another member's state, with its own learning rate."""
        state = torch.load(Path(checkpoint) / "state.pt", weights_only=True)
        self.trainee.net.load_state_dict(state["net"])
        self.trainee.adam.load_state_dict(state["adam"])
        self._set_rate(self.config["learning_rate"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Lets the process be used for another member."""
        self.trainee = Trainee(new_config["learning_rate"])
        return True

    def _set_rate(self, rate: float) -> None:
        for group in self.trainee.adam.param_groups:
            group["lr"] = rate


def main(folder: str) -> None:
    """Searches, and prints the best validation accuracy as JSON."""
    cores = len(os.sched_getaffinity(0))
    ray.init(
        num_cpus=cores, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    rates = tune.loguniform(search.LOW, search.HIGH)
    last = {"training_iteration": search.STEPS // search.EVERY}
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration", perturbation_interval=1,
        hyperparam_mutations={"learning_rate": rates},
    )  # fmt: skip
    tuner = tune.Tuner(
        tune.with_resources(Trial, {"cpu": 1}),
        param_space={"learning_rate": rates},
        tune_config=tune.TuneConfig(
            metric="valid_accuracy", mode="max", num_samples=search.MEMBERS, scheduler=scheduler,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=folder, stop=last, verbose=0),
    )  # fmt: skip
    best = tuner.fit().get_best_result()
    print(json.dumps({"valid_accuracy": best.metrics["valid_accuracy"]}))  # pyright: ignore


if __name__ == "__main__":
    main(sys.argv[1])
