import jax.numpy as jnp
import numpy as np

from swarmjax.memory import blank_memory, follow, recall, remember
from swarmjax.policy import keep

BLANK = np.full(4, -1.0, np.float32)
VALUES = np.asarray([0.0, 1.0, 2.0, 3.0], np.float32)


def test_children_take_their_parents_and_the_fresh_begin(frames):
    frame = frames([0.5] * 4)
    plan = keep(frame)._replace(
        parent=jnp.array([0, 3, 2, 2]), fresh=jnp.array([False, False, True, False])
    )
    assert follow(VALUES, BLANK, plan).tolist() == [0.0, 3.0, -1.0, 2.0]


def test_networks_are_known_again_by_plan_or_by_number(frames):
    frame = frames([0.5] * 4, birth=[10, 11, 12, 13])
    plan = keep(frame)._replace(parent=jnp.array([0, 3, 2, 3]))
    values = follow(VALUES, BLANK, plan)
    memory = remember(values, plan, frame)
    # As planned, a child in slot 1; and one in slot 2 that a later policy put there.
    after = frames([0.5] * 4, birth=[10, 14, 15, 13], lineage=[0, 3, 2, 3])
    assert recall(memory, BLANK, after).tolist() == [0.0, 3.0, -1.0, 3.0]


def test_what_a_later_policy_undid_or_changed_is_not_known(frames):
    frame = frames([0.5] * 4, birth=[10, 11, 12, 13])
    plan = keep(frame)._replace(
        parent=jnp.array([3, 3, 3, 3]), fresh=jnp.array([False, False, True, False])
    )
    memory = remember(follow(VALUES, BLANK, plan) + 10, plan, frame)
    # Slot 0 was left to whom it had, slot 1 went to a child of slot 2; slot 2 is new as planned.
    after = frames([0.5] * 4, birth=[10, 14, 15, 13], lineage=[0, 2, 15, 3])
    assert recall(memory, BLANK, after).tolist() == [-1.0, -1.0, 9.0, 13.0]


def test_nothing_is_known_at_first_and_trees_of_any_shape_are_kept(frames):
    frame = frames([0.5] * 4, birth=[-1] * 4)
    blank = {"a": BLANK, "b": np.zeros((4, 3), bool)}
    memory = blank_memory(blank, frame)
    born = frames([0.5] * 4)
    told = recall(memory, blank, born)
    np.testing.assert_array_equal(told["a"], BLANK)
    seen = remember({"a": VALUES, "b": np.ones((4, 3), bool)}, keep(born), born)
    again = recall(seen, blank, born._replace(birth=jnp.array([0, 1, 9, 3])))
    assert again["a"].tolist() == [0.0, 1.0, -1.0, 3.0]
    assert again["b"].all(axis=1).tolist() == [True, True, False, True]
