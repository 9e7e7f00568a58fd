import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmjax.crossover import OF_TWO, OPERATORS
from swarmjax.obey import no_orders, obey
from swarmjax.policy import check_plan, keep
from swarmjax.types import Plan

AVERAGE = OPERATORS.index("average")


def at_rest(accuracy, frames, **changes):
    """A Frame on the host, and the Plan in which everyone carries on with 10 steps."""
    frame = frames(accuracy, quota=1000, **changes)
    arrays = {k: np.asarray(v) for k, v in frame.genome.items()}
    frame = frame._replace(alive=np.asarray(frame.alive), genome=arrays)
    plan = keep(frame)
    return frame, plan._replace(steps=np.where(frame.alive, 10, 0).astype(np.int32))


def asked(frame, **changes):
    """Orders with some entries set: field -> {slot: value}, genes under `given` and `drawn`."""
    orders = no_orders(frame.space, len(frame.alive))
    for field, entries in changes.items():
        for slot, value in entries.items():
            if field in ("given", "drawn"):
                for gene, number in value.items():
                    getattr(orders, field)[gene][slot] = number
            else:
                getattr(orders, field)[slot] = value
    return orders


def test_without_orders_the_plan_itself_passes(frames):
    frame, plan = at_rest([0.5] * 4, frames)
    assert obey(plan, frame, no_orders(frame.space, 4)) is plan


def test_whoever_is_still_leaves_its_steps_to_the_others_in_proportion(frames):
    frame, plan = at_rest([0.5] * 4, frames)
    plan = plan._replace(steps=np.array([30, 10, 20, 0], np.int32))
    after = obey(plan, frame, asked(frame, held={0: True}, still={0: True}))
    assert after.steps.tolist() == [0, 20, 40, 0]


def test_if_nobody_else_can_train_the_still_one_does(frames):
    frame, plan = at_rest([0.5] * 3, frames, alive=[True, False, False])
    after = obey(plan, frame, asked(frame, held={0: True}, still={0: True}))
    assert after.steps.tolist() == [10, 0, 0]


def test_what_a_still_member_leaves_goes_to_those_whom_the_policy_passed_over(frames):
    frame, plan = at_rest([0.5] * 3, frames)
    plan = plan._replace(steps=np.array([9, 0, 0], np.int32))
    after = obey(plan, frame, asked(frame, held={0: True}, still={0: True}))
    assert after.steps.tolist() == [0, 5, 4]


def test_a_boost_multiplies_the_grant_or_the_mean(frames):
    frame, plan = at_rest([0.5] * 4, frames)
    plan = plan._replace(steps=np.array([40, 20, 20, 0], np.int32))
    assert obey(plan, frame, asked(frame, boost={0: 4.0})).steps.tolist() == [64, 8, 8, 0]
    # The mean is 20, so it weighs 40 beside 40, 20 and 20: 80 steps of 120.
    assert obey(plan, frame, asked(frame, boost={3: 2.0})).steps.tolist() == [27, 13, 13, 27]


def test_who_is_held_is_neither_replaced_nor_changed(frames):
    frame, plan = at_rest([0.5] * 4, frames)
    taken = plan._replace(
        parent=np.array([0, 0, 2, 3], np.int32), fresh=np.array([0, 0, 1, 0], bool),
        mate=np.array([0, 3, 2, 3], np.int32), operator=np.array([0, AVERAGE, 0, 0], np.int32),
        genome=plan.genome | {"momentum": np.full(4, 0.25, np.float32)},
    )  # fmt: skip
    after = obey(taken, frame, asked(frame, held={1: True, 2: True}))
    assert after.parent.tolist() == [0, 1, 2, 3] and not after.fresh.any()
    assert after.operator.tolist() == [0, 0, 0, 0] and after.mate.tolist() == [0, 1, 2, 3]
    before = frame.genome["momentum"]
    assert after.genome["momentum"].tolist() == [0.25, before[1], before[2], 0.25]


def test_given_genes_come_before_what_was_held_and_stay_in_the_space(frames):
    frame, plan = at_rest([0.5] * 2, frames)
    values = {"learning_rate": 1e-3, "activation": 2, "momentum": 7.0}
    after = obey(plan, frame, asked(frame, held={1: True}, given={1: values}))
    assert after.genome["learning_rate"][1] == np.float32(1e-3)
    assert after.genome["activation"][1] == 2
    assert after.genome["momentum"][1] == 1.0
    assert after.genome["depth"][1] == frame.genome["depth"][1]
    assert all(after.genome[name][0] == values[0] for name, values in frame.genome.items())


