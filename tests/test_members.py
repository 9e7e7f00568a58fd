import jax
import numpy as np

import swarmjax as sj
from swarmjax import mlp, optimizers, placement
from swarmjax.members import Recipe, new_member, new_members, shapes

SPACE = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(4, 8))
RECIPE = Recipe(SPACE, mlp.mlp(SPACE, 3, 2), optimizers.for_space(SPACE))
BOX = mlp.Box(2, 8)


def test_the_shapes_of_a_member_are_those_of_one_that_is_made():
    made = new_member(RECIPE, BOX, jax.random.key(0), np.int32(0), SPACE.blank())
    kinds = lambda member: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), member)  # noqa: E731
    assert kinds(shapes(RECIPE, BOX)) == kinds(made)
    # Traced once for all who ask.
    assert shapes(RECIPE, BOX) is shapes(RECIPE, BOX)


def test_new_members_are_those_made_one_by_one():
    key, birth = jax.random.key(0), np.asarray([[3], [7]], np.int32)
    genome = {"learning_rate": np.full((2, 1), 0.1, np.float32), "width": np.int32([[0], [1]])}
    mesh = placement.make_mesh(devices=jax.devices()[:2])
    lane = new_members(RECIPE, BOX, mesh, key, birth, genome)
    for i in range(2):
        alone = jax.jit(new_member, static_argnums=(0, 1))(
            RECIPE, BOX, key, birth[i, 0], {name: values[i, 0] for name, values in genome.items()}
        )
        here = jax.tree.map(lambda leaf, i=i: leaf[i, 0], lane)
        jax.tree.map(np.testing.assert_array_equal, here, alone)
    assert (lane.variables["params"]["Dense_0"]["kernel"][0, 0, :, 4:] == 0).all()
