import numpy as np
import pytest
from conftest import make_frame

from swarmjax import elsewhere
from swarmjax.elsewhere import Known
from swarmjax.errors import InputError
from swarmjax.mixed import part_of
from swarmjax.naming import named
from swarmjax.policy import keep


def frame(accuracy=(0.1, np.nan, 0.3), **changes):
    return part_of(make_frame(accuracy, birth=[1, 3, 5], **changes), slice(0, len(accuracy)), 1)


def same(a, b):
    first, second = named(a), named(b)
    return first.keys() == second.keys() and all(
        first[n].dtype == second[n].dtype and np.array_equal(first[n], second[n], equal_nan=True)
        for n in first if first[n].dtype.kind != "O"
    )  # fmt: skip


def test_a_frame_comes_back_bit_for_bit():
    kept = elsewhere.unpacked(elsewhere.packed(frame()), frame((0.0, 0.0, 0.0)))
    assert same(kept, frame()) and kept.space == frame().space


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "cannot be read"),
        (b"no archive", "cannot be read"),
        (elsewhere.packed(frame())[:-40], "cannot be read"),
        (elsewhere.packed(part_of(frame(), slice(0, 2), 0)), "showed has"),
        (elsewhere.packed(frame()._replace(metrics={})), "is not in both"),
    ],
)
def test_what_is_no_frame_of_these_members_is_refused(blob, reason):
    with pytest.raises(InputError, match=reason):
        elsewhere.unpacked(blob, frame())


def test_rounds_that_are_known_are_not_trained_again():
    class Nodes:
        def round(self, plan, before):
            asked.append(int(before.round) + 1)
            return before

        def windows(self, frame, *, again):
            asked.append((int(frame.round), again))

    asked, first = [], frame(round=1)
    trainer = Known(Nodes(), {2: frame(round=2)})
    second = trainer.round(keep(first), first)
    assert int(second.round) == 2 and asked == []
    trainer.windows(second)
    trainer.windows(second._replace(round=np.int32(3)))
    assert [asked.pop(0), asked.pop(0)] == [(2, True), (3, False)]
    trainer.round(keep(second), second)
    assert asked == [3]