def test_a_clone_takes_weights_and_genes_and_a_child_of_two_its_mate_too(frames):
    frame, plan = at_rest([0.5] * 4, frames, alive=[True, True, True, False])
    orders = asked(
        frame, source={2: 0, 3: 0}, mate={3: 1}, operator={3: AVERAGE}, given={2: {"momentum": 0.5}}
    )
    after = obey(plan, frame, orders)
    check_plan(after, frame)
    assert after.parent.tolist() == [0, 1, 0, 0] and after.mate.tolist() == [0, 1, 2, 1]
    assert after.operator.tolist() == [0, 0, 0, AVERAGE]
    assert after.genome["momentum"][2] == 0.5
    assert after.genome["learning_rate"][[2, 3]].tolist() == [frame.genome["learning_rate"][0]] * 2
    # The dead slot was granted nothing; its child gets as much as the others on average.
    assert after.steps.tolist() == [8, 8, 7, 7]


def test_who_ends_gives_way_to_the_policys_choice_or_starts_anew(frames):
    frame, plan = at_rest([0.5] * 3, frames)
    plan = plan._replace(parent=np.array([2, 1, 2], np.int32))
    orders = asked(frame, ended={0: True, 1: True}, drawn={1: {"momentum": -0.5}})
    after = obey(plan, frame, orders)
    assert after.parent.tolist() == [2, 1, 2] and after.fresh.tolist() == [False, True, False]
    assert after.genome["momentum"][1] == -0.5
    assert after.steps.tolist() == [10, 10, 10]


def test_a_swarm_without_a_living_member_starts_anew_with_the_whole_quota(frames):
    frame, plan = at_rest([0.5] * 2, frames, alive=[False, False])
    after = obey(plan, frame, asked(frame, fresh={1: True}))
    assert after.steps.tolist() == [0, 1000] and after.fresh.tolist() == [False, True]


@st.composite
def situations(draw):
    """Who lives, a legal Plan, and any orders."""
    n = draw(st.integers(1, 6))
    flags = st.lists(st.booleans(), min_size=n, max_size=n).map(lambda v: np.array(v, bool))
    slots = st.lists(st.integers(0, n - 1), min_size=n, max_size=n).map(
        lambda v: np.array(v, np.int32)
    )
    alive, fresh, parent, operated = draw(flags), draw(flags), draw(slots), draw(flags)
    own = np.arange(n, dtype=np.int32)
    parent = np.where(fresh | ~alive[parent], own, parent).astype(np.int32)
    lives = alive[parent] | fresh
    steps = np.array(draw(st.lists(st.integers(0, 400), min_size=n, max_size=n)), np.int32) * lives
    operator = np.where(operated & alive[parent] & ~fresh, AVERAGE, 0).astype(np.int32)
    plan = {"parent": parent, "mate": parent, "operator": operator, "fresh": fresh, "steps": steps}
    asked = {name: draw(flags) for name in ("held", "still", "fresh", "ended")}
    asked["source"] = np.where(draw(flags), draw(slots), -1).astype(np.int32)
    asked["mate"] = draw(slots)
    asked["operator"] = np.array([OPERATORS.index(name) for name in sorted(OF_TWO)], np.int32)[
        draw(slots) % len(OF_TWO)
    ]
    boosts = st.lists(st.sampled_from([1.0, 1.5, 16.0]), min_size=n, max_size=n)
    asked["boost"] = np.array(draw(boosts))
    return alive, plan, asked


@given(situations())
def test_whatever_is_asked_the_plan_can_be_followed_and_spends_as_much(frames, situation):
    alive, planned, wanted = situation
    frame, rest = at_rest([0.5] * len(alive), frames, alive=alive)
    frame = frame._replace(quota=np.int32(2400))
    plan: Plan = rest._replace(**planned)
    orders = no_orders(frame.space, len(alive))._replace(**wanted)
    check_plan(plan, frame)
    after = obey(plan, frame, orders)
    check_plan(after, frame)
    for new, old in zip(after[:-1], plan[:-1], strict=True):
        assert (new.dtype, new.shape) == (old.dtype, old.shape)
    able = alive[after.parent] | after.fresh
    assert not after.steps[~able].any()
    if after is not plan and able.any():
        assert after.steps.sum() == (plan.steps.sum() or 2400)
    held = orders.held & alive
    assert (after.parent[held] == np.flatnonzero(held)).all() and not after.fresh[held].any()
    quiet = held & orders.still
    if (able & ~quiet).any():
        assert not after.steps[quiet].any()


@pytest.mark.parametrize("total", [0, 1, 7, 2**31 - 1])
def test_shares_are_exact_however_large(total, frames):
    frame, plan = at_rest([0.5] * 3, frames)
    plan = plan._replace(steps=np.array([total, 0, 0], np.int32))
    frame = frame._replace(quota=np.int32(total))
    assert obey(plan, frame, asked(frame, boost={1: 3.0})).steps.sum(dtype=np.int64) == total
