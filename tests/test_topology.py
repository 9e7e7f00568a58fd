import jax
import numpy as np
import pytest
from conftest import make_frame
from hypothesis import given
from hypothesis import strategies as st

import swarmjax as sj
from swarmjax import dealing, topology
from swarmjax.links import parse_policy
from swarmjax.types import InputError

KEY = jax.random.key(0)


# Few sizes, of which each is compiled.
@given(st.sampled_from([1, 2, 7, 60]), st.integers(1, 60))
def test_demes_are_blocks_as_even_as_can_be(members, demes):
    found = np.asarray(topology.deme_of(members, demes))
    assert (np.diff(found) >= 0).all() and found[0] == 0
    counts = np.bincount(found, minlength=demes)
    assert len(counts) == demes and np.ptp(counts) <= 1


def test_demes_are_where_islands_begin_if_they_are_as_many():
    for members, demes in ((12, 3), (1_000_000, 64)):
        wanted = dealing.blocks(members, demes)
        np.testing.assert_array_equal(topology.deme_of(members, demes), wanted)


def test_routes():
    assert topology.ring(KEY, 0, 4).tolist() == [3, 0, 1, 2]
    assert topology.star(KEY, 0, 4).tolist() == [1, 0, 0, 0]
    assert topology.star(KEY, 4, 4).tolist() == [2, 0, 0, 0]
    for seed in range(20):
        route = topology.random(jax.random.key(seed), 0, 5)
        assert (route != np.arange(5)).all() and ((route >= 0) & (route < 5)).all()


def test_the_best_of_a_deme_replaces_the_worst_of_the_next(decide):
    # Two demes of three; the better one has nothing to gain from the other.
    frame = make_frame([0.9, 0.8, 0.7, 0.3, 0.1, 0.2], round=4)
    plan = decide(sj.migrate(2, every=2), frame)
    assert plan.parent.tolist() == [0, 1, 2, 3, 0, 5]
    for name, values in frame.genome.items():
        assert plan.genome[name][4] == values[0]


def test_several_elites_meet_the_worst_in_order(decide):
    frame = make_frame([0.9, 0.8, 0.7, 0.6, 0.1, 0.2, 0.3, 0.4], round=1)
    plan = decide(sj.migrate(2, every=1, elites=2), frame)
    assert plan.parent.tolist() == [0, 1, 2, 3, 0, 1, 6, 7]
    # At most half of a deme arrives.
    plan = decide(sj.migrate(2, every=1, elites=9), frame)
    assert plan.parent.tolist() == [0, 1, 2, 3, 0, 1, 6, 7]


def test_the_dead_come_first_and_send_nobody(decide):
    frame = make_frame([0.9, 0.8, 0.1, 0.2], alive=[True, False, True, True], round=1)
    plan = decide(sj.migrate(2, every=1), frame)
    assert plan.parent.tolist() == [0, 2 + 1, 0, 3]
    # Of a deme without anyone alive nobody comes; it takes who is sent.
    nobody = make_frame([0.9, 0.8, 0.1, 0.2], alive=[False, False, True, True], round=1)
    plan = decide(sj.migrate(2, every=1), nobody)
    assert plan.parent[2:].tolist() == [2, 3] and (plan.parent[:2] == 3).sum() == 1


@pytest.mark.parametrize(
    ("round", "moves"), [(0, False), (1, False), (3, True), (4, False), (6, True)]
)
def test_elites_travel_every_so_many_rounds(decide, round, moves):
    frame = make_frame([0.9, 0.8, 0.1, 0.2], round=round)
    plan = decide(sj.migrate(2, every=3), frame)
    assert (plan.parent != np.arange(4)).any() == moves


def test_fewer_members_than_demes_stay_where_they_are(decide):
    assert decide(sj.migrate(4, every=1), make_frame([0.1, 0.9])).parent.tolist() == [0, 1]


@pytest.mark.parametrize("name", topology.TOPOLOGIES)
def test_compiled_as_plain(name, frames, assert_jit_agrees):
    assert_jit_agrees(sj.migrate(2, name, every=1), frames)


def test_selection_within_demes_lets_nobody_out(decide):
    frame = make_frame([0.9, 0.8, 0.7, 0.1, 0.2, 0.3], round=1)
    plan = decide(sj.niches("slot", bins=2, fraction=0.34), frame)
    assert plan.parent.tolist() == [0, 1, 0, 5, 4, 5]


def test_written_as_text():
    made = parse_policy("niches('slot', bins=4), migrate(4, topology='star', every=2), softmax")
    assert "migrate(4, topology='star', every=2, elites=1)" in made.name


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"demes": 1}, "demes that is a whole number >= 2"),
        ({"demes": 2, "every": 0}, "every that is a whole number >= 1"),
        ({"demes": 2, "elites": 1.5}, "elites that is a whole number >= 1"),
        ({"demes": 2, "topology": "torus"}, "no topology 'torus'; known: ring, star, random"),
    ],
)
def test_what_cannot_be_is_refused(given, fault):
    with pytest.raises(InputError, match=fault):
        sj.migrate(**given)
