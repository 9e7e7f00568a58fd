import math

import pytest

from swarmjax.clock import Reading, stamp
from swarmjax.errors import InputError
from swarmjax.recorder import Recorder


def recorder(size):
    return Recorder(size, lambda: stamp(Reading(10, 5), None), lambda: {"cpu": 1.0})


def test_steps_become_windows_and_totals():
    made = recorder(2)
    made.begin(3)
    ended = [
        made.add(loss, norm, i + 1) for i, (loss, norm) in enumerate([(4, 1), (2, None), (9, 3)])
    ]
    assert ended == [False, True, False]
    totals = made.end(3, {"valid_f1": 0.5})
    assert (totals.steps, totals.loss, totals.gradient_norm) == (3, 5.0, 2.0)
    assert totals.seconds >= 0
    assert [(row["round"], row["step"], row["steps"]) for row in made.rows] == [
        (3, 2, 2),
        (3, 3, 1),
    ]
    assert [row["train_loss"] for row in made.rows] == [3.0, 9.0]
    assert "valid_f1" not in made.rows[0] and made.rows[1]["valid_f1"] == 0.5


def test_scores_belong_to_a_window_that_had_just_ended():
    made = recorder(1)
    made.add(1.0, None, 1)
    made.end(1, {"valid_loss": 2.0})
    assert [row["valid_loss"] for row in made.rows] == [2.0]


def test_a_job_without_steps_has_no_window():
    made = recorder(5)
    totals = made.end(0, {"valid_loss": 2.0})
    assert made.rows == [] and totals.steps == 0
    assert all(math.isnan(value) for value in totals[1:])


@pytest.mark.parametrize("size", [0, 10**7, 1.5, True])
def test_nonsense_of_a_window_is_refused(size):
    with pytest.raises(InputError, match="window must be"):
        recorder(size)
