import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmjax import clock
from swarmjax.clock import Exchange, Reading
from swarmjax.errors import InputError

MILLISECOND, SECOND = 10**6, 10**9


class Skewed:
    """A node's clock that runs ahead of the true time and drifts; both of them in nanoseconds."""

    def __init__(self, ahead, drift):
        self.ahead, self.drift = ahead, drift

    def __call__(self, true):
        return true + self.ahead + int(true * self.drift)

    def offset(self, true):
        return true - self(true)


def exchange(node, start, up, hold, down):
    """What both clocks show of a message sent at the true time `start`."""
    arrived, left, back = start + up, start + up + hold, start + up + hold + down
    return Exchange(node(start), arrived, left, node(back)), back


def test_symmetric_ways_give_the_offset_exactly():
    # 100 ahead: 10 there, 5 held, 10 back.
    one = Exchange(sent=1100, received=1010, answered=1015, returned=1125)
    assert clock.estimate([one], now=1125) == (-100, 12)


def test_the_bound_grows_by_a_quarter_of_a_millisecond_in_a_second():
    one = Exchange(0, 2 * MILLISECOND, 2 * MILLISECOND, 4 * MILLISECOND)
    young = clock.estimate([one], now=4 * MILLISECOND)
    old = clock.estimate([one], now=4 * MILLISECOND + 2 * SECOND)
    assert young.offset == old.offset == 0
    assert young.bound == 2 * MILLISECOND + 1000 + 2
    assert old.bound - young.bound == SECOND // 2000


def test_the_shortest_way_wins_until_it_is_too_old():
    short = Exchange(0, MILLISECOND, MILLISECOND, 2 * MILLISECOND)
    later = 20 * SECOND
    long = Exchange(
        later, later + 3 * MILLISECOND, later + 3 * MILLISECOND, later + 8 * MILLISECOND
    )
    assert clock.estimate([short, long], now=long.returned).offset == -MILLISECOND
    assert clock.estimate([short], now=long.returned).offset == 0
    # Of the same age the shorter one is better.
    quick = Exchange(later, later, later, later + 2 * MILLISECOND)
    assert clock.estimate([long, quick], now=long.returned).offset == -MILLISECOND
    assert clock.estimate([], now=0) is None


delays = st.integers(0, 300 * MILLISECOND)


@given(
    ahead=st.integers(0, 10 * SECOND),
    drift=st.floats(-249e-6, 249e-6),
    times=st.lists(st.tuples(st.integers(0, 20 * SECOND), delays, delays, delays), min_size=1),
    wait=st.integers(0, 100 * SECOND),
)
def test_the_true_offset_is_within_the_bound_whatever_the_delays(ahead, drift, times, wait):
    node, now, kept = Skewed(ahead, drift), 1000 * SECOND, []
    for pause, *way in times:
        one, now = exchange(node, now + pause, *way)
        kept.append(clock.check_exchange(one))
    now += wait
    known = clock.estimate(kept[-clock.KEPT :], node(now))
    assert abs(known.offset - node.offset(now)) <= known.bound


def test_a_clock_that_drifts_more_than_is_assumed_leaves_the_bound():
    node = Skewed(0, 1e-3)
    one, back = exchange(node, 1000 * SECOND, 1000, 0, 1000)
    known = clock.estimate([one], node(back + 10 * SECOND))
    assert abs(known.offset - node.offset(back + 10 * SECOND)) > known.bound


def test_a_stamp_keeps_the_wall_time_and_says_what_to_add():
    known = clock.Estimate(offset=5000, bound=7)
    made = clock.stamp(Reading(wall=900, monotonic=100), known)
    assert made == (900, 100, 4200, 7)
    assert made.corrected == 5100
    # The wall clock was set back by 600 between two readings 50 apart.
    assert clock.stamp(Reading(wall=350, monotonic=150), known).corrected == 5150
    unknown = clock.stamp(Reading(wall=900, monotonic=100), None)
    assert (unknown.clock_offset, unknown.clock_bound, unknown.corrected) == (0, -1, 900)


@pytest.mark.parametrize(
    "impossible",
    [
        Exchange(10, 5, 6, 9),
        Exchange(10, 6, 5, 12),
        Exchange(-1, 5, 6, 9),
        Exchange(0, 5, 2**63, 9),
    ],
)
def test_impossible_exchanges_are_refused(impossible):
    with pytest.raises(InputError, match="not used"):
        clock.check_exchange(impossible)


def test_the_controller_goes_on_by_its_monotonic_clock():
    readings = iter([Reading(1000, 10), Reading(5, 30)])
    assert clock.controller_clock(lambda: next(readings))() == 1020


def test_clocks_are_read_in_nanoseconds():
    before = time.time_ns(), time.monotonic_ns()
    reading = clock.read()
    after = time.time_ns(), time.monotonic_ns()
    assert before[0] <= reading.wall <= after[0]
    assert before[1] <= reading.monotonic <= after[1]


def test_two_clocks_that_both_know_utc_know_each_other():
    node, controller = clock.Estimate(offset=500, bound=30), clock.Estimate(offset=200, bound=40)
    # The node is 500 behind UTC, the controller 200: the node is 300 behind the controller.
    assert clock.between(node, controller, age=0) == (300, 71)
    assert clock.between(node, controller, age=4 * SECOND) == (300, 71 + MILLISECOND)
    assert clock.between(None, controller, 0) is clock.between(node, None, 0) is None


@given(
    ahead=st.integers(-10 * SECOND, 10 * SECOND), other=st.integers(-SECOND, SECOND),
    errors=st.tuples(st.integers(-50, 50), st.integers(-50, 50)),
)  # fmt: skip
def test_what_is_known_by_way_of_utc_holds_if_both_do(ahead, other, errors):
    node = clock.Estimate(ahead + errors[0], 50)
    controller = clock.Estimate(other + errors[1], 50)
    found = clock.between(node, controller, 0)
    assert abs(found.offset - (ahead - other)) <= found.bound


def test_the_surer_of_two_estimates_is_taken():
    sure, unsure = clock.Estimate(5, 10), clock.Estimate(9, 100)
    assert clock.best(unsure, None, sure) == sure
    assert clock.best(None, None) is None


def test_a_server_that_is_unsure_of_itself_widens_the_bound():
    exchange = Exchange(0, MILLISECOND, MILLISECOND, 2 * MILLISECOND)
    now = exchange.returned
    alone, wider = (
        clock.by_samples([clock.Sample(exchange, error)], now) for error in (0, 7 * MILLISECOND)
    )
    assert alone == clock.estimate([exchange], now)
    assert wider == (alone.offset, alone.bound + 7 * MILLISECOND)
    assert clock.by_samples([], now) is None
