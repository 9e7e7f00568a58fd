"""evosax: OpenAI-ES over the weights of one network, without gradients: `... peer_evosax FILE`.

In its own way at equal evaluations: a generation has as many candidates as a swarm has members, and
a candidate's loss on one batch, which all of a generation share, counts as a training step, though
it costs a third of one. It searches no genes: the network is the largest of the space, with its
first activation, and the strategy's mean is validated as often as the others' networks. Candidates
come in antithetic pairs with a spread of 0.05, and Adam at 0.01 moves the mean, all scanned and
jitted as evosax's examples are.
"""

# The peer lies in an environment of its own.
# pyright: reportMissingImports=false

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from evosax.algorithms import Open_ES

from paper import peer_jax
from paper import peer_protocol as protocol
from paper.peer_protocol import Experiment, Network, Report

_SPREAD, _RATE = 0.05, 0.01


def largest(experiment: Experiment) -> dict[str, Any]:
    """Genes of the largest network of the space."""
    sizes = {name: max(experiment.space[name][1:]) for name in ("depth", "width")}
    return sizes | {"activation": peer_jax.options_of(experiment).activations[0]}


def make_round(strategy: Any, activation: str) -> Callable[..., Any]:
    """Generations of the strategy, one for each batch of `rows` `[generations, batch]`."""
    options = peer_jax.Options((activation,), ("adam",))
    loss = peer_jax.make_loss(options)

    def generation(carry, rows, x, y):
        state, key = carry
        key, ask, tell = jax.random.split(key, 3)
        candidates, state = strategy.ask(ask, state, strategy.default_params)
        losses = jax.vmap(loss, in_axes=(0, None, None, None))(candidates, {}, x[rows], y[rows])
        told = strategy.tell(tell, candidates, losses, state, strategy.default_params)
        return (told[0], key), None

    @jax.jit
    def round(carry, x, y, rows):
        return jax.lax.scan(partial(generation, x=x, y=y), carry, rows)[0]

    return round


def search(experiment: Experiment, report: Report, round: Callable[..., Any], strategy: Any):
    """One search from fresh weights."""
    report.begin()
    genes, rng = largest(experiment), np.random.default_rng(experiment.seed)
    layers = protocol.draw_layers(rng, protocol.sizes(experiment, genes))
    start, key = jax.random.split(jax.random.key(experiment.seed))
    state = strategy.init(start, layers, strategy.default_params)
    data, carry = jax.device_put(protocol.split(experiment.data, "train")), (state, key)
    valid = protocol.split(experiment.data, "valid")
    for _ in range(experiment.rounds):
        rows = protocol.batches(rng, len(data.y), experiment.batch, experiment.round_steps)
        carry = round(carry, *data, rows)
        mean = jax.device_get(strategy.get_mean(carry[0]))
        network = Network(genes["activation"], [(kernel, bias) for kernel, bias in mean])
        taken = experiment.members * experiment.round_steps
        report.tell(taken, protocol.accuracy(network, valid), lambda found=network: found)
    report.end()


def main(path: str) -> None:
    """The searches."""
    experiment = protocol.read(path)
    report, genes = Report(experiment), largest(experiment)
    units = protocol.sizes(experiment, genes)
    strategy = Open_ES(
        experiment.members,
        protocol.draw_layers(np.random.default_rng(0), units),
        optimizer=optax.adam(_RATE),
        std_schedule=optax.constant_schedule(_SPREAD),
    )
    round = make_round(strategy, genes["activation"])
    for _ in range(experiment.searches):
        search(experiment, report, round, strategy)


if __name__ == "__main__":
    main(*sys.argv[1:])
