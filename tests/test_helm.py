import sqlite3
import threading
import time

import directive_examples
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import swarmjax as sj
from swarmjax import ledger, steering
from swarmjax import steering as s
from swarmjax.crossover import OPERATORS
from swarmjax.dials import Dial
from swarmjax.helm import Helm
from swarmjax.ledger import Ledger
from swarmjax.policy import check_plan, keep
from swarmjax.steering import Member

DIALS = {"goal.accuracy": Dial(0.7, -10.0, 10.0), "softmax.temperature": Dial(1.0, 1e-3, 1e3)}
GENES = {"learning_rate": [1e-3, 5.0], "activation": ["relu", "no"], "width": [16, 24]}
POLICY = sj.chain(sj.exploit(0.25), sj.allocate.uniform())


class Run:
    """A swarm without networks under a helm: policies, Plans and births are real."""

    def __init__(self, frames, members=4, resizes=True, policy=POLICY, nodes=0):
        self.database = sqlite3.connect(":memory:", check_same_thread=False)
        self.database.executescript(ledger.TABLE)
        self.told, self.states, self.policy = [], [], policy
        frame = frames(np.linspace(0.9, 0.1, members), quota=40, remaining=10**6)
        self.frame = jax.tree.map(np.array, frame)
        self.births, self.plan = members, keep(self.frame)
        self.helm = Helm(
            Ledger(self.database, threading.Lock()), frame.space, DIALS, resizes, 3, None,
            tell=lambda text, member: self.told.append((text, member)), announce=self.states.append,
            nodes=nodes,
        )  # fmt: skip

    def ask(self, *directives, who="ada"):
        for directive in directives:
            self.insert(steering.encode(directive), who)

    def insert(self, body, who="ada"):
        statement = "INSERT INTO directives (time, who, body) VALUES (1, ?, ?)"
        self.database.execute(statement, (who, body))
        self.database.commit()

    def round(self):
        """One round; whether there was one."""
        before = self.frame
        if not self.helm.hear(before):
            return False
        seen = self.helm.seen(before)
        plan = self.policy.update(jax.random.key(int(before.round)), keep(seen), seen, ((), ()))[0]
        plan = self.helm.steer(jax.device_get(plan), before)
        check_plan(plan, before)
        assert plan.steps.sum() == 40
        newborn = plan.fresh | (plan.parent != np.arange(len(plan.parent))) | (plan.operator != 0)
        birth = before.birth.copy()
        birth[newborn] = self.births + np.arange(newborn.sum())
        self.births += int(newborn.sum())
        self.frame = before._replace(
            round=before.round + np.int32(1), birth=birth, genome=plan.genome,
            alive=before.alive[plan.parent] | plan.fresh, steps=plan.steps,
        )  # fmt: skip
        self.plan = plan
        self.helm.report(before, self.frame)
        return True

    def rows(self):
        return {each.id: each for each in ledger.entries(self.database, 10_000)}

    def last(self):
        """State, what was told and inverse of the last directive."""
        row = list(self.rows().values())[-1]
        inverse = None if row.inverse is None else steering.decode(row.inverse)
        return row.state, row.told, inverse


@pytest.fixture
def run(frames):
    return Run(frames)


def member(slot, birth=None):
    return Member(slot, slot if birth is None else birth)


def test_a_directive_is_applied_in_the_next_round_with_its_effect(run):
    run.ask(s.Boost(member(1), 4.0))
    run.round()
    (row,) = run.rows().values()
    assert (row.state, row.round) == ("applied", 2) and row.settled > row.time
    assert row.told == "member 1 gets 23 steps instead of 10"
    assert run.told == [(f"ada: boost member 1 4: {row.told}", 1)]
    run.round()
    assert run.plan.steps[1] == 23, "until further notice"


def test_a_boost_ends_with_its_network(run):
    run.ask(s.Boost(member(3), 4.0))
    run.round()
    assert run.frame.birth[3] == 4, "the worst was replaced all the same"
    run.round()
    assert run.told[-1] == ("what was asked for member 3 ended with its network", 3)
    assert run.plan.steps.tolist() == [10] * 4


