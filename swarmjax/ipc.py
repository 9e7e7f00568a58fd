"""Tables as bytes and back: Arrow's stream format, and what may arrive in it from outside."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from swarmjax.errors import InputError, one_line

# Of a table from outside. A column's name is also shown to people.
MOST_COLUMNS, LONGEST_NAME = 1024, 256
_TEXT, _LIST = pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.float32())
_PLAIN = (pa.bool_(), pa.int32(), pa.int64(), pa.float16(), pa.float32(), pa.float64(), pa.string())


def column(values: Any) -> pa.Array:
    """Numbers or booleans as an Arrow array, made from their memory.

    `pa.array` would import pandas, which takes half a second.
    """
    if isinstance(values, pa.Array):
        return values
    values = np.ascontiguousarray(values)
    memory = np.packbits(values, bitorder="little") if values.dtype == bool else values
    kind = pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(memory)])


def numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Numbers or booleans of a column without gaps `[n]`, from its memory.

    `to_numpy` would import pandas too.
    """
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return np.concatenate([np.empty(0, _kind(column)), *map(_numbers, chunks)])


def _kind(column: pa.Array | pa.ChunkedArray) -> np.dtype:
    return np.dtype(column.type.to_pandas_dtype())


def _numbers(chunk: pa.Array) -> np.ndarray:
    memory, first, end = chunk.buffers()[1], chunk.offset, chunk.offset + len(chunk)
    if memory is None:
        return np.empty(0, _kind(chunk))
    if chunk.type == pa.bool_():
        bits = np.frombuffer(memory, np.uint8)
        return np.unpackbits(bits, count=end, bitorder="little")[first:].astype(bool)
    return np.frombuffer(memory, _kind(chunk), end)[first:]


def texts(values: Iterable[str]) -> pa.Array:
    """Texts as an Arrow array."""
    encoded = [text.encode() for text in values]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(encoded), buffers)


def table(columns: Mapping[str, Any]) -> pa.Table:
    """The table of arrays `[n, ...]` by name."""
    return pa.table({name: column(values) for name, values in columns.items()})


def to_bytes(rows: pa.Table) -> bytes:
    """A table as a stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_table(rows)
    return sink.getvalue().to_pybytes()


def from_bytes(blob: bytes, *, most_rows: int, lists: bool = False) -> pa.Table:
    """The table that `to_bytes` wrote, whoever says so; not larger in memory than the bytes are.

    Columns may be numbers, booleans and texts, or with `lists` lists of float32.

    Raises:
        InputError: they are no such stream, or one with other types, too many rows or columns,
            compressed parts, or contents that do not fit together.
    """
    try:
        _refuse_compressed(blob)
        with pa.ipc.open_stream(blob) as stream:
            _check_schema(stream.schema, lists)
            batches, rows = [], 0
            for batch in stream:
                rows += batch.num_rows
                if rows > most_rows:
                    raise InputError(f"a table has more than {most_rows} rows; it is not read")
                batches.append(batch)
            found = pa.Table.from_batches(batches, stream.schema)
        found.validate(full=True)
    except InputError:
        raise
    # Beside Arrow's own errors: text that is no text, and offsets out of the bytes.
    except (pa.ArrowException, ValueError, OSError, EOFError, struct.error, TypeError) as error:
        raise InputError(f"a table cannot be read: {one_line(error)}") from None
    return found


def _check_schema(schema: pa.Schema, lists: bool) -> None:
    if len(schema) > MOST_COLUMNS:
        raise InputError(f"a table has {len(schema)} columns; at most {MOST_COLUMNS} are read")
    if len(set(schema.names)) != len(schema):
        raise InputError("a table has two columns of one name; it is not read")
    for field in schema:
        if not 0 < len(field.name) <= LONGEST_NAME or not field.name.isprintable():
            raise InputError(
                f"a table has a column called {one_line(field.name)!r}; it is not read"
            )
        if field.type not in (*_PLAIN, _TEXT, *([_LIST] if lists else [])):
            raise InputError(
                f"column {one_line(field.name)!r} has type {one_line(field.type)}; not read"
            )


def _refuse_compressed(blob: bytes) -> None:
    """Compressed parts could be a thousand times as large in memory: nobody here writes them."""
    reader = pa.ipc.MessageReader.open_stream(blob)
    while True:
        try:
            message = reader.read_next_message()
        except StopIteration:
            return
        if message.type != "schema" and _compressed(message.metadata.to_pybytes(), message.type):
            raise InputError("a table has compressed parts; it is not read")


def _compressed(metadata: bytes, kind: str) -> bool:
    """Whether a batch names a compression, by the flatbuffer that describes it.

    Field numbers are those of Arrow's `Message.fbs`; pyarrow has checked the buffer.
    """
    batch = _child(metadata, struct.unpack_from("<I", metadata)[0], 2)
    if kind == "dictionary":
        batch = _child(metadata, batch, 1)
    return _field(metadata, batch, 3) > 0


def _child(buffer: bytes, position: int, number: int) -> int:
    place = position + _field(buffer, position, number)
    return place + struct.unpack_from("<I", buffer, place)[0]


def _field(buffer: bytes, position: int, number: int) -> int:
    """Where a field lies from its table's start on; 0 if it is not there."""
    types = position - struct.unpack_from("<i", buffer, position)[0]
    if types < 0 or position < 0:
        raise InputError("a table's description points out of its bytes; it is not read")
    size = struct.unpack_from("<H", buffer, types)[0]
    place = 4 + 2 * number
    return struct.unpack_from("<H", buffer, types + place)[0] if place < size else 0
