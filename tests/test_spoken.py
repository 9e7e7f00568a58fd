import io

import numpy as np
import pytest
from rich.console import Console

from swarmjax import spoken
from swarmjax import steering as s
from swarmjax.commands import Steer
from swarmjax.dials import Dial
from swarmjax.errors import InputError
from swarmjax.ledger import Entry
from swarmjax.space import Space, choice, log_uniform, structure
from swarmjax.steerable import Scene
from swarmjax.steering import Member

SPACE = Space(
    learning_rate=log_uniform(1e-4, 1e-1),
    activation=choice("relu", "a b"),
    nesterov=choice(False, True),
    width=structure(16, 32),
)
SCENE = Scene(
    SPACE, {"goal.accuracy": Dial(0.7, -1, 1)}, True, np.array([0, 9, 2]), np.ones(3, bool)
)
ONE, OTHER = Member(1, 9), Member(2, 2)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("pause", s.Pause()),
        ("resume", s.Resume()),
        ("stop", s.Stop()),
        ("kill 1", s.Kill(ONE)),
        ("kill 1@210", s.Kill(Member(1, 210))),
        ("freeze 1", s.Freeze(ONE)),
        ("thaw 1", s.Thaw(ONE)),
        ("pin 1", s.Pin(ONE)),
        ("unpin 1", s.Unpin(ONE)),
        ("boost 1", s.Boost(ONE, 2.0)),
        ("boost 1 4", s.Boost(ONE, 4.0)),
        ("clone 1", s.Clone(ONE)),
        ("clone 1 into 2", s.Clone(ONE, OTHER)),
        ("breed 1 2", s.Breed(ONE, OTHER)),
        ("breed 1 2 union into 0", s.Breed(ONE, OTHER, "union", Member(0, 0))),
        (
            "set 1 learning_rate=0.01 width=32 nesterov=True",
            s.Set(ONE, {"learning_rate": 0.01, "width": 32, "nesterov": True}),
        ),
        ("turn goal.accuracy=-0.5", s.Turn({"goal.accuracy": -0.5})),
        ("turn goal.accuracy=default", s.Turn({"goal.accuracy": None})),
        ("add 2", s.Add(2)),
        ("add 2 width=16", s.Add(2, {"width": 16})),
        ("note well", s.Note("well")),
        ("note 1 why so slow", s.Note("why so slow", ONE)),
        ("undo 12", s.Undo(12)),
    ],
)
def test_words_stand_for_directives(said, meant):
    got = spoken.parse(said.split(), SCENE)
    assert got == meant and s.decode(s.encode(got)) == meant
    values = getattr(got, "genes", {})
    assert all(type(values[k]) is type(meant.genes[k]) for k in values)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("vanish 1", "'vanish' is no directive; known are pause, resume"),
        ("kill", "'kill' cannot be read; write it as: kill 17"),
        ("kill one", "write it as: kill 17"),
        ("kill 1 2", "write it as: kill 17"),
        ("pause 3", "write it as: pause"),
        ("kill 3", "there is no member 3; members are 0 to 2"),
        ("boost 1 much", "write it as: boost 17 4"),
        ("clone 1 into", "write it as: clone 17 \\[into 3\\]"),
        ("breed 1", "write it as: breed 3 5 \\[union\\]"),
        ("set 1 width", "write it as: set 17 learning_rate=0.01"),
        ("turn goal.accuracy=x", "write it as: turn goal.accuracy=0.5"),
        ("add few", "write it as: add 2"),
        ("note", "write it as: note"),
        ("undo all", "write it as: undo 12"),
    ],
)
def test_other_words_are_refused_with_the_form(said, why):
    with pytest.raises(InputError, match=why):
        spoken.parse(said.split(), SCENE)


def test_values_that_are_none_are_left_to_the_check():
    assert spoken.parse("set 1 width=24 learning_rate=x".split(), SCENE) == s.Set(
        ONE, {"width": "24", "learning_rate": "x"}
    )


def test_every_form_of_the_help_can_be_read():
    forms = " ".join(Steer.__doc__.split("\n\n")[1].split()).split(" | ")
    for form in forms:
        words = form.replace("17", "1").replace("3 5", "1 2").replace("into 3", "into 2")
        words = words.replace("into 9", "into 0").replace("[", "").replace("]", "").split()
        assert spoken.parse(words, SCENE) is not None
    assert len(forms) == len({form.split()[0] for form in forms}) == 16


def test_the_ledger_is_shown_as_plain_text():
    entry = Entry(3, 1e300, "[red]x", b"{}", "queued", None, None, ":boom:", None)
    console = Console(width=200, file=io.StringIO())
    console.print(spoken.ledger_table([entry]))
    text = console.file.getvalue()
    assert "[red]x" in text and ":boom:" in text and "unreadable" in text
