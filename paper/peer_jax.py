"""Networks written by hand in JAX, for the programs that train them side by side or in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from paper import peer_protocol as protocol
from paper.peer_protocol import Experiment, Network


class Member(NamedTuple):
    """A network before its training: its number, genes and initial layers."""

    number: int
    genes: dict[str, Any]
    layers: list[tuple[np.ndarray, np.ndarray]]


class Options(NamedTuple):
    """Activations and optimizers that a program must be able to tell apart."""

    activations: tuple[str, ...]
    optimizers: tuple[str, ...]


def members(experiment: Experiment) -> list[Member]:
    """All networks of the search."""
    found = []
    for number in range(experiment.members):
        rng = np.random.default_rng([experiment.seed, number])
        genes = protocol.draw_genes(rng, experiment.space)
        layers = protocol.draw_layers(rng, protocol.sizes(experiment, genes))
        found.append(Member(number, genes, layers))
    return found


def grouped(found: Sequence[Member], genes: Sequence[str]) -> list[list[Member]]:
    """Members that are alike in these genes, together."""
    groups: dict[Any, list[Member]] = {}
    for member in found:
        groups.setdefault(tuple(member.genes.get(name) for name in genes), []).append(member)
    return list(groups.values())


def begin(layers: Any) -> Any:
    """Parameters, two moments of the same shape, and the steps taken."""
    zeros = [(np.zeros_like(kernel), np.zeros_like(bias)) for kernel, bias in layers]
    return layers, zeros, zeros, np.float32(0)


def sgd(genes, gradient, state, momentum=0.0):
    """Stochastic gradient descent with momentum."""
    params, first, second, count = state
    decayed = jax.tree.map(lambda g, p: g + genes["weight_decay"] * p, gradient, params)
    first = jax.tree.map(lambda m, g: momentum * m + g, first, decayed)
    params = jax.tree.map(lambda p, m: p - genes["learning_rate"] * m, params, first)
    return params, first, second, count + 1


def adam(genes, gradient, state, decoupled=False):
    """Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019)."""
    params, first, second, count = state
    rate, decay, count = genes["learning_rate"], genes["weight_decay"], count + 1
    if not decoupled:
        gradient = jax.tree.map(lambda g, p: g + decay * p, gradient, params)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)

    def moved(p, m, v):
        step = m / (1 - 0.9**count) / (jnp.sqrt(v / (1 - 0.999**count)) + 1e-8)
        return p - rate * (step + decay * p if decoupled else step)

    return jax.tree.map(moved, params, first, second), first, second, count


RULES: dict[str, Callable[..., Any]] = {
    "sgd": sgd,
    "momentum": partial(sgd, momentum=0.9),
    "adam": adam,
    "adamw": partial(adam, decoupled=True),
}


_ACTIVATIONS = {"relu": jax.nn.relu, "gelu": jax.nn.gelu, "silu": jax.nn.silu, "tanh": jnp.tanh}


def make_forward(options: Options) -> Callable[..., jax.Array]:
    """`forward(layers, genes, x) -> logits` of one network."""
    activations = [_ACTIVATIONS[name] for name in options.activations]

    def act(x, genes):
        if len(activations) == 1:
            return activations[0](x)
        return jax.lax.switch(genes["activation"], activations, x)

    def forward(layers, genes, x):
        for kernel, bias in layers[:-1]:
            x = act(x @ kernel + bias[None], genes)
        kernel, bias = layers[-1]
        return x @ kernel + bias[None]

    return forward


def make_loss(options: Options) -> Callable[..., jax.Array]:
    """`loss(layers, genes, x, y)` of one network, the mean over examples."""
    forward = make_forward(options)

    def loss(layers, genes, x, y):
        logits = forward(layers, genes, x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    return loss


def make_functions(options: Options) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """What a network does, neither jitted nor vmapped yet.

    Returns:
        `train(state, genes, x, y, rows [steps, batch]) -> state` and `score(state, genes, x, y)`,
        its accuracy.
    """
    forward, loss = make_forward(options), make_loss(options)

    def train(state, genes, x, y, rows):
        def step(state, batch):
            gradient = jax.grad(loss)(state[0], genes, x[batch], y[batch])
            rules = [partial(RULES[name], genes) for name in options.optimizers]
            if len(rules) == 1:
                return rules[0](gradient, state), None
            return jax.lax.switch(genes["optimizer"], rules, gradient, state), None

        return jax.lax.scan(step, state, rows)[0]

    def score(state, genes, x, y):
        return jnp.mean(jnp.argmax(forward(state[0], genes, x), axis=1) == y)

    return train, score


def options_of(experiment: Experiment) -> Options:
    """All activations and optimizers of the space."""
    names = (("activation", "relu"), ("optimizer", "adam"))
    return Options(*(tuple(experiment.space.get(n, ("", usual))[1:]) for n, usual in names))


def traced(options: Options, genes: Mapping[str, Any]) -> dict[str, Any]:
    """The genes that a program takes as numbers."""
    found: dict[str, Any] = {name: np.float32(genes.get(name, 0.0)) for name in protocol.RATES}
    for name, known in zip(("activation", "optimizer"), options, strict=True):
        if len(known) > 1:
            found[name] = np.int32(known.index(genes[name]))
    return found


def network(member: Member, params: Any) -> Network:
    """What was trained, as it is kept."""
    layers = [(np.asarray(kernel), np.asarray(bias)) for kernel, bias in params]
    return Network(member.genes.get("activation", "relu"), layers)
