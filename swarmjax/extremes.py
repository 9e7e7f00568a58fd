"""The best and the worst of many members, found without sorting them.

On a CPU the sort of a million scores takes longer than all else that a policy does with them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from swarmjax.types import Array


def largest(keys: Array, count: Array | int) -> jax.Array:
    """Which are the `count` largest of `keys` `[N]` uint32; ties go to the lower slot.

    The least of them is found bit by bit.
    """
    keys, one = jnp.asarray(keys, jnp.uint32), jnp.uint32(1)

    def narrow(i: jax.Array, least: jax.Array) -> jax.Array:
        more = least | (one << (31 - i).astype(jnp.uint32))
        return jnp.where(jnp.sum(keys >= more) >= count, more, least)

    least = jax.lax.fori_loop(0, 32, narrow, jnp.uint32(0))
    above, equal = keys > least, keys == least
    return above | (equal & (jnp.cumsum(equal) <= count - jnp.sum(above)))


def highest(score: Array, count: Array | int) -> jax.Array:
    """Which have the `count` highest scores, `[N]` bool; ties go to the lower slot."""
    return largest(_keys(score), count)


def lowest(score: Array, count: Array | int) -> jax.Array:
    """Which have the `count` lowest scores, `[N]` bool; ties go to the higher slot."""
    return largest(~_keys(score)[::-1], count)[::-1]


def slots_of(which: Array) -> jax.Array:
    """`[N]` int32 that begin with the slots of those in `which` `[N]` bool, in order."""
    which = jnp.asarray(which)
    members = which.shape[0]
    place = jnp.where(which, jnp.cumsum(which) - 1, members)
    own = jnp.arange(members, dtype=jnp.int32)
    return jnp.zeros(members, jnp.int32).at[place].set(own, mode="drop")


def _keys(score: Array) -> jax.Array:
    """Whole numbers `[N]` uint32 in the order of scores that are no NaN."""
    score = jnp.asarray(score, jnp.float32)
    # The two zeros are equal.
    bits = jax.lax.bitcast_convert_type(jnp.where(score == 0, 0.0, score), jnp.uint32)
    return jnp.where(bits >> 31 != 0, ~bits, bits | jnp.uint32(2**31))
