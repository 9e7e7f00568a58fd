"""Two problems whose answers are known, searched by the same policies, all seeds in one program.

- The toy of the PBT paper (Jaderberg et al. 2017, arXiv:1711.09846): maximise
  `Q = 1.2 - t0^2 - t1^2` by gradients of `1.2 - h0 t0^2 - h1 t1^2`, whose weights `h` are genes.
  No fixed pair of the grid (1, 0), (0, 1) gets beyond 0.39; the optimum is 1.2.
- A noisy quadratic (after Zhang et al. 2019, arXiv:1907.04164): stochastic gradient descent on
  `sum_i h_i t_i^2 / 2` with `h_i = 1 / i` and gradient noise of variance `h_i`. A large learning
  rate falls fast and stays high, a small one falls slowly: only a schedule does both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import tune
from swarmjax.allocate import uniform
from swarmjax.evolve import exploit
from swarmjax.fitness import weighted
from swarmjax.policy import chain, keep
from swarmjax.space import Space, log_uniform
from swarmjax.space import uniform as between
from swarmjax.types import Array, Frame, Genome, Key, Plan, Policy

DIMENSIONS = 100


class Toy(NamedTuple):
    """A problem without networks.

    Attributes:
        space: genes of a member.
        start: `start(key) -> [D]` its parameters at first.
        step: `step(key, parameters, genes) -> [D]` them after one training step.
        quality: `quality(parameters) -> []`, higher is better; the metric `valid_quality`.
        first: gene -> `[N]` values of the first round, or None to draw them.
    """

    space: Space
    start: Callable[[Key], jax.Array]
    step: Callable[[Key, jax.Array, Any], jax.Array]
    quality: Callable[[jax.Array], jax.Array]
    first: Genome | None = None


def pbt_toy() -> Toy:
    """The toy of the PBT paper, two members."""

    def step(key, t, genes):
        del key
        return t - 0.02 * 2.0 * jnp.stack([genes["h0"], genes["h1"]]) * t

    return Toy(
        Space(h0=between(0.0, 1.0), h1=between(0.0, 1.0)),
        start=lambda key: jnp.full(2, 0.9),
        step=step,
        quality=lambda t: 1.2 - jnp.sum(t**2),
        first={"h0": np.eye(2, dtype=np.float32)[0], "h1": np.eye(2, dtype=np.float32)[1]},
    )


def quadratic() -> Toy:
    """The noisy quadratic; its quality is the negative loss without noise."""
    curvature = 1.0 / jnp.arange(1.0, DIMENSIONS + 1.0)

    def step(key, t, genes):
        noise = jnp.sqrt(curvature) * jax.random.normal(key, t.shape)
        return t - genes["learning_rate"] * (curvature * t + noise)

    return Toy(
        Space(learning_rate=log_uniform(1e-3, 1.0)),
        start=lambda key: jax.random.normal(key, (DIMENSIONS,)),
        step=step,
        quality=lambda t: -0.5 * jnp.sum(curvature * t**2),
    )


GOAL = weighted(valid_quality=1.0)


def explore(fraction: float) -> Policy:
    """PBT for the toys."""
    return chain(exploit(fraction, goal=GOAL), uniform(), tune.perturb())


def play(
    toy: Toy, policy: Policy, *, seeds: int, members: int, rounds: int, round_steps: int
) -> np.ndarray:
    """The best quality in the last round of each seed, `[seeds]`."""
    one = partial(_search, toy, policy, members, rounds, round_steps)
    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), seeds)))


def _search(toy: Toy, policy: Policy, members: int, rounds: int, round_steps: int, key: Key):
    start, genes, decide, train = jax.random.split(key, 4)
    parameters = jax.vmap(toy.start)(jax.random.split(start, members))
    genome = toy.space.sample(genes, members) if toy.first is None else dict(toy.first)
    frame = _first(toy, genome, members * round_steps, members * round_steps * rounds)

    def round(carry, i):
        parameters, frame, state = carry
        plan, state = policy.update(jax.random.fold_in(decide, i), keep(frame), frame, state)
        parameters = _train(toy, jax.random.fold_in(train, i), parameters[plan.parent], plan)
        return (parameters, _after(toy, frame, plan, parameters), state), None

    carry, _ = jax.lax.scan(round, (parameters, frame, policy.init(frame)), jnp.arange(rounds))
    return jnp.max(carry[1].metrics["valid_quality"])


def _train(toy: Toy, key: Key, parameters: jax.Array, plan: Plan) -> jax.Array:
    def body(i, parameters):
        keys = jax.random.split(jax.random.fold_in(key, i), len(parameters))
        after = jax.vmap(toy.step)(keys, parameters, plan.genome)
        return jnp.where((i < plan.steps)[:, None], after, parameters)

    return jax.lax.fori_loop(0, jnp.max(plan.steps), body, parameters)


def _first(toy: Toy, genome: Genome, quota: int, budget: int) -> Frame:
    members = len(next(iter(genome.values())))
    own, zeros = jnp.arange(members, dtype=jnp.int32), jnp.zeros(members, jnp.int32)
    unknown = jnp.full(members, jnp.nan)
    return Frame(
        round=jnp.int32(0), quota=jnp.int32(quota), remaining=jnp.int32(budget), loss=unknown,
        metrics={"valid_quality": unknown}, gradient_norm=unknown, steps=zeros, total_steps=zeros,
        alive=jnp.ones(members, bool), alarm=zeros, cost=jnp.ones(members), parameters=zeros + 1,
        bytes=jnp.ones(members), seconds=unknown, descriptor=jnp.zeros((members, 1, 1)),
        genome={name: jnp.asarray(values) for name, values in genome.items()}, birth=own,
        lineage=own, space=toy.space,
    )  # fmt: skip


def _after(toy: Toy, frame: Frame, plan: Plan, parameters: jax.Array) -> Frame:
    own: Array = jnp.arange(len(parameters), dtype=jnp.int32)
    newborn = plan.parent != own
    birth = jnp.where(newborn, (frame.round + 1) * len(parameters) + own, frame.birth)
    return frame._replace(
        round=frame.round + 1, remaining=frame.remaining - jnp.sum(plan.steps),
        metrics={"valid_quality": jax.vmap(toy.quality)(parameters)}, steps=plan.steps,
        total_steps=frame.total_steps[plan.parent] + plan.steps, genome=plan.genome,
        birth=birth, lineage=frame.lineage[plan.parent],
    )  # fmt: skip
