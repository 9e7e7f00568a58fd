import jax
import numpy as np

import swarmjax as sj
from swarmjax import mlp, optimizers
from swarmjax.members import Member, Recipe, new_member, new_members, put, take

SPACE = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(4, 8))
RECIPE = Recipe(SPACE, mlp.mlp(SPACE, 3, 2), optimizers.for_space(SPACE))
BOX = mlp.Box(2, 8)


def stack(rows):
    weights = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2)
    return Member({"params": weights}, {"m": -weights}, np.arange(rows, dtype=np.int32))


def test_take_reads_rows_and_repeats_the_last_beyond_the_end():
    taken = take(stack(4), np.asarray([2, 0, 9]))
    assert taken.step.tolist() == [2, 0, 3]
    assert taken.variables["params"].tolist() == [[4, 5], [0, 1], [6, 7]]


def test_put_writes_rows_and_drops_those_beyond_the_end():
    after = put(stack(4), np.asarray([1, 9]), take(stack(4), np.asarray([3, 0])))
    assert after.step.tolist() == [0, 3, 2, 3]
    assert after.optimizer["m"].tolist() == [[0, -1], [-6, -7], [-4, -5], [-6, -7]]


def test_new_members_are_those_made_one_by_one():
    key, birth = jax.random.key(0), np.asarray([3, 7], np.int32)
    genome = {"learning_rate": np.full(2, 0.1, np.float32), "width": np.asarray([0, 1], np.int32)}
    lane = new_members(RECIPE, BOX, key, birth, genome)
    for i in range(2):
        alone = jax.jit(new_member, static_argnums=(0, 1))(
            RECIPE, BOX, key, birth[i], {name: values[i] for name, values in genome.items()}
        )
        here = jax.tree.map(lambda leaf, i=i: leaf[i], lane)
        jax.tree.map(np.testing.assert_array_equal, here, alone)
    assert (lane.variables["params"]["Dense_0"]["kernel"][0, :, 4:] == 0).all()
