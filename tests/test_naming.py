from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swarmjax import naming
from swarmjax.types import InputError


class Pair(NamedTuple):
    a: object
    b: object


def test_a_tree_comes_back_from_its_names():
    tree = {"x": Pair(np.arange(3), jnp.ones((2, 2), jnp.float16)), "y": (np.float32(2.0),)}
    arrays = naming.named(tree, "state")
    assert sorted(arrays) == ["state['x'].a", "state['x'].b", "state['y'][0]"]
    blank = jax.tree.map(lambda leaf: 0, tree)
    back = naming.rebuilt(blank, arrays | {"other": np.zeros(1)}, "state")
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for new, old in zip(jax.tree.leaves(back), jax.tree.leaves(tree), strict=True):
        assert new.dtype == old.dtype and np.array_equal(new, old)


def test_what_is_named_is_a_copy():
    array = np.zeros(3)
    arrays = naming.named([array])
    array[:] = 1
    assert arrays["[0]"].tolist() == [0, 0, 0]


def test_keys_of_random_numbers_come_back_as_keys():
    key = jax.random.key(7)
    (back,) = naming.rebuilt((key,), naming.named((key,)))
    assert jax.random.uniform(back) == jax.random.uniform(key)


def test_weak_types_come_back_weak():
    tree = (jnp.asarray(2.0), jnp.float32(2.0), 3)
    assert naming.weak(tree, "p") == ["p[0]", "p[2]"]
    back = naming.rebuilt(tree, naming.named(tree, "p"), "p", naming.weak(tree, "p"))
    assert back[0].weak_type and not jnp.asarray(back[1]).weak_type
    assert (back[0] + jnp.float16(1)).dtype == jnp.float16


@pytest.mark.parametrize("change", ["more", "less"])
def test_another_structure_is_refused_by_name(change):
    arrays = naming.named({"a": 1, "b": 2}, "state")
    if change == "more":
        arrays["state['c']"] = np.zeros(())
    else:
        del arrays["state['b']"]
    name = {"more": "'c'", "less": "'b'"}[change]
    with pytest.raises(InputError, match=name):
        naming.rebuilt({"a": 0, "b": 0}, arrays, "state")


def test_digests_tell_names_types_shapes_and_values_apart():
    zeros = np.zeros((2, 3), np.float32)
    others = [
        ("a", zeros),
        ("b", zeros),
        ("a", zeros.view(np.int32)),
        ("a", zeros.T),
        ("a", -zeros),
        ("a", zeros[:0]),
    ]
    assert len({naming.digest([part]) for part in others}) == len(others)
    assert naming.digest([("a", zeros)]) == naming.digest([("a", zeros.copy())])
    assert naming.digest([("a", zeros.T)]) == naming.digest([("a", np.zeros((3, 2), np.float32))])