def test_frozen_and_pinned_networks_stay_until_they_are_released(run):
    run.ask(s.Freeze(member(3)), s.Pin(member(2)))
    for _ in range(2):
        run.round()
        assert run.frame.birth.tolist() == [0, 1, 2, 3] and run.plan.steps[3] == 0
        assert (run.plan.steps[:3] > 0).all()
    run.ask(s.Thaw(member(3)))
    run.round()
    assert run.last() == ("applied", "slot 3 holds network 4 now", s.Freeze(member(3)))
    assert run.frame.birth.tolist() == [0, 1, 2, 4]
    run.ask(s.Thaw(member(2)))
    run.round()
    assert run.last() == ("refused", "member 2 is not frozen", None)


def test_the_last_one_who_trains_cannot_be_frozen(run):
    run.ask(*(s.Freeze(member(slot)) for slot in range(4)))
    run.round()
    assert [row.state for row in run.rows().values()] == ["applied"] * 3 + ["refused"]
    assert "pause the run instead" in run.last()[1]
    assert run.plan.steps.tolist() == [0, 0, 0, 40]


def test_a_killed_network_is_replaced_by_the_policy(run):
    run.ask(s.Kill(member(0)))
    run.round()
    assert run.plan.parent[0] == 1, "the best of those who are left"
    state, told, inverse = run.last()
    assert (state, inverse) == ("applied", None)
    assert told == "network 0 ends; slot 0 holds network 4 now"


def test_without_a_policy_that_does_a_fresh_network_takes_its_slot(frames):
    run = Run(frames, policy=sj.chain(sj.allocate.uniform(), sj.random()))
    before = {name: values.copy() for name, values in run.frame.genome.items()}
    run.ask(s.Kill(member(0)))
    run.round()
    assert run.plan.fresh.tolist() == [True, False, False, False]
    assert run.plan.genome["learning_rate"][0] != before["learning_rate"][0]
    assert run.plan.steps.tolist() == [10] * 4


def test_a_directive_never_hits_another_network_that_took_the_slot(run):
    run.round()
    assert run.frame.birth[3] == 4
    run.ask(s.Kill(member(3)), s.Kill(Member(3, 4)))
    run.round()
    first, second = run.rows().values()
    assert first.told == "network 3 is gone: slot 3 holds network 4 now"
    assert (first.state, second.state) == ("refused", "applied")


def test_a_clone_goes_where_it_is_told_or_to_the_dead_or_the_worst(run):
    run.frame.alive[1] = False
    run.ask(s.Clone(member(0)), s.Clone(member(0), member(2)), s.Clone(member(2)))
    run.round()
    assert run.plan.parent.tolist()[:3] == [0, 0, 0]
    told = [row.told for row in run.rows().values()]
    assert told[0].startswith("it starts in slot 1;")
    assert told[1] == "it starts in slot 2; slot 2 holds network 5 now"
    assert told[2] == "it starts in slot 3; slot 3 holds network 6 now"
    assert run.plan.parent[3] == 2


def test_clones_of_nodes_go_to_nodes_of_their_size_and_those_of_others_to_others(frames):
    run = Run(frames, members=6, policy=sj.allocate.uniform(), nodes=3)
    run.frame.parameters[5] = 7
    # Slot 2 is the worst of the vectorised, 4 of the nodes of the size of 3.
    run.ask(s.Clone(member(0)), s.Clone(member(3)), s.Clone(member(3), member(5)), s.Add(1))
    run.round()
    clone, node, refused, added = run.rows().values()
    assert "slot 2" in clone.told and "slot 4" in node.told
    assert (refused.state, refused.told) == (
        "refused", "nodes 3 and 5 are of different architectures"
    )  # fmt: skip
    assert added.state == "applied" and run.plan.fresh.tolist().index(True) == 1
    # What was refused leaves nothing behind.
    assert run.frame.birth[5] == 5


