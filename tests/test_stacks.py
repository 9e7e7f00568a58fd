import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmjax import placement, stacks
from swarmjax.members import Member

MESHES = {(d, k): placement.make_mesh(k, jax.devices()[:d]) for d, k in ((1, 1), (4, 1), (4, 2))}
ROWS = 40


def value(rows):
    """What row `r` holds; row 0 holds a negative zero, whose sign must survive."""
    rows = np.asarray(rows)
    weights = np.stack([rows * 1.5, -rows * 0.0], axis=-1).astype(np.float32)
    flags = (rows % 3 == 0)[..., None]
    return Member({"params": weights, "seen": flags}, {"m": -weights}, rows.astype(np.int32))


def filled(mesh, host):
    plain = placement.make_mesh(1, list(mesh.devices.flat))
    devices = plain.size
    each = -(-ROWS // devices)
    rows = np.full((devices, ROWS), -1, np.int32)
    for device in range(devices):
        mine = [r for r in range(ROWS) if stacks.device_of(r, devices) == device]
        rows[device, : len(mine)] = mine
    stack = stacks.new_stack(value(rows), plain, ROWS, host)
    assert stacks.rows_of(stack) >= ROWS and each
    return stacks.put(stack, plain, rows, value(rows), near=True)


def equal(a, b):
    def exactly(x, y):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()

    jax.tree.map(exactly, jax.tree.map(np.asarray, a), b)


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("mesh", MESHES.values(), ids=map(str, MESHES))
@given(seed=st.integers(0, 10**6))
def test_any_row_can_be_taken_to_and_put_from_any_group(mesh, host, seed):
    rng = np.random.default_rng(seed)
    stack, groups = filled(mesh, host), mesh.shape["member"]
    rows = rng.permutation(ROWS)[: groups * 5].reshape(groups, 5).astype(np.int32)
    taken = stacks.take(stack, mesh, rows, near=False)
    equal(taken, value(rows))
    target = rng.permutation(rows.ravel()).reshape(rows.shape)
    target[0, 0] = -1
    stack = stacks.put(stack, mesh, target, taken, near=False)
    everyone = np.broadcast_to(np.arange(ROWS, dtype=np.int32), (groups, ROWS))
    held = np.arange(ROWS)
    held[target[target >= 0]] = rows[target >= 0]
    after = stacks.take(stack, mesh, everyone, near=False)
    equal(after, value(np.broadcast_to(held, (groups, ROWS))))


@pytest.mark.parametrize("host", [False, True])
@pytest.mark.parametrize("mesh", MESHES.values(), ids=map(str, MESHES))
def test_members_at_home_need_not_be_sent(mesh, host):
    stack, share = filled(mesh, host), mesh.shape["batch"]
    groups = [
        [r for r in range(ROWS) if stacks.device_of(r, mesh.size) // share == group][:6]
        for group in range(mesh.shape["member"])
    ]
    rows = np.asarray(groups, np.int32)
    equal(stacks.take(stack, mesh, rows, near=True), value(rows))
    stack = stacks.put(stack, mesh, rows, value(rows + 100), near=True)
    equal(stacks.take(stack, mesh, rows, near=False), value(rows + 100))


@pytest.mark.parametrize("host", [False, True])
def test_rows_stay_where_they_are_when_a_stack_grows(host):
    mesh = MESHES[4, 1]
    stack = stacks.grow(filled(mesh, host), 200)
    assert stacks.rows_of(stack) >= 200 and stacks.on_host(stack) == host
    rows = np.arange(ROWS, dtype=np.int32).reshape(4, 10)
    equal(stacks.take(stack, mesh, rows, near=False), value(rows))


def test_blocks_of_rows_go_to_the_devices_in_turn():
    assert [stacks.device_of(r, 3) for r in (0, 7, 8, 16, 23, 24)] == [0, 0, 1, 2, 2, 0]
    assert [stacks.room(rows, 2) for rows in (1, 16, 17, 33)] == [8, 8, 16, 24]


def test_lanes_of_members_at_home_by_hand():
    """Rows 0 to 7 and 16 to 23 are the first device's, 8 to 15 the second's."""
    lanes = list(stacks.home_lanes(np.asarray([3, 9, 16, 0, 8, 7]), 2, 2))
    np.testing.assert_array_equal(lanes, [[[0, 2], [1, 4]], [[3, 5], [-1, -1]]])


@given(st.sets(st.integers(0, 99), min_size=1), st.integers(1, 4), st.integers(1, 5))
def test_every_member_is_in_one_lane_at_home_and_lanes_are_few(rows, devices, lane):
    rows = np.asarray(sorted(rows))
    lanes = np.asarray(list(stacks.home_lanes(rows, devices, lane)))
    assert lanes.shape[1:] == (devices, lane)
    assert sorted(lanes[lanes >= 0]) == list(range(len(rows)))
    _, device, _ = np.nonzero(lanes >= 0)
    home = stacks.device_of(rows, devices)
    np.testing.assert_array_equal(home[lanes[lanes >= 0]], device)
    assert len(lanes) == -(-np.bincount(home).max() // lane)


def test_a_stack_stays_in_the_name_of_its_own_mesh():
    """Groups of two devices write into it, and later programs see no difference."""
    stack, pairs = filled(MESHES[4, 1], host=False), MESHES[4, 2]
    before = jax.tree.map(lambda leaf: leaf.sharding, stack)
    rows = np.asarray([[0, 1], [17, -1]], np.int32)
    after = stacks.put(stack, pairs, rows, stacks.take(stack, pairs, rows, True), near=True)
    assert jax.tree.map(lambda leaf: leaf.sharding, after) == before
    equal(after, filled(MESHES[4, 1], host=False))
