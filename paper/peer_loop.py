"""Random search by a hand-written loop, a process for each core: `python -m paper.peer_loop FILE`.

Each process trains one network after the other to its end, by a jitted scan of exactly its own
depth, width, activation and optimizer, its rates traced. Networks of one program go to the same
process, so that it is compiled once, unless there are fewer programs than processes. FILE holds the
experiment.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paper import peer_protocol as protocol
from paper.peer_protocol import Experiment, read
from paper.peer_shares import Share, gather


class Worker(NamedTuple):
    """One process of a search.

    Attributes:
        experiment: what is searched.
        share: told of every validation.
        data: training and validation examples, on the device.
        program: a network's genes -> its compiled functions, as `peer_jax.make_functions`, and the
            options they know.
    """

    experiment: Experiment
    share: Share
    data: tuple[Any, Any]
    program: Callable[..., Any]


def work(experiment: Experiment, number: int) -> None:
    """One process, for every so many-th program of the search."""
    if hasattr(os, "sched_setaffinity"):
        # Before JAX starts: its threads are as many as the cores that it sees.
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    import jax

    from paper import peer_jax

    @cache
    def program(depth: int, width: int, activation: str, optimizer: str):
        del depth, width
        options = peer_jax.Options((activation,), (optimizer,))
        train, score = peer_jax.make_functions(options)
        return jax.jit(train, donate_argnums=0), jax.jit(score), options

    train, valid = (jax.device_put(protocol.split(experiment.data, n)) for n in ("train", "valid"))
    worker = Worker(experiment, Share(), (train, valid), program)
    groups = shared(peer_jax.grouped(peer_jax.members(experiment), tuple(_SHAPE)), experiment.cores)
    mine = [member for together in groups[number :: experiment.cores] for member in together]
    for search in worker.share.searches():
        best = -1.0
        for member in mine:
            best = train_one(worker, member, search, best)


def shared(groups: list[list[Any]], processes: int) -> list[list[Any]]:
    """The groups, or parts of them if there are too few for all processes to have work."""
    parts = -(-processes // len(groups))
    return [group[part::parts] for group in groups for part in range(parts)]


# Genes that make a program, with what they are where the space lacks them.
_SHAPE = {"depth": 1, "width": 1, "activation": "relu", "optimizer": "adam"}


def train_one(worker: Worker, member: Any, search: int, best: float) -> float:
    """Trains a network to its end; the best validation accuracy of all so far."""
    from paper import peer_jax

    experiment, (x, y) = worker.experiment, worker.data[0]
    train, score, options = worker.program(**(_SHAPE | _shape(member.genes)))
    genes, state = peer_jax.traced(options, member.genes), peer_jax.begin(member.layers)
    rng = np.random.default_rng([experiment.seed, member.number, 1])
    for round in range(experiment.rounds):
        rows = protocol.batches(rng, len(y), experiment.batch, experiment.round_steps)
        state = train(state, genes, x, y, rows)
        valid, file = float(score(state, genes, *worker.data[1])), None
        if valid > best:
            best = valid
            path = Path(experiment.folder) / f"{search}-{member.number}-{round}.npz"
            protocol.save_network(path, peer_jax.network(member, state[0]))
            file = str(path)
        worker.share.tell(experiment.round_steps, valid, file)
    return best


def _shape(genes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in genes.items() if name in _SHAPE}


def main(path: str, number: str | None = None) -> None:
    """The searches, or with a number one process of them."""
    experiment = read(path)
    if number is not None:
        work(experiment, int(number))
        return
    command = (sys.executable, "-m", "paper.peer_loop", path)
    gather([(*command, str(each)) for each in range(experiment.cores)], experiment)


if __name__ == "__main__":
    main(*sys.argv[1:])
