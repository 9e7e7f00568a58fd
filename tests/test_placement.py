from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmjax import placement
from swarmjax.placement import Layout


def layout(groups, chunk=2, chunks=2, share=1):
    mesh = placement.make_mesh(share, jax.devices()[: groups * share])
    return Layout(mesh, chunk, chunks)


def job(steps, flops, device, how, slots=None):
    steps = np.asarray(steps)
    slots = np.arange(len(steps)) if slots is None else slots
    flops = np.broadcast_to(np.asarray(flops, float), steps.shape)
    return placement.Job(how, slots, steps, flops, np.broadcast_to(device, steps.shape))


def test_like_grants_share_a_chunk_and_the_longest_chunk_goes_first():
    asked = job([50, 90, 1, 70, 3, 80, 2], 1.0, 0, layout(2, chunks=3), np.arange(7) + 10)
    ((lane,),), load = placement.schedule([asked], 2)
    # by grant: 1 5 | 3 0 | 4 6 | 2; all that is shorter than the first chunk is so together too
    assert lane.tolist() == [[11, 15, -1, -1, -1, -1], [13, 10, 14, 16, 12, -1]]
    # two places each, and a step for the evaluation
    assert load.tolist() == [2 * 91, 2 * (71 + 4 + 2)]


def test_among_like_grants_like_depths_share_a_chunk():
    asked = job([95, 96, 97, 94], [1.0, 4.0, 1.0, 4.0], 0, layout(1))
    ((chunks, _),), _ = placement._place([asked], np.zeros(1))
    assert [chunk.tolist() for chunk in chunks] == [[1, 3], [0, 2]]


def test_members_stay_at_home_unless_that_takes_longer():
    home = np.asarray([0, 1, 0, 1, 0, 1, 0, 1])
    ((chunks, group),), _ = placement._place([job([10] * 8, 1.0, home, layout(2))], np.zeros(2))
    assert all((home[chunk] == g).all() for chunk, g in zip(chunks, group, strict=True))
    ((_, group),), _ = placement._place([job([10] * 8, 1.0, 0, layout(2))], np.zeros(2))
    assert sorted(group.tolist()) == [0, 0, 1, 1]


def test_a_second_job_goes_where_the_first_left_room():
    first, second = job([90, 90], 1.0, 0, layout(2)), job([40, 40], 1.0, 0, layout(2))
    lanes, load = placement.schedule([first, second], 2)
    assert lanes[0][0].tolist() == [[0, 1, -1, -1], [-1] * 4]
    assert lanes[1][0].tolist() == [[-1] * 4, [0, 1, -1, -1]]
    assert load.tolist() == [182, 82] and placement.balance(load) == 132 / 182


def test_a_lane_takes_as_long_as_its_busiest_group():
    steps = np.array([[9, 4, 0, 0], [1, 0, 2, 2]])
    seconds = np.array([[1.0, 3.0, 0.0, 0.0], [2.0, 2.0, 5.0, 1.0]])
    # Ten steps as slow as 3; against two of 2 and three of 5. An empty chunk costs nothing.
    assert placement.lane_seconds(layout(2), steps, seconds) == 30.0
    assert placement.lane_seconds(layout(2), steps, seconds * [[0.1], [1.0]]) == 2 * 2 + 3 * 5


def test_members_that_share_a_batch_load_every_device_of_their_group():
    wide = job([7, 7, 7], 8.0, 0, layout(2, chunk=1, share=2))
    narrow = job([100, 100], 8.0, 3, layout(4))
    lanes, load = placement.schedule([narrow, wide], 4)
    assert lanes[0][0].shape == (4, 4) and lanes[1][0].shape == (2, 2)
    # two of the three wide ones on the first pair of devices, and the narrow chunk at home
    assert load.tolist() == [64, 64, 32, 32 + 2 * 101 * 8]


SIZES = st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 8]), st.sampled_from([1, 4]))


@given(st.lists(st.integers(0, 500), min_size=1, max_size=80), SIZES, st.integers(0, 2**31))
def test_everyone_is_in_one_lane_once(steps, sizes, seed):
    rng = np.random.default_rng(seed)
    slots = rng.permutation(1000)[: len(steps)]
    how = layout(sizes[0], *sizes[1:])
    home = rng.integers(0, sizes[0], len(steps))
    asked = job(steps, rng.uniform(1, 9, len(steps)), home, how, slots)
    (lanes,), load = placement.schedule([asked], sizes[0])
    assert all(lane.shape == (how.groups, how.chunk * how.chunks) for lane in lanes)
    found = np.concatenate([lane.ravel() for lane in lanes])
    assert sorted(found[found >= 0].tolist()) == sorted(slots.tolist())
    for lane in lanes:
        used = (lane.reshape(how.groups, how.chunks, how.chunk) >= 0).any(axis=2)
        # Chunks in use come first: a program walks through so many of them.
        assert (np.diff(used.astype(int), axis=1) <= 0).all() and used.any()
    assert 0 < load.max() <= load.sum()


