import numpy as np
import pytest
from conftest import make_frame
from hypothesis import given
from hypothesis import strategies as st

from swarmjax import dealing, descent
from swarmjax.crossover import OPERATORS
from swarmjax.following import Homes
from swarmjax.policy import keep

AVERAGE = OPERATORS.index("average")


def test_neighbours_begin_together():
    assert dealing.blocks(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert dealing.blocks(3, 3).tolist() == [0, 1, 2]
    counts = np.bincount(dealing.blocks(1_000_000, 7))
    assert counts.sum() == 1_000_000 and np.ptp(counts) == 1


def dealt(owner, work, pace, size=0.0, open=None):
    owner, work = np.asarray(owner, np.int32), np.asarray(work, float)
    open = np.ones(len(pace), bool) if open is None else np.asarray(open)
    return dealing.deal(owner, work, np.asarray(pace, float), np.full(len(owner), size), open)


def test_a_slow_island_gives_members_up():
    # Six members of equal work; the second island is twice as slow: it keeps a third of the work.
    assert np.bincount(dealt([0, 0, 0, 1, 1, 1], [1.0] * 6, [1, 2])).tolist() == [4, 2]


def test_nobody_moves_where_it_does_not_pay():
    even = [0, 0, 0, 1, 1, 1]
    assert dealt(even, [1.0] * 6, [1.0, 1.1]).tolist() == even
    # Two seconds would be saved, and a member takes more than that on its way.
    assert dealt(even, [1.0] * 6, [1, 2], size=1e9).tolist() == even


def test_who_leaves_gives_up_everyone_whatever_that_takes():
    after = dealt([0, 0, 1, 1, 2, 2], [1.0] * 6, [1, 1, 1], 1e12, [True, False, True])
    assert set(after.tolist()) == {0, 2}


def test_who_joins_gets_members_at_once():
    assert 2 in dealt([0, 0, 1, 1], [1e-9] * 4, [1, 1, 1], 1e12)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(1e-6, 1e6)), min_size=4, max_size=40),
    st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4),
    st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
)
def test_everyone_has_an_open_island_and_every_open_island_has_someone(members, pace, open):
    owner, work = map(np.asarray, zip(*members, strict=True))
    after = dealt(owner, work, pace, 0.0, open)
    assert np.asarray(open)[after].all()
    assert set(after.tolist()) == set(np.flatnonzero(open).tolist())


@given(
    st.lists(st.floats(0.1, 10), min_size=40, max_size=80),
    st.lists(st.floats(0.5, 2), min_size=3, max_size=3),
)
def test_the_slowest_is_hardly_later_than_it_must_be(work, pace):
    owner = np.zeros(len(work), np.int32)
    work, pace = np.asarray(work), np.asarray(pace)
    after = dealt(owner, work, pace)
    even = work.sum() / (1 / pace).sum()
    # Off by about a member at each end.
    assert dealing.loads(after, work, pace).max() <= even + 2 * work.max() * pace.max()


def test_only_members_of_closed_islands_are_rehomed():
    owner = np.asarray([0, 1, 2, 1, 0])
    assert dealing.rehomed(owner, np.asarray([True, False, True])).tolist() == [0, 2, 2, 2, 0]


@pytest.fixture
def cut(recipe):
    def cut(frame, island, owner, held=None, **changes):
        plan = keep(frame)._replace(**changes)
        arrays = {name: np.asarray(getattr(plan, name)) for name in plan._fields[:-1]}
        plan = plan._replace(**arrays)
        line = descent.descent(recipe, frame.genome, plan)
        born = descent.numbered(np.asarray(frame.birth), 100, line.newborn)
        owner = np.asarray(owner)
        order = dealing.order_for(island, owner, plan, line, frame, born, Homes())
        held = owner if held is None else np.asarray(held)
        borrowed = dealing.borrowed(order, held, island)
        return order, {k: v.tolist() for k, v in borrowed.items()}

    return cut


@pytest.fixture(scope="module")
def recipe():
    import swarmjax as sj
    from swarmjax.experiment import Experiment, check

    x = np.random.default_rng(0).normal(size=(40, 4))
    task = sj.tasks.arrays(x, (x.sum(axis=1) > 0).astype(int), batch=8)
    space = sj.Space(learning_rate=sj.log_uniform(1e-3, 1e-1), width=sj.structure(4, 8))
    return check(Experiment(task=task, space=space, members=5, budget=100)).recipe


@pytest.fixture
def five(recipe):
    genome = {"learning_rate": np.linspace(0.01, 0.05, 5, dtype=np.float32)}
    genome["width"] = np.zeros(5, np.int32)
    return make_frame([0.1, 0.2, 0.3, 0.4, 0.5], space=recipe.space, genome=genome)


def test_an_order_numbers_members_as_its_island_does(cut, five):
    order, borrowed = cut(five, 1, [0, 0, 1, 1, 1], parent=[0, 1, 0, 3, 3], steps=[1, 2, 3, 4, 5])
    # Its own, then those that they start from elsewhere.
    assert order.slots.tolist() == [2, 3, 4, 0] and order.own == 3
    assert order.plan.parent.tolist() == [3, 1, 1, 3]
    assert order.plan.steps.tolist() == [3, 4, 5, 0]
    assert order.birth.tolist() == [2, 3, 4, 0]
    # The newborn of the whole swarm are 2 and 4, in this order.
    assert order.born.tolist() == [100, 3, 101, 0]
    assert borrowed == {0: [0]}


def test_mates_are_borrowed_too_and_nobody_without_need(cut, five):
    order, borrowed = cut(
        five, 0, [0, 0, 1, 1, 1], mate=[3, 4, 2, 3, 4], operator=[AVERAGE, 0, 0, 0, 0]
    )
    assert order.slots.tolist() == [0, 1, 3] and borrowed == {1: [3]}
    assert order.plan.mate.tolist() == [2, 1, 2]
    fresh = [True, False, False, False, False]
    order, borrowed = cut(five, 0, [0, 0, 1, 1, 1], parent=[3, 1, 2, 3, 4], fresh=fresh)
    assert borrowed == {} and order.plan.fresh.tolist() == [True, False]


def test_who_changed_islands_is_fetched_unless_it_starts_from_another(cut, five):
    held = [0, 0, 0, 1, 1]
    _, borrowed = cut(five, 1, [0, 0, 1, 1, 1], held)
    assert borrowed == {0: [2]}
    _, borrowed = cut(five, 1, [0, 0, 1, 1, 1], held, parent=[0, 1, 3, 3, 4])
    assert borrowed == {}


def test_the_borrowed_stay_as_they_are(cut, five):
    genome = {**five.genome, "width": np.ones(5, np.int32)}
    order, _ = cut(five, 1, [0, 0, 1, 1, 1], parent=[0, 1, 0, 3, 4], genome=genome)
    assert order.slots.tolist() == [2, 3, 4, 0]
    assert order.plan.genome["width"].tolist() == [1, 1, 1, 0]
    assert order.genome["width"].tolist() == [0, 0, 0, 0]


def test_work_counts_the_evaluation():
    frame = make_frame([0.5, 0.5], cost=[2.0, 3.0])
    plan = keep(frame)._replace(steps=np.asarray([4, 0]))
    assert dealing.work_of(plan, frame).tolist() == [10.0, 3.0]
