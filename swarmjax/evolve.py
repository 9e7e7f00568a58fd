"""Policies that write `plan.parent`: whose weights a member goes on from."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from swarmjax import fitness
from swarmjax.policy import slots, stateless
from swarmjax.types import Array, Frame, InputError, Key, Plan, Policy


def exploit(
    fraction: float = 0.2, goal: fitness.Goal | None = None, structure: str = "inherit"
) -> Policy:
    """Truncation selection: the worst take over the weights and genes of the best.

    After every round the worst `fraction` of the swarm and every dead member start from a parent
    drawn from the living best `fraction`. A living member whose fitness is not known is left
    alone. With no parent to be had, the dead start fresh with new genes. Source: Jaderberg et al.
    2017, Population Based Training of Neural Networks, arXiv:1711.09846.

    Args:
        fraction: above 0 and at most 0.5; at least one member is replaced if there are two.
        goal: fitness, `fitness.default` unless given.
        structure: `inherit`: the child takes all genes of its parent; `keep`: it keeps its own
            structural genes, and the weights are fitted to them.
    """
    if not 0 < fraction <= 0.5:
        raise InputError(f"exploit needs 0 < fraction <= 0.5, got {fraction}")
    if structure not in ("inherit", "keep"):
        raise InputError(f"structure must be 'inherit' or 'keep', got {structure!r}")
    measure = goal or fitness.default

    def rule(key: Key, plan: Plan, frame: Frame) -> Plan:
        parent_key, genome_key = jax.random.split(key)
        score = fitness.worst_if_dead(measure(frame), frame)
        parent, copied, reborn = _truncate(parent_key, score, frame, fraction)
        kept = frame.space.structural if structure == "keep" else ()
        own = slots(frame)
        replaced = copied | reborn
        drawn = frame.space.sample(genome_key, own.shape[0])
        genome = dict(plan.genome)
        # In the order of the genes: a set would make another program in every process.
        for name in (name for name in genome if name not in kept):
            inherited = jnp.where(copied, jnp.asarray(frame.genome[name])[parent], genome[name])
            genome[name] = jnp.where(reborn, drawn[name], inherited)
        return plan._replace(
            parent=jnp.where(copied, parent, jnp.where(reborn, own, plan.parent)),
            mate=jnp.where(replaced, own, plan.mate),
            operator=jnp.where(replaced, 0, plan.operator),
            fresh=jnp.where(copied, False, plan.fresh | reborn),
            genome=genome,
        )

    shown = "" if goal is None else f", goal={goal.__name__}"
    return stateless(rule, f"exploit({fraction=}{shown}, {structure=})")


def _truncate(
    key: Key, score: Array, frame: Frame, fraction: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A drawn parent for each slot, who takes it, and who starts fresh: each `[N]`."""
    members = score.shape[0]
    count = max(1, int(fraction * members)) if members > 1 else 0
    rank = fitness.ranks(score)
    known = score > -jnp.inf
    worst = known & (rank >= members - count)
    losers = (jnp.asarray(frame.round) >= 1) & (worst | ~jnp.asarray(frame.alive))
    # The unknown rank last, so the first `parents` places are all living.
    parents = jnp.minimum(count, jnp.sum(known))
    # Scaled rather than by `randint`, whose generators compile four times as long.
    place = jnp.floor(jax.random.uniform(key, (members,)) * parents).astype(jnp.int32)
    order = rank.at[rank].set(slots(frame))
    return order[place], losers & (parents > 0), losers & (parents == 0)