def test_there_is_no_room_in_the_slots_of_the_best_and_of_the_pinned(run):
    run.ask(s.Pin(member(1)), s.Add(3), s.Add(2, {"width": 128}))
    run.round()
    assert [row.state for row in run.rows().values()] == ["applied", "refused", "applied"]
    assert run.rows()[2].told == "there is room for 2 new networks only, not for 3"
    assert run.plan.fresh.tolist() == [False, False, True, True]
    assert run.plan.genome["width"].tolist()[2:] == [3, 3]


def test_a_child_has_one_parents_structure_and_genes_of_both(run):
    before = {name: values.copy() for name, values in run.frame.genome.items()}
    run.ask(s.Breed(member(1), member(2), "uniform", member(3)))
    run.round()
    plan = run.plan
    assert (plan.parent[3], plan.mate[3], plan.operator[3]) == (1, 2, OPERATORS.index("uniform"))
    for name, gene in run.frame.space.genes:
        allowed = [before[name][1]] + ([] if gene.structural else [before[name][2]])
        assert plan.genome[name][3] in allowed
    rate = "learning_rate"
    run.ask(s.Breed(member(1), member(2), "union", Member(3, int(run.frame.birth[3]))))
    run.round()
    widths = np.array([16, 32, 64, 128])
    wanted = widths[before["width"][1]] + widths[before["width"][2]]
    assert widths[run.plan.genome["width"][3]] == widths[widths >= min(wanted, 128)][0]
    assert before[rate][1] != before[rate][2]


def test_networks_of_other_structure_are_not_bred_where_weights_cannot_be_fitted(frames):
    run = Run(frames, resizes=False)
    run.frame.genome["depth"][:] = [0, 1, 0, 0]
    run.frame.genome["width"][:] = 0
    run.ask(s.Breed(member(0), member(1)), s.Breed(member(0), member(2), into=member(3)))
    run.round()
    assert [row.state for row in run.rows().values()] == ["refused", "applied"]
    assert run.rows()[1].told.startswith("they differ in depth")


def test_genes_are_set_for_good_and_can_be_set_back(run):
    before = {name: values.copy() for name, values in run.frame.genome.items()}
    run.ask(s.Set(member(1), {"learning_rate": 0.01, "activation": "tanh"}))
    run.round()
    assert run.frame.birth[1] == 1
    assert run.frame.genome["learning_rate"][1] == np.float32(0.01)
    assert run.frame.genome["activation"][1] == 3
    assert "learning_rate was 0." in run.last()[1]
    run.ask(s.Undo(1))
    run.round()
    for name, values in before.items():
        assert run.frame.genome[name][1] == values[1]


def test_dials_are_turned_for_the_policy_alone_and_turned_back(run):
    run.ask(s.Turn({"goal.accuracy": 0.5}))
    run.round()
    assert run.helm.seen(run.frame).dials["goal.accuracy"] == 0.5
    assert run.frame.dials == {}
    assert run.last() == ("applied", "goal.accuracy was 0.7", s.Turn({"goal.accuracy": None}))
    run.ask(s.Turn({"goal.accuracy": 0.25}))
    run.round()
    run.ask(s.Undo(2))
    run.round()
    assert run.helm.seen(run.frame).dials["goal.accuracy"] == 0.5
    run.ask(s.Undo(1))
    run.round()
    assert np.isnan(run.helm.seen(run.frame).dials["goal.accuracy"])


