import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmjax import space
from swarmjax.cohorts import (
    UPDATE,
    Costs,
    Load,
    depends_on_machine,
    place,
    plan_cohorts,
    step_seconds,
)
from swarmjax.mlp import Box, mlp
from swarmjax.models import Family

SPACE = space.Space(depth=space.structure(1, 2, 3), width=space.structure(2, 4, 8))
MLPS = mlp(SPACE, 3, 2)
# A network that is only a number of weights, one operation each.
BARS = Family(**dict.fromkeys(Family._fields))._replace(
    contain=lambda architecture: architecture[0][1],
    cover=max,
    flops=lambda c, a: float(c),
    parameters=lambda c: 0,
)
APART = BARS._replace(cover=lambda a, b: a if a == b else None)
PLAIN = Costs(compile_seconds=0.0, flops_per_second=1.0, step_seconds=0.0, chunk=1)


def bar(size):
    return (("size", size),)


def net(depth, width):
    return (("depth", depth), ("width", width))


def by_size(cohorts):
    return {architecture[0][1]: container for architecture, container in cohorts.containers.items()}


def test_expensive_compile_gives_one_program():
    loads = {bar(1): Load(1, 10), bar(2): Load(1, 10), bar(5): Load(1, 10)}
    cohorts = plan_cohorts(BARS, loads, 1, PLAIN._replace(compile_seconds=100.0))
    assert by_size(cohorts) == {1: 5, 2: 5, 5: 5}
    assert cohorts.separate == 3 * 100 + 10 * (1 + 2 + 5)
    assert cohorts.seconds == 100 + 10 * 3 * 5


def test_long_runs_give_each_its_own_program():
    loads = {bar(1): Load(1, 1000), bar(2): Load(1, 1000), bar(5): Load(1, 1000)}
    cohorts = plan_cohorts(BARS, loads, 1, PLAIN._replace(compile_seconds=100.0))
    assert by_size(cohorts) == {1: 1, 2: 2, 5: 5}
    assert cohorts.seconds == cohorts.separate == 3 * 100 + 1000 * (1 + 2 + 5)
    # So do short runs of a batch a hundred times as large.
    loads = {architecture: Load(1, 10) for architecture in loads}
    cohorts = plan_cohorts(BARS, loads, 100, PLAIN._replace(compile_seconds=100.0))
    assert by_size(cohorts) == {1: 1, 2: 2, 5: 5}


@pytest.mark.parametrize(
    ("sizes", "seconds", "depends"),
    [
        # A merge costs 1 and saves 0.9: none is made. Were it 2.7, eleven programs would take 29.7
        # where six take 16.2 and 5 more to train: 8.5 would be lost, and 5.4 are a measurement.
        (range(10, 21), 0.9, True),
        # The same, but of two programs too little is lost.
        ((10, 11), 0.9, False),
        # All in one program, or each in one of its own, is right at a third and at three times.
        (range(10, 21), 100.0, False),
        (range(10, 21), 0.001, False),
    ],
)
def test_a_machine_is_worth_measuring_where_a_guess_could_lose_more(sizes, seconds, depends):
    loads = {bar(size): Load(1, 1) for size in sizes}
    guess = PLAIN._replace(compile_seconds=seconds)
    assert depends_on_machine(BARS, loads, 1, guess) == depends


def test_only_what_is_alike_shares_a_program():
    """Merging 1 and 2 costs 10 x 1 and saves 50; merging with 20 would cost 10 x 18."""
    loads = {bar(1): Load(1, 10), bar(2): Load(1, 10), bar(20): Load(1, 10)}
    cohorts = plan_cohorts(BARS, loads, 1, PLAIN._replace(compile_seconds=50.0))
    assert by_size(cohorts) == {1: 2, 2: 2, 20: 20}
    assert cohorts.seconds == 2 * 50 + 10 * (2 + 2 + 20)


def test_the_better_merge_comes_first():
    """Few steps of 3 fit into 4 for 10; the many of 1 would pay 200 for going into 3."""
    loads = {bar(1): Load(1, 100), bar(3): Load(1, 10), bar(4): Load(1, 10)}
    cohorts = plan_cohorts(BARS, loads, 1, PLAIN._replace(compile_seconds=150.0))
    assert by_size(cohorts) == {1: 1, 3: 4, 4: 4}


