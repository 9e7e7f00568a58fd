import numpy as np
import pytest

from swarmjax import steerable
from swarmjax import steering as s
from swarmjax.dials import Dial
from swarmjax.errors import InputError
from swarmjax.space import Space, choice, log_uniform, structure
from swarmjax.steering import Member

SPACE = Space(
    learning_rate=log_uniform(1e-4, 1e-1),
    nesterov=choice(False, True),
    rounds=choice(0, 1, 2),
    activation=choice("relu", "tanh"),
    width=structure(16, 32),
)
SCENE = steerable.Scene(
    SPACE, {"goal.accuracy": Dial(0.7, -10.0, 10.0)}, True,
    birth=np.array([0, 9, 2, 3]), alive=np.array([True, True, True, False]),
)  # fmt: skip
# The last two slots are nodes.
MIXED = SCENE._replace(nodes=2, alive=np.ones(4, bool))
NODE, ANOTHER = Member(2, 2), Member(3, 3)
ONE, OTHER, DEAD = Member(0, 0), Member(1, 9), Member(3, 3)
RIGID, EMPTY = SCENE._replace(resizes=False), SCENE._replace(birth=np.array([]), alive=np.array([]))

FINE = [
    s.Pause(), s.Stop(), s.Boost(OTHER, 16.0), s.Kill(ONE), s.Clone(ONE, OTHER), s.Clone(ONE, DEAD),
    s.Breed(ONE, OTHER, "union"), s.Breed(ONE, OTHER, into=DEAD), s.Set(ONE, {"width": 32}),
    s.Set(OTHER, {"learning_rate": 0.1, "nesterov": True, "rounds": 2}), s.Add(3, {"width": 16}),
    s.Turn({"goal.accuracy": None}), s.Turn({"goal.accuracy": -10.0}), s.Note("why?", DEAD),
    s.Undo(99),
]  # fmt: skip
WRONG = [
    (s.Kill(Member(4, 4)), "there is no member 4; members are 0 to 3"),
    (s.Kill(Member(1, 1)), "network 1 is gone: slot 1 holds network 9 now"),
    (s.Freeze(DEAD), "member 3 is dead; `add` starts fresh"),
    (s.Clone(DEAD, ONE), "member 3 is dead"),
    (s.Clone(ONE, Member(1, 1)), "network 1 is gone"),
    (s.Clone(ONE, ONE), "cannot take its own slot"),
    (s.Breed(ONE, ONE), "bred with itself"),
    (s.Breed(ONE, OTHER, into=ONE), "cannot take its own slot"),
    (s.Breed(ONE, DEAD), "member 3 is dead"),
    (s.Breed(ONE, OTHER, "clone"), "nobody is bred by 'clone' here; choose among aligned, average"),
    (s.Set(ONE, {}), "needs a gene"),
    (s.Set(ONE, {"momentum": 0.5}), "no gene 'momentum'; the genes are learning_rate, nesterov"),
    (s.Set(ONE, {"learning_rate": 0.2}), "cannot be 0.2; it lies between 0.0001 and 0.1"),
    (s.Set(ONE, {"learning_rate": "0.01"}), "cannot be '0.01'"),
    (s.Set(ONE, {"learning_rate": True}), "cannot be True"),
    (s.Set(ONE, {"learning_rate": 10**400}), "cannot be 1000"),
    (s.Set(ONE, {"activation": "gelu"}), "cannot be 'gelu'; choose among relu, tanh"),
    (s.Set(ONE, {"nesterov": 1}), "cannot be 1; choose among False, True"),
    (s.Set(ONE, {"rounds": True}), "cannot be True; choose among 0, 1, 2"),
    (s.Add(1, {"width": 24}), "cannot be 24; choose among 16, 32"),
    (s.Turn({"goal.r2": 1.0}), "no number 'goal.r2' to turn; it has goal.accuracy"),
    (s.Turn({"goal.accuracy": 10.5}), "must lie between -10 and 10, got 10.5"),
    (s.Note("two\nlines"), "one line of printable text"),
    (s.Note(" "), "one line of printable text"),
    (s.Note("x", Member(0, 1)), "network 1 is gone"),
]


@pytest.mark.parametrize("directive", FINE, ids=repr)
def test_what_the_run_can_follow_passes(directive):
    steerable.check(directive, SCENE)


@pytest.mark.parametrize(("directive", "why"), WRONG, ids=[repr(d)[:60] for d, _ in WRONG])
def test_what_it_cannot_is_refused_with_the_reason(directive, why):
    with pytest.raises(InputError, match=why):
        steerable.check(directive, SCENE)


def test_weights_that_cannot_be_fitted_allow_less():
    with pytest.raises(InputError, match="width shapes the network"):
        steerable.check(s.Set(ONE, {"width": 32}), RIGID)
    with pytest.raises(
        InputError, match="nobody is bred by 'union' here; choose among average, la"
    ):
        steerable.check(s.Breed(ONE, OTHER, "union"), RIGID)
    steerable.check(s.Breed(ONE, OTHER, "layer"), RIGID)


@pytest.mark.parametrize("directive", [s.Kill(ONE), s.Add(1)])
def test_before_the_first_round_nobody_can_be_named(directive):
    with pytest.raises(InputError, match="first round"):
        steerable.check(directive, EMPTY)
    steerable.check(s.Pause(), EMPTY)


def test_options_become_their_index():
    raw = steerable.raw_genes(SPACE, {"activation": "tanh", "width": 16, "learning_rate": 0.01})
    assert raw == {"activation": 1.0, "width": 0.0, "learning_rate": 0.01}


@pytest.mark.parametrize(
    "directive", [s.Clone(NODE, ANOTHER), s.Clone(ONE, OTHER), s.Clone(NODE), s.Kill(NODE)]
)
def test_within_nodes_and_within_the_others_weights_go_as_ever(directive):
    steerable.check(directive, MIXED)


@pytest.mark.parametrize(
    ("directive", "reason"),
    [
        (s.Clone(ONE, NODE), "of members 0 and 2 one is a node, and no weights go between"),
        (s.Clone(NODE, ONE), "of members 2 and 0 one is a node"),
        (s.Breed(ONE, OTHER, into=NODE), "of members 0 and 2 one is a node"),
        (s.Breed(NODE, ANOTHER), "nodes cannot be bred"),
        (s.Breed(ONE, NODE), "nodes cannot be bred"),
        (s.Breed(NODE, ONE), "nodes cannot be bred"),
    ],
)
def test_no_weights_go_between_nodes_and_others(directive, reason):
    with pytest.raises(InputError, match=reason):
        steerable.check(directive, MIXED)
