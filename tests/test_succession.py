"""What is written into a Plan when members are replaced, and lineages."""

import jax
import jax.numpy as jnp
import numpy as np

from swarmjax import succession
from swarmjax.policy import keep


def test_the_copied_inherit_and_the_reborn_are_new(frames):
    frame = frames([0.1, 0.2, 0.3, 0.4])
    before = keep(frame)._replace(
        parent=jnp.array([1, 2, 3, 0], jnp.int32),
        mate=jnp.array([3, 3, 3, 3], jnp.int32),
        operator=jnp.ones(4, jnp.int32),
        fresh=jnp.array([False, True, False, True]),
        genome={name: jnp.roll(values, 1) for name, values in frame.genome.items()},
    )
    parent = jnp.array([3, 3, 3, 3], jnp.int32)
    copied, reborn = jnp.arange(4) == 1, jnp.arange(4) == 2
    after = succession.take_over(jax.random.key(0), before, frame, parent, copied, reborn)
    assert after.parent.tolist() == [1, 3, 2, 0]
    assert after.mate.tolist() == [3, 1, 2, 3]
    assert after.operator.tolist() == [1, 0, 0, 1]
    assert after.fresh.tolist() == [False, False, True, True]
    drawn = frame.space.sample(jax.random.key(0), 4)
    for name, old in frame.genome.items():
        planned = before.genome[name]
        expected = [planned[0], old[3], drawn[name][2], planned[3]]
        np.testing.assert_allclose(after.genome[name], expected)


def test_kept_genes_stay_as_planned(frames):
    frame = frames([0.1, 0.2, 0.3])
    before = keep(frame)._replace(
        genome={name: jnp.roll(values, 1) for name, values in frame.genome.items()}
    )
    parent, copied, reborn = jnp.full(3, 2, jnp.int32), jnp.arange(3) == 0, jnp.arange(3) == 1
    args = jax.random.key(0), before, frame, parent, copied, reborn
    after, whole = succession.take_over(*args, ("depth", "width")), succession.take_over(*args)
    for name in ("depth", "width"):
        np.testing.assert_array_equal(after.genome[name], before.genome[name])
    np.testing.assert_array_equal(after.genome["momentum"], whole.genome["momentum"])
    assert after.parent.tolist() == whole.parent.tolist() == [2, 1, 2]


def test_lineages_of_the_living_are_counted(frames):
    frame = frames([0.1] * 5, lineage=[3, 3, 4, 9, 4], alive=[True, True, True, False, True])
    assert succession.lineages(jax.tree.map(np.asarray, frame)) == 2