def test_faster_machines_share_more():
    loads = {bar(1): Load(1, 1000), bar(5): Load(1, 1000)}
    costs = PLAIN._replace(compile_seconds=3.0)
    assert by_size(plan_cohorts(BARS, loads, 1, costs)) == {1: 1, 5: 5}
    fast = costs._replace(flops_per_second=1e6)
    cohorts = plan_cohorts(BARS, loads, 1, fast)
    assert by_size(cohorts) == {1: 5, 5: 5}
    assert cohorts.seconds == pytest.approx(3.0 + 2000 * 5 / 1e6)


def test_a_short_chunk_costs_a_full_one():
    """Two members of each size fill one chunk of four together, but half a chunk each alone."""
    loads = {bar(2): Load(2, 20), bar(3): Load(2, 20)}
    cohorts = plan_cohorts(BARS, loads, 1, PLAIN._replace(chunk=4))
    assert cohorts.separate == 20 * (4 / 2) * 2 + 20 * (4 / 2) * 3
    assert by_size(cohorts) == {2: 3, 3: 3}
    assert cohorts.seconds == 40 * 3


def test_each_chunk_pays_for_its_steps():
    """Ten steps each: of three chunks of two if apart, of two if together."""
    loads = {bar(1): Load(1, 10), bar(2): Load(3, 30)}
    cohorts = plan_cohorts(BARS, loads, 1, PLAIN._replace(chunk=2, step_seconds=100.0))
    assert cohorts.separate == 10 * 2 * 1 + 30 * (4 / 3) * 2 + 3 * 10 * 100
    assert by_size(cohorts) == {1: 2, 2: 2}
    assert cohorts.seconds == 40 * 2 + 2 * 10 * 100


def test_a_step_of_a_chunk_is_priced_as_in_the_plan():
    costs = PLAIN._replace(chunk=2, step_seconds=100.0, flops_per_second=0.5)
    assert step_seconds(BARS, 3, bar(1), 1, costs) == 100 + 2 * BARS.flops(3, bar(1)) / 0.5


def test_containers_that_cannot_be_covered_stay_apart():
    loads = {bar(size): Load(1, 1) for size in (1, 2, 3)}
    cohorts = plan_cohorts(APART, loads, 1, PLAIN._replace(compile_seconds=1e9))
    assert by_size(cohorts) == {1: 1, 2: 2, 3: 3}
    assert cohorts.seconds == cohorts.separate


def test_architectures_of_one_container_are_one_program_from_the_start():
    loads = {(("size", 3), ("kind", kind)): Load(1, 10) for kind in "ab"}
    cohorts = plan_cohorts(BARS, loads, 1, PLAIN._replace(compile_seconds=7.0))
    assert set(cohorts.containers.values()) == {3}
    assert cohorts.seconds == cohorts.separate == 7 + 20 * 3


def test_an_architecture_without_members_costs_a_program_only():
    cohorts = plan_cohorts(BARS, {bar(3): Load(0, 0)}, 1, PLAIN._replace(compile_seconds=7.0))
    assert (by_size(cohorts), cohorts.seconds) == ({3: 3}, 7.0)
    assert plan_cohorts(BARS, {}, 1, PLAIN) == ({}, {}, 0, 0)


def test_a_merge_may_need_a_container_that_nobody_has():
    """A deep narrow and a wide shallow one; the container of both may exist already."""
    costs = PLAIN._replace(compile_seconds=1e6)
    loads = {net(3, 2): Load(1, 10), net(1, 8): Load(1, 10)}
    cohorts = plan_cohorts(MLPS, loads, 1, costs)
    assert set(cohorts.containers.values()) == {Box(3, 8)}
    more = plan_cohorts(MLPS, loads | {net(3, 8): Load(1, 10)}, 1, costs)
    assert set(more.containers) == {net(3, 2), net(1, 8), net(3, 8)}
    assert set(more.containers.values()) == {Box(3, 8)}
    steps = [MLPS.flops(Box(3, 8), net(*size)) for size in ((3, 2), (1, 8), (3, 8))]
    assert more.seconds == 1e6 + 10 * (sum(steps) + 3 * UPDATE * MLPS.parameters(Box(3, 8)))


def test_two_may_join_a_third_that_neither_would_join_alone():
    """Alone, half a chunk each for 6 an operation, or half a chunk of the third for 10."""
    sets = BARS._replace(
        contain=lambda architecture: frozenset(architecture[0][1]),
        cover=frozenset.union,
        flops=lambda container, member: {1: 6.0, 2: 10.0}[len(container)],
    )
    loads = {(("has", "a"),): Load(2, 2), (("has", "b"),): Load(2, 2), (("has", "ab"),): Load(4, 4)}
    cohorts = plan_cohorts(sets, loads, 1, PLAIN._replace(chunk=4))
    assert cohorts.separate == 4 * 6 + 4 * 6 + 4 * 10
    assert set(cohorts.containers.values()) == {frozenset("ab")}
    assert cohorts.seconds == 8 * 10


