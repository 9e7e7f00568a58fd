import jax
import numpy as np
import pytest

import swarmjax as sj
from swarmjax import containers, mlp, optimizers
from swarmjax.following import Homes
from swarmjax.members import Recipe, new_member
from swarmjax.mlp import Box
from swarmjax.naming import named
from swarmjax.types import InputError

SPACE = sj.Space(
    learning_rate=sj.log_uniform(1e-3, 1e-1),
    depth=sj.structure(1, 2),
    width=sj.structure(4, 16),
)
RECIPE = Recipe(SPACE, mlp.mlp(SPACE, 5, 3), optimizers.for_space(SPACE))
SMALL = (("depth", 1), ("width", 4))
HOMES = Homes({SMALL: Box(1, 4)}, (Box(2, 16), Box(1, 4), Box(2, 4)))


def saved(box, count=None):
    member = new_member(RECIPE, box, jax.random.key(0), np.int32(0), SPACE.blank())
    if count is not None:
        member = jax.tree.map(lambda leaf: np.stack([leaf] * count), member)
    return named(member, "member3")


@pytest.mark.parametrize("count", [None, 1, 3])
@pytest.mark.parametrize("box", HOMES.known)
def test_shapes_tell_the_container(box, count):
    boxes = containers.candidates(RECIPE, HOMES, SMALL)
    arrays = saved(box, count) | {"member30.step": np.zeros(9), "other": np.zeros(2)}
    found, members = containers.recognised(RECIPE, boxes, arrays, "member3", count)
    assert found == box
    front = () if count is None else (count,)
    assert members.variables["params"]["head"]["bias"].shape[:-1] == front


def test_where_a_network_goes_now_comes_first():
    assert containers.candidates(RECIPE, HOMES, SMALL) == [Box(1, 4), Box(2, 16), Box(2, 4)]
    wide = (("depth", 1), ("width", 16))
    assert containers.candidates(RECIPE, HOMES, wide) == [Box(2, 16), Box(1, 16)]
    genes = {"learning_rate": np.float32(0.1), "depth": np.int32(0), "width": np.int32(1)}
    assert containers.candidates_of(RECIPE, HOMES, genes) == [Box(2, 16), Box(1, 16)]


def test_members_of_no_such_container_are_refused():
    boxes = containers.candidates(RECIPE, HOMES, SMALL)
    with pytest.raises(InputError, match="not in both what was saved"):
        containers.recognised(RECIPE, boxes, {}, "member3")
    with pytest.raises(InputError, match=r"members of Box\(depth=1, width=4\) were saved as"):
        containers.recognised(RECIPE, boxes, saved(Box(1, 16)), "member3")
    with pytest.raises(InputError, match="were saved as"):
        containers.recognised(RECIPE, boxes, saved(Box(1, 4), 2), "member3", 3)
    with pytest.raises(InputError, match="no container"):
        containers.recognised(RECIPE, (), saved(Box(1, 4)), "member3")