def test_a_pause_waits_and_is_told_until_somebody_resumes(run):
    run.ask(s.Pause(), s.Kill(member(1)))
    thread = threading.Thread(target=run.round)
    thread.start()
    while not run.helm.paused:
        time.sleep(0.01)
    time.sleep(0.3)
    assert thread.is_alive() and run.states == ["paused"] and run.frame.round == 1
    assert [row.state for row in run.rows().values()] == ["applied", "queued"]
    run.ask(s.Undo(2), s.Note("enough", member(0)), s.Pause(), s.Resume())
    thread.join(10)
    assert run.states == ["paused", "running"] and run.frame.round == 2
    states = [row.state for row in run.rows().values()]
    assert states == ["applied", "withdrawn", "applied", "applied", "refused", "applied"]
    assert run.frame.birth[1] == 1 and run.told[-2][0].endswith("the run is paused already")


def test_a_stop_ends_the_run_even_while_it_is_paused(run):
    run.round()
    run.ask(s.Pause(), s.Stop(), who="bob")
    assert not run.round() and run.helm.stopped == "bob"


def test_before_the_first_round_a_stop_waits_for_its_end(run):
    run.frame = run.frame._replace(round=np.int32(0))
    run.ask(s.Stop(), s.Kill(member(0)))
    assert run.round()
    assert run.last()[0] == "refused" and "first round" in run.last()[1]
    assert not run.round()


@pytest.mark.parametrize(
    ("undone", "why"),
    [
        (s.Kill(member(1)), "cannot be undone: it is of a kind that stays done"),
        (s.Thaw(member(1)), "cannot be undone: it is refused"),
        (None, "there is no directive 7"),
    ],
)
def test_what_cannot_be_undone_says_so(run, undone, why):
    if undone:
        run.ask(undone)
        run.round()
    run.ask(s.Undo(1 if undone else 7))
    run.round()
    assert run.last()[0] == "refused" and why in run.last()[1]


def test_two_who_want_the_same_slot_get_it_in_turn(run):
    run.ask(s.Kill(member(2)), s.Freeze(member(2)), s.Clone(member(0), member(2)))
    run.round()
    assert [row.state for row in run.rows().values()] == ["applied", "refused", "refused"]
    assert run.rows()[2].told == "member 2 ends in this round"
    assert run.rows()[3].told == "member 2 ends in this round already"


def test_a_directive_that_fails_in_an_unknown_way_is_refused(run, monkeypatch):
    def broken(directive, coming):
        raise ZeroDivisionError("by zero\nand more")

    monkeypatch.setattr("swarmjax.helm.heed", broken)
    run.ask(s.Kill(member(1)))
    assert run.round()
    assert run.last()[:2] == ("refused", "ZeroDivisionError: by zero and more")


FORGED = [b"\xff\x00", "", "null", "{}", '{"kind":"kill"}', "[" * 5000, "x" * 50_000, 7,
          '{"kind":"kill","member":{"slot":1e3,"birth":0}}', '{"kind":"undo","id":4}']  # fmt: skip


def test_forged_and_damaged_rows_are_refused_and_the_run_goes_on(run):
    for body in FORGED:
        run.insert(body, b"\xfe<b>")
    assert run.round() and run.round()
    assert {row.state for row in run.rows().values()} == {"refused"}
    assert all(row.told.isprintable() and row.told for row in run.rows().values())
    run.database.execute("DROP TABLE directives")
    assert run.round()


asked = directive_examples.any_of(6, GENES, DIALS)
forged = st.binary(max_size=40) | st.text(max_size=40) | st.sampled_from(FORGED)


@settings(max_examples=20)
@given(st.lists(st.lists(asked | forged, min_size=15, max_size=25), min_size=3, max_size=3))
def test_a_thousand_random_directives_are_all_applied_or_refused_and_none_is_lost(frames, batches):
    run, count = Run(frames, 6), 0
    for batch in batches:
        for each in batch:
            run.insert(each if isinstance(each, bytes | str | int) else steering.encode(each))
        run.ask(s.Resume())
        count += len(batch) + 1
        assert run.round()
    rows = run.rows().values()
    assert len(rows) == count
    assert {row.state for row in rows} <= {"applied", "refused", "withdrawn"}
    assert all(row.told for row in rows if row.state != "applied")
    assert all(row.round in (2, 3, 4) for row in rows if row.state == "applied")
