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


def test_like_grants_share_a_chunk_and_the_longest_chunk_goes_first():
    steps = np.asarray([50, 90, 1, 70, 3, 80, 2])
    home = np.zeros(7, int)
    (lane,) = placement.make_lanes(np.arange(7) + 10, steps, np.ones(7), home, layout(2, chunks=3))
    # by grant: 1 5 | 3 0 | 4 6 | 2; all that is shorter than the first chunk is so together too
    assert lane.tolist() == [[11, 15, -1, -1, -1, -1], [13, 10, 14, 16, 12, -1]]


def test_among_like_grants_like_depths_share_a_chunk():
    flops = np.asarray([1.0, 4.0, 1.0, 4.0])
    chunks, _ = placement.place_chunks(
        np.asarray([100, 101, 102, 99]), flops, np.zeros(4, int), layout(1)
    )
    assert [chunk.tolist() for chunk in chunks] == [[1, 3], [0, 2]]


def test_members_stay_at_home_unless_that_takes_longer():
    steps, flops = np.full(8, 10), np.ones(8)
    home = np.asarray([0, 1, 0, 1, 0, 1, 0, 1])
    chunks, group = placement.place_chunks(steps, flops, home, layout(2))
    assert all((home[chunk] == g).all() for chunk, g in zip(chunks, group, strict=True))
    crowded = np.zeros(8, int)
    _, group = placement.place_chunks(steps, flops, crowded, layout(2))
    assert sorted(group.tolist()) == [0, 0, 1, 1]


SIZES = st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 8]), st.sampled_from([1, 4]))


@given(st.lists(st.integers(0, 500), min_size=1, max_size=80), SIZES, st.integers(0, 2**31))
def test_everyone_is_in_one_lane_once(steps, sizes, seed):
    rng = np.random.default_rng(seed)
    slots = rng.permutation(1000)[: len(steps)]
    how = layout(sizes[0], *sizes[1:])
    lanes = placement.make_lanes(
        slots, np.asarray(steps), rng.uniform(1, 9, len(steps)),
        rng.integers(0, sizes[0], len(steps)), how,
    )  # fmt: skip
    assert all(lane.shape == (how.groups, how.chunk * how.chunks) for lane in lanes)
    found = np.concatenate([lane.ravel() for lane in lanes])
    assert sorted(found[found >= 0].tolist()) == sorted(slots.tolist())
    for lane in lanes:
        used = (lane.reshape(how.groups, how.chunks, how.chunk) >= 0).any(axis=2)
        # Chunks in use come first: a program walks through so many of them.
        assert (np.diff(used.astype(int), axis=1) <= 0).all() and used.any()


@given(st.integers(0, 2**31))
def test_longest_first_is_within_its_bound_of_ideal(seed):
    rng = np.random.default_rng(seed)
    work, groups = rng.exponential(1.0, rng.integers(1, 40)), int(rng.integers(1, 9))
    group = placement._longest_first(work, groups)
    loads = np.bincount(group, work, groups)
    ordered = np.sort(work)[::-1]
    pair = ordered[groups - 1] + ordered[groups] if len(work) > groups else 0.0
    ideal = max(work.sum() / groups, work.max(), pair)
    assert (
        loads.max() <= (4 / 3 - 1 / (3 * groups)) * ideal * 1.0001 or loads.max() <= 4 / 3 * ideal
    )


def test_random_costs_are_balanced_over_eight_devices():
    rng = np.random.default_rng(0)
    for _ in range(20):
        steps, flops = rng.integers(20, 200, 256), rng.choice([1.0, 2.0, 3.0, 4.0], 256)
        home = np.arange(256) // 8 % 8
        assert placement.balance(steps, flops, home, layout(8, chunk=8, chunks=4)) >= 0.95


def test_a_layout_has_room_for_its_members_up_to_a_bound():
    mesh = placement.make_mesh()
    assert placement.make_layout(1, mesh).chunks == 1
    assert placement.make_layout(64 * 3, mesh).chunks == 4
    assert placement.make_layout(10**6, mesh).chunks == 16
    pairs = placement.make_layout(6, placement.make_mesh(2), chunk=1)
    assert (pairs.groups, pairs.share, pairs.chunks) == (4, 2, 2)


@pytest.mark.parametrize(
    ("count", "asked", "given"),
    [(8, [1, 2, 3, 4, 7, 8, 99], [1, 2, 2, 4, 4, 8, 8]), (6, [0, 2, 5], [1, 2, 3]), (1, [5], [1])],
)
def test_a_batch_is_shared_by_a_divisor_of_the_devices(count, asked, given):
    assert placement.shares(np.asarray(asked), count).tolist() == given
