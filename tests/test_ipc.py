import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmjax import ipc
from swarmjax.errors import InputError


def written(columns, **options):
    sink = pa.BufferOutputStream()
    rows = pa.table(columns)
    with pa.ipc.new_stream(sink, rows.schema, options=pa.ipc.IpcWriteOptions(**options)) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def example():
    numbers = {
        "step": np.arange(5, dtype=np.int32),
        "wall_ns": np.arange(5) * 10**18,
        "alive": np.array([True, False, True, True, False]),
        "train_loss": np.array([0.5, np.nan, 1, 2, 3], np.float32),
    }
    names = pa.DictionaryArray.from_arrays(
        ipc.column(np.array([0, 1, 0, 1, 1], np.int32)), ipc.texts(["relu", "ünter"])
    )
    return ipc.table(numbers | {"activation": names, "text": ipc.texts("abcde")})


def test_a_table_reads_back_as_it_was():
    rows = example()
    again = ipc.from_bytes(ipc.to_bytes(rows), most_rows=5)
    assert again.schema == rows.schema
    assert again.to_pydict() | {"train_loss": 0} == rows.to_pydict() | {"train_loss": 0}
    np.testing.assert_array_equal(again["train_loss"], [0.5, np.nan, 1, 2, 3])


def test_more_rows_than_allowed_are_refused():
    blob = ipc.to_bytes(example())
    with pytest.raises(InputError, match="more than 4 rows"):
        ipc.from_bytes(blob, most_rows=4)


@pytest.mark.parametrize("method", ["lz4", "zstd"])
def test_compressed_tables_are_refused_before_they_are_unpacked(method):
    zeros = written({"x": np.zeros(10_000_000)}, compression=method)
    assert len(zeros) < 1_000_000
    before = pa.total_allocated_bytes()
    with pytest.raises(InputError, match="compressed"):
        ipc.from_bytes(zeros, most_rows=10**9)
    assert pa.total_allocated_bytes() - before < 10_000_000


def test_compressed_dictionaries_are_refused():
    words = pa.array(["a" * 1000] * 3 + ["b" * 1000]).dictionary_encode()
    blob = written({"x": words.cast(ipc._TEXT)}, compression="zstd")
    with pytest.raises(InputError, match="compressed"):
        ipc.from_bytes(blob, most_rows=9)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"x": [[1, 2]]}, "has type list"),
        ({"x": [{"a": 1}]}, "has type struct"),
        ({"x": [b"bytes"]}, "has type binary"),
        ({"": [1]}, "column called ''"),
        ({"a\nb": [1]}, "column called 'a b'"),
        ({"x" * 257: [1]}, "column called"),
        ({f"c{i}": [1] for i in range(1025)}, "1025 columns"),
    ],
)
def test_strange_columns_are_refused(columns, reason):
    with pytest.raises(InputError, match=reason) as caught:
        ipc.from_bytes(written(columns), most_rows=9)
    assert "\n" not in str(caught.value)


def test_two_columns_of_one_name_are_refused():
    twice = pa.table([pa.array([1]), pa.array([2])], names=["x", "x"])
    with pytest.raises(InputError, match="two columns"):
        ipc.from_bytes(ipc.to_bytes(twice), most_rows=9)


@pytest.mark.parametrize("blob", [b"", b"\0" * 40, b"\xff\xff\xff\xff\0\0\0\0", b"\xff" * 64, b"x"])
def test_what_is_no_table_is_refused(blob):
    with pytest.raises(InputError, match="a table"):
        ipc.from_bytes(blob, most_rows=9)


GOOD = ipc.to_bytes(example())


@settings(max_examples=600)
@given(st.data())
def test_damaged_bytes_are_read_or_refused_in_one_line(data):
    blob = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(blob) - 1))
        blob[place] = data.draw(st.integers(0, 255))
    blob = bytes(blob[: data.draw(st.integers(0, len(blob)))]) if data.draw(st.booleans()) else blob
    try:
        rows = ipc.from_bytes(bytes(blob), most_rows=100)
    except InputError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 400
    else:
        # What is read can be looked at to the last value.
        assert len(rows.to_pydict()) == len(rows.schema)


@pytest.mark.parametrize("kind", [bool, np.int32, np.int64, np.float16, np.float32])
def test_numbers_are_read_as_they_were_written(kind):
    values = np.arange(23) % 3 == 0 if kind is bool else np.arange(23).astype(kind)
    column = ipc.column(values)
    pieces = pa.chunked_array([column[:5], column[5:5], column[5:]])
    for made in (column, pieces):
        np.testing.assert_array_equal(ipc.numbers(made), values, strict=True)
        np.testing.assert_array_equal(ipc.numbers(made[3:11]), values[3:11], strict=True)
    np.testing.assert_array_equal(ipc.numbers(pieces[:0]), values[:0], strict=True)
