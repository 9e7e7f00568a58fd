import jax
import numpy as np
import pytest

from swarmjax import space
from swarmjax.padded import HEAD, activation_names, check_sizes, draw, layer_ids, lecun, row_ids
from swarmjax.types import InputError

KEY = jax.random.key(3)


def test_rows_have_numbers_of_their_own():
    np.testing.assert_array_equal(row_ids(2, 3), [131072, 131073, 131074])
    np.testing.assert_array_equal(row_ids(np.array([[0], [1]]), 2), [[[0, 1]], [[65536, 65537]]])
    first, second, head = layer_ids([4, 2, 3])
    np.testing.assert_array_equal(second, row_ids(1, 2))
    np.testing.assert_array_equal(head, row_ids(HEAD, 3))
    assert len({*first, *second, *head}) == 9


def test_a_draw_depends_on_its_row_and_column_alone():
    small = draw(KEY, [row_ids(0, 2), row_ids(HEAD, 2)], 3)
    places = np.array([[0, 1], [2, HEAD]])
    (large,) = draw(KEY, [row_ids(places, 5)], 7)
    assert large.shape == (2, 2, 5, 7)
    np.testing.assert_array_equal(small[0], large[0, 0, :2, :3])
    np.testing.assert_array_equal(small[1], large[1, 1, :2, :3])
    assert len(np.unique(large)) == large.size
    assert -1 <= large.min() < -0.9 and 0.9 < large.max() < 1


def test_lecun_has_the_variance_of_its_fan_in():
    draws = draw(KEY, [row_ids(0, 300)], 100)[0]
    assert abs(float(lecun(draws, 16).var()) * 16 - 1) < 0.02


def test_genes_are_checked():
    searched = space.Space(
        kernel=space.structure(3, 4), activation=space.choice("relu", "tanh"), n=space.structure(2)
    )
    assert activation_names(searched) == ("relu", "tanh")
    assert activation_names(space.Space()) == ("relu",)
    check_sizes(searched, "absent")
    check_sizes(searched, "n")
    check_sizes(searched, "kernel", (3, 4))
    with pytest.raises(InputError, match="'kernel' must be structure.*among 1, 3, 5, got"):
        check_sizes(searched, "kernel", (1, 3, 5))
    with pytest.raises(InputError, match="'activation' must be structure.*>= 1"):
        check_sizes(searched, "activation")
