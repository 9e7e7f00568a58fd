"""Plain JAX, one network after the other: `python -m paper.side_jax STEPS`, spoken to by a Worker.

What a person writes who has Flax and optax: a jitted training step, or a jitted `lax.scan` of STEPS
steps, for one network of exactly its own size, compiled once for each distinct architecture and
optimizer, state donated, learning rates traced.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax

from paper.swarms import Work, batches, make_work
from paper.workers import serve
from swarmjax.tasks import measure


class Network(NamedTuple):
    """One network in training: its parameters, optimizer state and traced rates."""

    program: Program
    state: tuple[Any, Any]
    rates: Mapping[str, np.float32]


class Program(NamedTuple):
    """The compiled functions of one architecture and optimizer.

    Attributes:
        train: `train(state, rates, x, y, deck [steps, batch]) -> state`; state is donated.
        valid: `valid(state, x, y) -> metrics`.
        params: shapes of the parameters.
        moments: shapes of the optimizer state.
    """

    train: Callable[..., Any]
    valid: Callable[..., Any]
    params: Any
    moments: Any


# Genes that are traced numbers; all others are part of the program.
RATES = ("learning_rate", "weight_decay")

OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "sgd": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "nesterov": partial(optax.sgd, momentum=0.9, nesterov=True),
    "adam": optax.adam,
}


def optimizer(name: str, rates: Mapping[str, Any]) -> optax.GradientTransformation:
    """The optimizer called `name` as optax has it, weight decay where the swarm has it."""
    decay = rates.get("weight_decay")
    if name == "adamw":
        return optax.adamw(rates["learning_rate"], weight_decay=0.0 if decay is None else decay)
    plain = OPTIMIZERS[name](rates["learning_rate"])
    return plain if decay is None else optax.chain(optax.add_decayed_weights(decay), plain)


def prepare(
    per_call: int, *, core: int | None = None, share: tuple[int, int] = (0, 1), **case: Any
):
    """A round of the networks of every `share[1]`-th architecture from the `share[0]`-th on."""
    if core is not None:
        # Before JAX starts: its threads are as many as the cores that it sees.
        os.sched_setaffinity(0, {core})
    jax.config.update("jax_enable_compilation_cache", False)
    work = make_work(**case)
    return rounds(work, chosen(work, *share), per_call, len(distinct(work)))


def rounds(
    work: Work, members: list[int], per_call: int, all_programs: int = 1
) -> Callable[[], dict[str, Any]]:
    """A round of `members`, `per_call` steps in each call of a compiled program."""
    cached = cache(partial(make_program, work, per_call))
    networks = [make_network(work, cached, member) for member in members]
    (x, y), valid = jax.device_put((work.task.train, work.task.valid))
    count = 0

    def round() -> dict[str, Any]:
        nonlocal count
        rows = batches(work.task, count, int(work.steps[0]))
        decks = [jax.device_put(rows[i : i + per_call]) for i in range(0, len(rows), per_call)]
        count, scores = count + 1, []
        for i, (program, state, rates) in enumerate(networks):
            for deck in decks:
                state = program.train(state, rates, x, y, deck)
            networks[i] = Network(program, state, rates)
            scores.append(program.valid(state, *valid))
        means = jax.tree.map(lambda *values: float(np.mean(values)), *jax.device_get(scores))
        return {f"valid_{name}": value for name, value in means.items()} | {
            "networks": len(networks), "programs": cached.cache_info().currsize,
            "all_networks": len(work.steps), "all_programs": all_programs,
        }  # fmt: skip

    return round


def distinct(work: Work) -> dict[tuple[Any, str], list[int]]:
    """Architecture with activation, and optimizer, to the members that have them."""
    groups: dict[tuple[Any, str], list[int]] = {}
    for member in range(len(work.steps)):
        values = work.values(member)
        key = (work.recipe.family.build(values), values.get("optimizer", "adam"))
        groups.setdefault(key, []).append(member)
    return groups


def chosen(work: Work, first: int, each: int) -> list[int]:
    """The members of every `each`-th distinct architecture from the `first` on, in its order."""
    groups = sorted(distinct(work).values())
    return [member for group in groups[first::each] for member in group]


def make_program(work: Work, per_call: int, module: nn.Module, name: str) -> Program:
    """The jitted functions of one architecture; they compile when they are first called."""
    loss, make = work.task.loss, partial(optimizer, name)

    def step(rates, x, y, state, rows):
        params, moments = state

        def objective(params):
            outputs = module.apply({"params": params}, x[rows])
            return loss(outputs, y[rows]).mean()  # pyright: ignore[reportArgumentType]

        gradient = jax.grad(objective)(params)
        updates, moments = make(rates).update(gradient, moments, params)
        return (optax.apply_updates(params, updates), moments), None

    @partial(jax.jit, donate_argnums=0)
    def train(state, rates, x, y, deck):
        one = partial(step, rates, x, y)
        if per_call == 1:
            return one(state, deck[0])[0]
        return jax.lax.scan(one, state, deck)[0]

    @jax.jit
    def valid(state, x, y):
        outputs = module.apply({"params": state[0]}, x)
        return measure(work.task, outputs, y)  # pyright: ignore[reportArgumentType]

    some_rates = {rate: 0.0 for rate in RATES if rate in work.recipe.space}
    params = jax.eval_shape(module.init, jax.random.key(0), work.task.train.x[:1])["params"]
    return Program(train, valid, params, jax.eval_shape(make(some_rates).init, params))


def make_network(work: Work, program: Callable[..., Program], member: int) -> Network:
    """A fresh network, drawn by NumPy so that making it compiles nothing."""
    values = work.values(member)
    made = program(work.recipe.family.build(values), values.get("optimizer", "adam"))
    rates = {rate: np.float32(values[rate]) for rate in RATES if rate in values}
    params = draw(np.random.default_rng(member), made.params)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), made.moments)
    return Network(made, (params, zeros), rates)


def draw(rng: np.random.Generator, shapes: Any) -> Any:
    """Kernels uniform with variance 1 / fan-in (LeCun), biases zero."""

    def leaf(shape):
        if len(shape.shape) < 2:
            return np.zeros(shape.shape, np.float32)
        edge = np.sqrt(3.0 / np.prod(shape.shape[:-1]))
        return rng.uniform(-edge, edge, shape.shape).astype(np.float32)

    return jax.tree.map(leaf, shapes)


if __name__ == "__main__":
    serve(partial(prepare, int(sys.argv[1])))