@given(st.integers(0, 2**31))
def test_longest_first_is_within_its_bound(seed):
    rng = np.random.default_rng(seed)
    work, groups = rng.exponential(1.0, rng.integers(1, 40)), int(rng.integers(1, 9))
    group, load = placement._longest_first(work, np.zeros(groups))
    assert np.allclose(np.bincount(group, work, groups), load)
    assert load.max() <= work.sum() / groups + (1 - 1 / groups) * work.max() + 1e-9


def test_longest_first_is_exact_where_greedy_in_order_is_not():
    work = np.asarray([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    assert placement._longest_first(work, np.zeros(2))[1].tolist() == [6.0, 6.0]
    group, load = placement._longest_first(np.asarray([4.0, 3.0, 3.0]), np.asarray([0.0, 1.0]))
    assert group.tolist() == [0, 1, 0] and load.tolist() == [7.0, 4.0]


def test_chunks_are_exchanged_where_longest_first_is_not_best():
    """The textbook case: 3 3 | 2 2 2 is even, longest first gives 3 2 2 | 3 2."""
    work = np.asarray([3.0, 3.0, 2.0, 2.0, 2.0])
    group, load = placement._longest_first(work, np.zeros(2))
    assert sorted(load.tolist()) == [5.0, 7.0]
    group, load = placement._exchange(work, group, load)
    assert load.tolist() == [6.0, 6.0] and np.bincount(group, work).tolist() == [6.0, 6.0]


def test_random_costs_are_balanced_over_eight_devices():
    rng, seen = np.random.default_rng(0), []
    for _ in range(20):
        how, home = layout(8, chunk=8, chunks=4), np.arange(256) // 8 % 8
        jobs = [
            job(rng.integers(20, 200, n), rng.choice([1.0, 2.0, 3.0], n), home[:n], how)
            for n in np.bincount(rng.integers(0, 4, 256))
        ]
        jobs.sort(key=lambda j: -float(j.steps @ j.flops))
        seen.append(placement.balance(placement.schedule(jobs, 8)[1]))
    assert min(seen) >= 0.95, seen


def test_a_layout_has_room_for_its_members_up_to_a_bound():
    mesh = placement.make_mesh()
    assert placement.make_layout(1, mesh).chunks == 1
    assert placement.make_layout(64 * 3, mesh).chunks == 4
    assert placement.make_layout(10**6, mesh).chunks == 16
    # As many members as in chunks of eight, where they are shorter.
    layouts = [placement.make_layout(10**6, mesh, chunk) for chunk in (1, 2, 8, 64)]
    assert [layout.chunks for layout in layouts] == [128, 64, 16, 16]
    pairs = placement.make_layout(6, placement.make_mesh(2), chunk=1)
    assert (pairs.groups, pairs.share, pairs.chunks) == (4, 2, 2)


@pytest.mark.parametrize(
    ("count", "asked", "given"),
    [(8, [1, 2, 3, 4, 7, 8, 99], [1, 2, 2, 4, 4, 8, 8]), (6, [0, 2, 5], [1, 2, 3]), (1, [5], [1])],
)
def test_a_batch_is_shared_by_a_divisor_of_the_devices(count, asked, given):
    assert placement.shares(np.asarray(asked), count).tolist() == given


def test_a_chunk_is_what_the_cache_holds():
    sizes = [(2**10, 8), (2**18, 8), (2**18 + 1, 4), (2**20, 2), (2**21 - 1, 1)]
    usual = partial(placement.usual_chunk, platform="cpu", even=True, deep=False)
    assert [usual(state) for state, _ in sizes] == [chunk for _, chunk in sizes]
    assert placement.usual_chunk(2**30, "gpu", True, False) == 64


@pytest.mark.parametrize(
    ("state", "even", "deep", "chunk"),
    [
        (2**10, True, True, 8),
        (2**10, False, False, 2),
        (2**10, False, True, 1),
        (2**21, False, False, 1),
    ],
)
def test_a_chunk_is_short_where_it_would_wait_for_one_of_its_members(state, even, deep, chunk):
    assert placement.usual_chunk(state, "cpu", even, deep) == chunk
    assert placement.usual_chunk(state, "gpu", even, deep) == 64
    # What is usual may be tried, too, and nothing that would wait longer.
    assert chunk in (tried := placement.chunks("cpu", even, deep))
    assert even or max(tried) == (1 if deep else 2)
    assert 64 in placement.chunks("gpu", even, deep)
