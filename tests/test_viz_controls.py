"""The controls without a browser: what their buttons ask for, and what they refuse."""

import sqlite3

import pytest

from paper import viz_runs
from swarmjax import steering as s
from swarmjax.dials import Dial
from swarmjax.ledger import Entry
from swarmjax.steering import Member, decode
from viz import asked as became
from viz import controls, source
from viz.selection import Selection

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def run(tmp_path):
    made = viz_runs.Run(tmp_path / "run", members=8, share=2)
    made.writer.steering({"goal.accuracy": Dial(0.7, -9.0, 9.0)}, True)
    made.advance(3)
    yield made
    made.writer.close()


@pytest.fixture
def panel(run):
    feed = source.Feed(run.writer.directory)
    feed.poll()
    selection = Selection(size=8)
    made = controls.Controls(feed.directory, selection, lambda: feed.snapshot)
    made.update(feed.snapshot)
    made.feed = feed
    yield made
    feed.close()


def asked(run):
    return [decode(entry.body) for entry in run.writer.ledger.waiting()]


def living(run, slot):
    return Member(slot, int(run.swarm.birth[slot]))


SINGLE = {
    "Freeze": s.Freeze, "Thaw": s.Thaw, "Pin": s.Pin, "Unpin": s.Unpin, "Clone": s.Clone,
    "Boost ×2": s.Boost, "No boost": lambda member: s.Boost(member, 1.0),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_buttons_mean_the_networks_that_are_shown_in_the_selected_slots(run, panel, name):
    panel.selection.replace([5, 2])
    panel._clicked(name)
    assert asked(run) == [SINGLE[name](living(run, slot)) for slot in (5, 2)]
    assert "queued as #1, #2" in panel.said.object


@pytest.mark.parametrize(("name", "kind"), [("Kill", s.Kill), ("Stop", s.Stop)])
def test_what_cannot_be_undone_needs_a_second_click(run, panel, name, kind):
    panel.selection.replace([1])
    panel._clicked(name)
    assert asked(run) == [] and f"click {name} again" in panel.said.object
    panel._clicked("Pause")
    panel._clicked(name)
    assert asked(run) == [s.Pause()]
    panel.selection.replace([2])
    panel._clicked(name)
    assert asked(run) == [s.Pause()], "of another selection"
    panel._clicked(name)
    assert asked(run)[1:] == [kind(living(run, 2))] if name == "Kill" else [s.Stop()]


def test_fields_become_directives(run, panel):
    panel.selection.replace([0, 4])
    panel._clicked("Breed")
    panel.gene.value, panel.value.value = "activation", "tanh"
    panel._clicked("Set")
    panel.dial.value, panel.number.value = "goal.accuracy", "0.5"
    panel._clicked("Turn")
    panel.number.value = "default"
    panel._clicked("Turn")
    panel.count.value = "3"
    panel._clicked("Add")
    panel.text.value = HOSTILE
    panel.selection.clear()
    panel._clicked("Note")
    one, other = living(run, 0), living(run, 4)
    assert asked(run) == [
        s.Breed(one, other),
        s.Set(one, {"activation": "tanh"}),
        s.Set(other, {"activation": "tanh"}),
        s.Turn({"goal.accuracy": 0.5}),
        s.Turn({"goal.accuracy": None}),
        s.Add(3),
        s.Note(HOSTILE),
    ]


def test_what_waits_or_was_done_can_be_taken_back(run, panel):
    panel._clicked("Pause")
    panel._clicked("Resume")
    ledger = run.writer.ledger
    ledger.settle(1, "applied", 4, "", s.Resume())
    ledger.settle(2, "refused", 4, "no")
    panel._clicked("Pause")
    panel.feed.poll()
    panel.update(panel.feed.snapshot)
    assert panel.undone.options == ["3", "1"]
    panel.undone.value = "1"
    panel._clicked("Undo")
    assert asked(run)[-1] == s.Undo(1)


@pytest.mark.parametrize(
    ("name", "fields", "selected", "why"),
    [
        ("Freeze", {}, [], "select a member first"),
        ("Breed", {}, [1], "select two members first"),
        ("Breed", {}, [1, 2, 3], "3 members are selected; select the two parents"),
        ("Freeze", {}, [3], "member 3 is dead"),
        ("Set", {"gene": "learning_rate", "value": "7"}, [1], "cannot be 7.0; it lies between"),
        ("Set", {"gene": "learning_rate", "value": "fast"}, [1], "&#x27;fast&#x27; is no number"),
        ("Set", {"gene": "activation", "value": HOSTILE}, [1], "cannot be &#x27;&lt;img"),
        ("Turn", {"dial": "goal.accuracy", "number": "10"}, [], "must lie between -9 and 9"),
        ("Turn", {"dial": "goal.accuracy", "number": "nan"}, [], "must lie between -9 and 9"),
        ("Add", {"count": "-1"}, [], "is no whole number"),
        ("Add", {"count": "0"}, [], "Expected `int` &gt;= 1"),
        ("Note", {"text": ""}, [], "one line of printable text"),
        ("Pause", {"who": " "}, [], "must give a name"),
    ],
)
def test_what_is_wrong_is_told_and_nothing_is_asked(run, panel, name, fields, selected, why):
    run.advance(1)
    panel.feed.poll()
    panel.selection.replace(selected)
    for field, value in fields.items():
        getattr(panel, field).value = value
    panel._clicked(name)
    assert asked(run) == [] and why in panel.said.object
    assert "<img" not in panel.said.object and 'role="alert"' in panel.said.object


def test_a_network_that_has_gone_is_not_hit(run, panel):
    panel.selection.replace(list(range(8)))
    before = run.swarm.birth.copy()
    run.advance(3)
    assert (run.swarm.birth != before).any()
    panel._clicked("Pin")
    assert asked(run) == [] and "is gone" in panel.said.object


def test_too_many_at_a_time_are_refused(panel, monkeypatch):
    monkeypatch.setattr(controls, "MOST", 2)
    panel.selection.replace([0, 1, 2])
    panel._clicked("Pin")
    assert "at most 2 at a time" in panel.said.object


def test_a_finished_run_says_so(run, panel):
    run.say("finished", 0.9)
    panel._clicked("Pause")
    assert "the run is finished: nothing more can be asked of it" in panel.said.object


def test_trouble_with_the_database_is_told(run, panel, monkeypatch, caplog):
    monkeypatch.setattr(controls.stored, "open_run", _broken)
    panel._clicked("Pause")
    assert "OperationalError: disk" in panel.said.object and "a directive failed" in caplog.text


def _broken(_directory):
    raise sqlite3.OperationalError("disk")


def test_the_record_is_text_newest_first_and_says_how_much_it_shows():
    entry = Entry(1, 1.0, HOSTILE, b"{}", HOSTILE, None, None, HOSTILE, None)
    kill = entry._replace(body=b'{"kind":"kill","member":{"slot":3,"birth":3}}', state="applied")
    told = became.recorded([entry, *(kill._replace(id=i, round=9) for i in range(2, 20))])
    assert "<img" not in told and told.index("#19 kill member 3") < told.index("#18 kill")
    assert "12 of 19 shown" in told and "applied in round 9" in told
    assert "unreadable" in became.recorded([entry]) and 'class="unknown"' in became.recorded(
        [entry]
    )
    assert "nothing was asked" in became.recorded([])
