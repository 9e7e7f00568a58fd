"""What a policy remembers of each network, however networks move between the slots."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from swarmjax.types import Array, Frame, Plan, namespace


class Memory(NamedTuple):
    """Policy state about networks.

    Attributes:
        birth: `[N]` int32 numbers of the networks that the Frame showed when this was written.
        moved: `[N]` bool, the Plan put another network into the slot.
        lineage: `[N]` int32 lineage of the network that the Plan put there; -1: a new one.
        values: tree of `[N, ...]` about the networks that are in the slots after that Plan.
    """

    birth: Array
    moved: Array
    lineage: Array
    values: Any


def blank_memory(blank: Any, frame: Frame) -> Memory:
    """The memory of somebody who has seen nothing: `blank`, a tree of `[N, ...]`."""
    birth = namespace(frame.birth).array(frame.birth)
    lineage = namespace(frame.lineage).array(frame.lineage)
    return Memory(birth, namespace(birth).zeros(birth.shape, bool), lineage, blank)


def recall(memory: Memory, blank: Any, frame: Frame) -> Any:
    """What is known of the networks that `frame` shows; `blank` of those it was not told of.

    A network that a later policy of the chain put into a slot, or left in it, is such a one; but
    one that it took of the same lineage cannot be told from the one that was meant.
    """
    birth, lineage = jnp.asarray(frame.birth), jnp.asarray(frame.lineage)
    same, meant = jnp.asarray(memory.birth) == birth, jnp.asarray(memory.lineage)
    heir = ~same & (lineage == jnp.where(meant < 0, birth, meant))
    told = jnp.where(jnp.asarray(memory.moved), heir, same)
    return _choose(told, memory.values, blank)


def follow(values: Any, blank: Any, plan: Plan) -> Any:
    """Values of the networks in the slots as `plan` leaves them: children take their parent's."""
    inherited = jax.tree.map(lambda leaf: jnp.asarray(leaf)[plan.parent], values)
    return _choose(~jnp.asarray(plan.fresh), inherited, blank)


def remember(values: Any, plan: Plan, frame: Frame) -> Memory:
    """The memory of `values` about the networks in the slots as `plan` leaves them."""
    own = jnp.arange(plan.parent.shape[0], dtype=jnp.int32)
    moved = jnp.asarray(plan.fresh) | (jnp.asarray(plan.parent) != own)
    lineage = jnp.where(plan.fresh, -1, jnp.asarray(frame.lineage)[plan.parent])
    return Memory(jnp.asarray(frame.birth), moved, lineage, values)


def _choose(condition: jax.Array, yes: Any, no: Any) -> Any:
    def choose(a, b):
        wide = condition.reshape(-1, *[1] * (a.ndim - 1))
        return jnp.where(wide, a, b)

    return jax.tree.map(choose, yes, no)
