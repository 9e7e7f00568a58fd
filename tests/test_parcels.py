import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from swarmjax import parcels
from swarmjax.errors import InputError
from swarmjax.records import PART

kinds = st.sampled_from(["float16", "float32", "float64", "int32", "int64", "bool", ">f4"])
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)


@given(st.dictionaries(st.sampled_from(["0.weight", "Dense_0/kernel"]), hnp.arrays(kinds, shapes)))
def test_weights_come_back_bit_for_bit(arrays):
    parts = parcels.write_weights(arrays)
    again = parcels.read_weights(parts, {path: array.shape for path, array in arrays.items()})
    assert list(again) == list(arrays)
    for path, array in arrays.items():
        assert again[path].dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(again[path], array)
        again[path][...] = 0


def test_large_weights_come_in_parts():
    arrays = {"w": np.arange(300_000, dtype=np.float32), "v": np.float64(2.0)}
    parts = parcels.write_weights(arrays)
    assert [len(part) <= PART for part in parts] == [True] * 3
    again = parcels.read_weights(parts, {"w": [300_000], "v": []})
    np.testing.assert_array_equal(again["w"], arrays["w"])


def test_other_shapes_and_paths_are_refused():
    parts = parcels.write_weights({"w": np.zeros((2, 3))})
    for wanted in ({"w": (3, 2)}, {"v": (2, 3)}, {}, {"w": (2, 3), "v": ()}):
        with pytest.raises(InputError, match="another architecture"):
            parcels.read_weights(parts, wanted)


@pytest.mark.parametrize(
    "tensor",
    [
        ["float32", [2], b"1234"],
        ["float32", [2**31 - 1] * 8, b""],
        ["object", [1], b"12345678"],
        ["float32", [1], b"1234", "more"],
        ["float32", [-1], b""],
        "float32",
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(tensor):
    blob = msgspec.msgpack.encode({"w": tensor})
    shape = tensor[1] if isinstance(tensor, list) else [1]
    with pytest.raises(InputError, match="refused"):
        parcels.read_weights([blob], {"w": shape})


def test_what_could_not_be_read_is_not_sent():
    for bad in ({"w": np.array(["text"])}, {"../w": np.zeros(1)}, {"w": np.zeros(1, complex)}):
        with pytest.raises(InputError, match="to be sent"):
            parcels.write_weights(bad)


def test_missing_parts_are_refused():
    parts = parcels.write_weights({"w": np.zeros(200_000)})
    with pytest.raises(InputError, match="refused"):
        parcels.read_weights(parts[:-1], {"w": (200_000,)})


def test_parts_are_put_together_in_any_order():
    collector, full = parcels.Collector(), bytes(PART)
    assert collector.add(1, 2, 3, b"end") is None
    assert collector.add(1, 0, 3, full) is None
    assert collector.add(1, 0, 3, full) is None
    assert collector.add(1, 1, 3, full) == [full, full, b"end"]
    # A newer parcel replaces one that never became complete, and an older one is too late.
    assert collector.add(2, 1, 2, b"two") is None
    assert collector.add(3, 1, 2, b"three") is None
    assert collector.add(2, 0, 2, full) is None
    assert collector.add(3, 0, 2, full) == [full, b"three"]


@pytest.mark.parametrize(
    ("part", "parts", "data"),
    [(1, 1, b""), (0, 10**6, bytes(PART)), (0, 2, b"short"), (1, 2, bytes(PART + 1))],
)
def test_parts_that_cannot_be_are_refused(part, parts, data):
    with pytest.raises(InputError, match="refused"):
        parcels.Collector().add(1, part, parts, data)
