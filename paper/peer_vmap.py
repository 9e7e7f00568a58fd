"""Random search by hand-written `vmap`. `python -m paper.peer_vmap EXPERIMENT`.

Networks of one depth and width are one program that trains them side by side on the same batches,
their rates, activations and optimizers traced. All are trained for a round and validated, group by
group, so that good networks are found early.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import jax
import numpy as np

from paper import peer_jax
from paper.peer_jax import Member, Options
from paper.peer_protocol import Experiment, Network, Report, batches, read, split


class Group:
    """Networks of one depth and width."""

    def __init__(self, together: list[Member], options: Options, programs: Any):
        """Fresh networks; `programs` are those of `make_functions`, vmapped and jitted."""
        self.members, (self._train, self._score) = together, programs
        states = [peer_jax.begin(member.layers) for member in together]
        self._state = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
        genes = [peer_jax.traced(options, member.genes) for member in together]
        self._genes = jax.tree.map(lambda *leaves: np.stack(leaves), *genes)

    def round(self, train: Any, valid: Any, rows: np.ndarray) -> np.ndarray:
        """Trains all on batches `rows` `[steps, batch]`; their validation accuracies."""
        self._state = self._train(self._state, self._genes, *train, rows)
        return np.asarray(self._score(self._state, self._genes, *valid))

    def network(self, place: int) -> Network:
        """A copy of one network."""
        params = jax.tree.map(lambda leaf: leaf[place], jax.device_get(self._state[0]))
        return peer_jax.network(self.members[place], params)


def search(experiment: Experiment, report: Report, programs: Any) -> None:
    """One search from fresh networks."""
    report.begin()
    train, valid = (jax.device_put(split(experiment.data, name)) for name in ("train", "valid"))
    options, rng = peer_jax.options_of(experiment), np.random.default_rng(experiment.seed)
    alike = peer_jax.grouped(peer_jax.members(experiment), ("depth", "width"))
    groups = [Group(together, options, programs) for together in alike]
    for _ in range(experiment.rounds):
        rows = batches(rng, len(train.y), experiment.batch, experiment.round_steps)
        for group in groups:
            scores = group.round(train, valid, rows)
            best = int(scores.argmax())
            taken = len(scores) * experiment.round_steps
            report.tell(taken, float(scores[best]), partial(group.network, best))
    report.end()


def main(path: str) -> None:
    """The searches."""
    experiment = read(path)
    report = Report(experiment)
    train, score = peer_jax.make_functions(peer_jax.options_of(experiment))
    programs = (
        jax.jit(jax.vmap(train, in_axes=(0, 0, None, None, None)), donate_argnums=0),
        jax.jit(jax.vmap(score, in_axes=(0, 0, None, None))),
    )
    for _ in range(experiment.searches):
        search(experiment, report, programs)


if __name__ == "__main__":
    main(*sys.argv[1:])
