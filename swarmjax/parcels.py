"""Weights on their way from one training node to another, in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct

from swarmjax import records
from swarmjax.errors import InputError
from swarmjax.records import HEAVIEST, PART, Path, Shape


class Tensor(Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One array: type, shape, and its numbers in C order, little-endian."""

    dtype: Literal["float16", "float32", "float64", "int32", "int64", "bool"]
    shape: Shape
    data: Annotated[bytes, Meta(max_length=HEAVIEST)]


_DECODER = msgspec.msgpack.Decoder(Annotated[dict[Path, Tensor], Meta(max_length=4096)])


def write_weights(arrays: Mapping[str, np.ndarray]) -> list[bytes]:
    """Weights by path as parts of at most `PART` bytes; InputError if nobody could read them."""
    tensors = {path: _tensor(np.asarray(array)) for path, array in arrays.items()}
    blob = msgspec.msgpack.encode(tensors)
    records.decode(_DECODER, blob, HEAVIEST, "a parcel of weights to be sent")
    return [blob[start : start + PART] for start in range(0, len(blob), PART)]


def read_weights(
    parts: Sequence[bytes], shapes: Mapping[str, Sequence[int]]
) -> dict[str, np.ndarray]:
    """Path -> array of the weights that came in `parts`; InputError unless they have `shapes`."""
    blob = b"".join(parts)
    tensors = records.decode(_DECODER, blob, HEAVIEST, "a parcel of weights")
    wanted = {path: tuple(shape) for path, shape in shapes.items()}
    if {path: tensor.shape for path, tensor in tensors.items()} != wanted:
        raise InputError("a parcel holds weights of another architecture; refused")
    return {path: _array(path, tensor) for path, tensor in tensors.items()}


class Collector:
    """Puts the parts of one parcel at a time together; a newer request replaces an older one."""

    def __init__(self):
        self._request, self._parts = -1, {}

    def add(self, request: int, part: int, parts: int, data: bytes) -> list[bytes] | None:
        """Keeps a part; returns all of them, in order, once they are complete.

        Raises:
            InputError: there is no such part, or it has another size than it must have.
        """
        if not part < parts <= -(-HEAVIEST // PART):
            raise InputError(f"part {part} of {parts} of a parcel cannot be; refused")
        if len(data) > PART or (len(data) < PART and part < parts - 1):
            raise InputError(f"part {part} of {parts} of a parcel has {len(data)} bytes; refused")
        if request < self._request:
            return None
        if request > self._request:
            self._request, self._parts = request, {}
        self._parts[part] = data
        if len(self._parts) < parts:
            return None
        found = [self._parts[i] for i in sorted(self._parts)][:parts]
        self._parts = {}
        return found


def _tensor(array: np.ndarray) -> Tensor:
    kind = array.dtype.newbyteorder("<")
    data = np.ascontiguousarray(array.astype(kind, copy=False)).tobytes()
    # Whether the type is one of those allowed is found out when the parcel is read.
    return Tensor(array.dtype.name, array.shape, data)  # pyright: ignore[reportArgumentType]


def _array(path: str, tensor: Tensor) -> np.ndarray:
    kind = np.dtype(tensor.dtype).newbyteorder("<")
    size = kind.itemsize
    for length in tensor.shape:
        size *= length
    if size != len(tensor.data):
        raise InputError(f"weights at {path} have {len(tensor.data)} bytes, not {size}; refused")
    # A copy: nobody can write into the bytes that came.
    return np.frombuffer(tensor.data, kind).reshape(tensor.shape).astype(tensor.dtype)
