import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import swarmjax as sj
from swarmjax.constraints import constrained
from swarmjax.fitness import weighted
from swarmjax.goals import parse_goal
from swarmjax.pareto import pareto
from swarmjax.types import InputError


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("accuracy=0.7, efficiency=0.3", weighted(accuracy=0.7, efficiency=0.3)),
        (" accuracy = 1 ", weighted(accuracy=1.0)),
        ("weighted(loss=-1e-2,valid_f1=+2.)", weighted(loss=-0.01, valid_f1=2.0)),
        ("pareto(accuracy=1, parameters=-1)", pareto(accuracy=1.0, parameters=-1.0)),
        (
            "accuracy=1, parameters<=1e5, valid_f1 >= .5",
            constrained(weighted(accuracy=1.0), parameters="<= 1e5", valid_f1=">= .5"),
        ),
        (
            "accuracy=1, parameters<1e4, valid_f1 > .5",
            constrained(weighted(accuracy=1.0), parameters="< 1e4", valid_f1="> .5"),
        ),
        (
            "pareto(accuracy=1, bytes=-1), cost<=2E6",
            constrained(pareto(accuracy=1.0, bytes=-1.0), cost="<= 2E6"),
        ),
    ],
)
def test_texts_are_read(text, goal):
    assert parse_goal(text).__name__ == goal.__name__


def test_what_is_read_is_a_goal(frames):
    frame = frames([0.5, 0.9], parameters=[10, 40])
    scored = parse_goal("accuracy=2, parameters<=20")(frame)
    np.testing.assert_allclose(scored, [1.0, -0.01 - np.log1p(1.0)], rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("accuracy", "cannot be read"),
        ("accuracy=0.7,", "cannot be read"),
        ("accuracy=inf", "cannot be read"),
        ("accuracy=1e999", "cannot be read"),
        ("accuracy=__import__('os')", "cannot be read"),
        ("pareto(accuracy=1", "cannot be read"),
        ("pareto(pareto(accuracy=1))", "cannot be read"),
        ("minimise(cost=1)", "cannot be read"),
        ("accuracy=1;cost=2", "cannot be read"),
        ("accuracy=1, cost<>2", "cannot be read"),
        ("accuracy=1, cost==2", "cannot be read"),
        ("accuracy=1" + " " * 1000, "cannot be read"),
        (7, "goal '7' cannot be read"),
        ("accuracy=1, accuracy=2", "names something twice"),
        ("acuracy=1", "did you mean accuracy"),
        ("accuracy=1, paramters<=5", "did you mean parameters"),
        ("parameters<=5", "at least one weight"),
        ("pareto(accuracy=0)", "direction of 1 or -1"),
    ],
)
def test_other_texts_are_refused_in_one_line(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_goal(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "accuracy=1, 1e3 < parameters < 1e5",
            "limits parameters twice, as '1e3 < parameters < 1e5'",
        ),
        ("1e5>=cost>=1e3", "limits cost twice, as '1e5>=cost>=1e3'"),
        ("pareto(accuracy=1), 1<steps<9", "limits steps twice, as '1<steps<9'"),
        ("accuracy=1, bytes>=1e3, bytes<=1e5", "twice, as 'bytes >= 1e3, bytes <= 1e5'"),
        ("accuracy=1, bytes<=1e3, bytes<=1e3", "twice, as 'bytes <= 1e3, bytes <= 1e3'"),
        ("accuracy=1, 1e5 >= cost", "limit '1e5 >= cost' .* number; write it as 'cost<=1e5'"),
        ("accuracy=1, 5<cost", "write it as 'cost>5'"),
    ],
)
def test_limits_of_two_sides_are_told_what_to_do_instead(text, message):
    with pytest.raises(InputError, match=message) as caught:
        parse_goal(text)
    assert "keep one, as in" in str(caught.value) or "write it as" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shared=0.3", "shared"), ("accuracy=1, novelty=0.1", "novelty"),
        ("pareto(accuracy=1, novelty=1)", "novelty"), ("accuracy=1, novelty>=0.5", "novelty"),
        ("shared(accuracy=1, 0.3)", "shared"), ("novelty (5)", "novelty"),
        ("accuracy=1, novelty(5)", "novelty"), ("weighted(shared(accuracy=1))", "shared"),
    ],
)  # fmt: skip
def test_goals_around_another_one_are_no_terms(text, name):
    with pytest.raises(InputError, match=f"no term '{name}'.*Python, as in sj.{name}") as caught:
        parse_goal(text)
    advice = str(caught.value).rpartition("as in ")[2]
    # What is advised works.
    assert callable(eval(advice, {"sj": sj}))


@given(st.text(alphabet="accurylost=<>(), .0123e-+_", max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        assert callable(parse_goal(text))
    except InputError:
        pass
