"""What is made of rounds is made once, and what was handed out stays as it was."""

import numpy as np

import swarmjax.space as sp
from viz.history import Growing, History


def frames(*values):
    return tuple(
        {"round": np.full(2, r + 1), "member": np.arange(2), "loss": np.asarray(v)}
        for r, v in enumerate(values)
    )


def test_every_round_is_made_once_however_many_follow():
    growing, made = Growing(), []

    def double(frame):
        made.append(int(frame["round"][0]))
        return 2 * frame["loss"]

    shown = frames(*([r, r + 0.5] for r in range(9)))
    for count in (1, 2, 5, 9, 9, 3):
        rows = growing.rows("double", shown[:count], double)
        assert rows.tolist() == [[2 * r, 2 * r + 1] for r in range(count)]
    assert made == [*range(1, 10)]


def test_a_history_keeps_its_rows_while_later_ones_grow():
    space = sp.Space(rate=sp.uniform(0, 1))
    shown = frames([1, 2], [3, 4], [5.5, 6])
    early = History(space, shown[:2])
    before = early.column("loss")
    later = History(space, shown, None, early.growing)
    assert later.column("loss").tolist() == [[1, 2], [3, 4], [5.5, 6]]
    assert before.tolist() == early.column("loss").tolist() == [[1, 2], [3, 4]]


def test_text_and_numbers_of_any_shape_are_held():
    growing = Growing()
    shown = frames([1, 2], [3, 4])
    words = growing.rows("words", shown, lambda frame: np.array(["a", None], object))
    assert words.tolist() == [["a", None]] * 2
    sums = growing.rows("sum", shown, lambda frame: frame["loss"].sum())
    assert sums.tolist() == [3, 7]
