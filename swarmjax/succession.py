"""How a Plan says that a member starts from another's weights, or anew; who descends from whom."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from swarmjax.policy import slots
from swarmjax.types import Array, Frame, Key, Plan


def take_over(
    key: Key,
    plan: Plan,
    frame: Frame,
    parent: Array,
    copied: Array,
    reborn: Array,
    kept: tuple[str, ...] = (),
) -> Plan:
    """The Plan in which some members give up what they are and what was planned for them.

    Args:
        key: of the genes of the reborn.
        plan: the Plan so far.
        frame: what it answers.
        parent: `[N]` slot that the copied take weights and genes from.
        copied: `[N]` bool, who does.
        reborn: `[N]` bool, who starts from new weights with new genes instead.
        kept: genes that everyone keeps as planned.
    """
    own, replaced = slots(frame), copied | reborn
    drawn = frame.space.sample(key, own.shape[0])
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


def lineages(frame: Frame) -> int:
    """How many lineages are left among the living; on the host."""
    return len(np.unique(np.asarray(frame.lineage)[np.asarray(frame.alive)]))
