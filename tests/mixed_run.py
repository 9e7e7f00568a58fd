"""A small run with nodes; as a program, to be killed."""

import sys
from pathlib import Path

import numpy as np

import swarmjax as sj

SPACE = sj.Space(learning_rate=sj.log_uniform(0.01, 1.0), width=sj.structure(8, 16))


def setting(directory, **changes):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    task = sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=16)
    given = {"task": task, "space": SPACE, "members": 6, "budget": 240, "round_steps": 10}
    given |= {"policy": sj.chain(sj.softmax(), sj.exploit()), "nodes": 2, "swarm": "s"}
    return sj.Experiment(**given | {"directory": directory} | changes)


if __name__ == "__main__":
    given = {"budget": 720, "checkpoint_seconds": float(sys.argv[2])}
    # The bus is that of the environment.
    sj.run(setting(Path(sys.argv[1]), **given), resume="-r" in sys.argv)