def price(containers, loads, batch, costs):
    """The cost model, said once more in its own words."""
    total = 0.0
    for container in set(containers.values()):
        group = {a: loads[a] for a, c in containers.items() if c == container}
        members = sum(load.members for load in group.values())
        each = sum(load.steps for load in group.values()) / members
        chunks = math.ceil(members / costs.chunk)
        full = chunks * costs.chunk / members
        total += costs.compile_seconds + chunks * each * costs.step_seconds
        for architecture, load in group.items():
            flops = batch * MLPS.flops(container, architecture)
            flops += UPDATE * MLPS.parameters(container)
            total += full * load.steps * flops / costs.flops_per_second
    return total


SHAPES = [net(*shape) for shape in itertools.product((1, 2, 3), (2, 4, 8))]
LOADS = st.dictionaries(
    st.sampled_from(SHAPES),
    st.builds(Load, st.integers(1, 40), st.integers(0, 10_000)),
    min_size=1,
)
COSTS = st.builds(
    Costs, st.floats(0.0, 30.0), st.sampled_from([1e5, 1e7, 1e9]), st.floats(0, 1e-3),
    st.sampled_from([1, 8, 16]),
)  # fmt: skip


@given(LOADS, st.integers(1, 64), COSTS)
def test_any_plan_covers_everyone_and_is_no_slower_than_apart(loads, batch, costs):
    containers, training, seconds, separate = plan_cohorts(MLPS, loads, batch, costs)
    assert set(containers) == set(loads)
    for architecture, container in containers.items():
        own = MLPS.contain(architecture)
        assert MLPS.cover(container, own) == container
    assert seconds <= separate * (1 + 1e-9)
    assert seconds == pytest.approx(sum(training.values()) + len(training) * costs.compile_seconds)
    assert seconds == pytest.approx(price(containers, loads, batch, costs))
    own = {architecture: MLPS.contain(architecture) for architecture in loads}
    assert separate == pytest.approx(price(own, loads, batch, costs))


@given(LOADS, st.integers(1, 64), COSTS)
def test_no_two_programs_of_a_plan_are_better_merged(loads, batch, costs):
    containers, _, seconds, _ = plan_cohorts(MLPS, loads, batch, costs)
    for a, b in itertools.combinations(set(containers.values()), 2):
        both = MLPS.cover(a, b)
        merged = {k: both if c in (a, b) else c for k, c in containers.items()}
        assert price(merged, loads, batch, costs) >= seconds * (1 - 1e-9)


def test_place_finds_the_cheapest_container_that_covers():
    planned = {net(1, 2): Box(1, 4), net(2, 8): Box(2, 8), net(3, 8): Box(3, 8)}
    assert place(MLPS, planned, net(1, 2)) == Box(1, 4), "as planned"
    assert place(MLPS, planned, net(1, 4)) == Box(1, 4)
    assert place(MLPS, planned, net(1, 8)) == Box(2, 8)
    assert place(MLPS, planned, net(2, 2)) == Box(2, 8)
    assert place(MLPS, planned, net(3, 4)) == Box(3, 8)
    assert place(MLPS, {net(1, 2): Box(1, 4)}, net(2, 2)) == Box(2, 2), "its own, if none covers"
    assert place(MLPS, {}, net(3, 8)) == Box(3, 8)
    # The plan counts, even where something cheaper is planned for others.
    assert place(MLPS, {net(1, 2): Box(3, 8), net(1, 4): Box(1, 4)}, net(1, 2)) == Box(3, 8)


def test_place_without_covers_gives_each_its_own():
    planned = {bar(2): 2, bar(3): 3}
    assert [place(APART, planned, bar(size)) for size in (1, 2, 3, 4)] == [1, 2, 3, 4]


def test_hundreds_of_architectures_are_planned_at_once():
    many = space.Space(
        depth=space.structure(*range(1, 9)), width=space.structure(*range(8, 257, 8))
    )
    family = mlp(many, 64, 10)
    loads = {net(d, w): Load(1, 500) for d in range(1, 9) for w in range(8, 257, 8)}
    cohorts = plan_cohorts(family, loads, 64, Costs())
    assert len(cohorts.containers) == 256 > len(set(cohorts.containers.values()))
    assert cohorts.seconds < cohorts.separate
