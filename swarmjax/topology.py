"""Migration: the best of one part of a swarm take over the worst of another, along a topology.

A part, or deme, is a block of neighbouring slots, the same blocks that islands begin with. What a
policy decides goes by slots alone, so that a run is the same wherever its members train.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from swarmjax import fitness
from swarmjax.policy import stateless
from swarmjax.succession import take_over
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy


def deme_of(members: int, demes: int) -> jax.Array:
    """The deme `[N]` of each slot."""
    # In two steps, so that a million members and as many demes do not overflow int32.
    own, size, rest = jnp.arange(members), members // demes, members % demes
    wide = (size + 1) * rest
    late = (own - wide) // max(size, 1) + rest
    return jnp.where(own < wide, own // (size + 1), late).astype(jnp.int32)


def ring(key: Key, turn: Array, demes: int) -> jax.Array:
    """The deme `[D]` that each receives from: the one before it."""
    del key, turn
    return (jnp.arange(demes) - 1) % demes


def star(key: Key, turn: Array, demes: int) -> jax.Array:
    """All receive from the first, which receives from the others in turn."""
    del key
    return jnp.zeros(demes, jnp.int32).at[0].set(1 + turn % (demes - 1))


def random(key: Key, turn: Array, demes: int) -> jax.Array:
    """Each receives from any other."""
    del turn
    away = jax.random.randint(key, (demes,), 1, demes)
    return (jnp.arange(demes) + away) % demes


TOPOLOGIES: dict[str, Callable[[Key, Array, int], jax.Array]] = {
    "ring": ring,
    "star": star,
    "random": random,
}


def migrate(
    demes: int = 4,
    topology: str = "ring",
    every: int = 5,
    elites: int = 1,
    goal: fitness.Goal | None = None,
) -> Policy:
    """Migration of elites between demes, each of which otherwise goes its own way.

    In every so many rounds the best `elites` of a deme are copied over the worst of another, dead
    ones first, where they are better. Put it behind a selection within demes, such as
    `niches("slot", bins=demes)`. An immigrant's parent is in the Plan like that of any child.
    Source: Tanese 1989, Distributed Genetic Algorithms, ICGA 3.

    Args:
        demes: at least 2, of neighbouring slots.
        topology: `ring`: each receives from the one before; `star`: all from the first, and that
            from the others in turn; `random`: each from any other.
        every: rounds from one migration to the next, at least 1.
        elites: that each deme sends, at least 1; at most half of a deme arrives.
        goal: fitness, `fitness.default` unless given.
    """
    _check(topology, demes=(demes, 2), every=(every, 1), elites=(elites, 1))
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        route_key, genome_key = jax.random.split(key)
        score = fitness.worst_if_dead(measure(frame), frame)
        round = jnp.asarray(frame.round)
        source = TOPOLOGIES[topology](route_key, round // every, demes)
        parent, arrives = _immigrants(score, source, demes, elites)
        arrives = arrives & (round >= 1) & (round % every == 0)
        return take_over(genome_key, plan, frame, parent, arrives, jnp.zeros_like(arrives))

    named = "" if goal is None else f", goal={goal.__name__}"
    return stateless(rule, f"migrate({demes}, {topology=}, {every=}, {elites=}{named})")


def _check(topology: str, **numbers: tuple[Any, int]) -> None:
    """Of migrate's settings; `numbers` are values and the least they may be."""
    if topology not in TOPOLOGIES:
        known = ", ".join(TOPOLOGIES)
        raise InputError(f"migrate has no topology {topology!r}; known: {known}")
    for name, (value, least) in numbers.items():
        if type(value) is not int or value < least:
            raise InputError(
                f"migrate needs {name} that is a whole number >= {least}, got {value!r}"
            )


def _immigrants(score: Array, source: Array, demes: int, elites: int) -> tuple[Array, Array]:
    """The slot `[N]` whose network would arrive in each, and whether one does."""
    members = score.shape[0]
    if members < demes:
        return jnp.arange(members, dtype=jnp.int32), jnp.zeros(members, bool)
    deme, own = deme_of(members, demes), jnp.arange(members)
    order = jnp.lexsort((fitness.ranks(score), deme)).astype(jnp.int32)
    size = jnp.zeros(demes, jnp.int32).at[deme].add(1)
    first = jnp.cumsum(size) - size
    place = jnp.zeros(members, jnp.int32).at[order].set(own.astype(jnp.int32)) - first[deme]
    # The worst of a deme meets the best of the other, the next worst the next best.
    number = size[deme] - 1 - place
    parent = order[first[source[deme]] + jnp.minimum(number, size[source[deme]] - 1)]
    better = score[parent] > score
    return parent, better & (number < jnp.minimum(elites, size[deme] // 2))
