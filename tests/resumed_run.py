"""A small run that tests break and resume; as a program, to be killed."""

import sys
from pathlib import Path

import jax
import numpy as np

import swarmjax as sj

SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1),
    optimizer=sj.choice("momentum", "adam"),
    activation=sj.choice("relu", "tanh"),
    width=sj.structure(4, 8),
)


def setting(directory, **changes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    task = sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)
    given = {"task": task, "space": SPACE, "members": 6, "budget": 360, "round_steps": 10}
    given |= {"directory": directory and Path(directory), "seed": 3}
    return sj.Experiment(**given | changes)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 8)
    sj.run(setting(sys.argv[1], checkpoint_seconds=float(sys.argv[2])), resume="-r" in sys.argv)
