"""Text ↔ Triton's BYTES wire format, without a Python object an element on the way out.

The format: for each element, in row-major order, its length in bytes as a little-endian 4-byte
integer, then the bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tritonbulk.errors import AnswerError, InputError

_LENGTH_BYTES = 4


def encode_texts(columns: Sequence[pa.Array]) -> pa.Buffer:
    """Return the wire bytes of a tensor whose last dimension is filled by ``columns``.

    Args:
        columns: string or binary arrays of one length, without nulls.

    Raises:
        InputError: the texts of a batch are 2 GiB or more together; a retry does not help.
    """
    pieces: list[pa.Array] = []
    for column in columns:
        values = _binary(column)
        pieces += (_length_prefixes(values), values)
    try:
        joined = pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.binary()))
    except pa.ArrowInvalid as error:
        raise InputError(
            f"the texts of one batch are too long together ({error}); lower --batch-rows"
        ) from error
    _, offsets, data = joined.buffers()
    bounds = np.frombuffer(offsets, np.int32)[joined.offset : joined.offset + len(joined) + 1]
    if data is None:
        return pa.py_buffer(b"")
    return data.slice(int(bounds[0]), int(bounds[-1] - bounds[0]))


def _binary(column: pa.Array) -> pa.Array:
    try:
        return column if column.type == pa.binary() else column.cast(pa.binary())
    except pa.ArrowInvalid as error:
        raise InputError(
            f"the texts of one batch are too long together ({error}); lower --batch-rows"
        ) from error


def _length_prefixes(values: pa.Array) -> pa.Array:
    """Return each element's length as a binary element of 4 bytes."""
    lengths = pc.binary_length(values).cast(pa.uint32()).to_numpy().astype("<u4", copy=False)
    fixed = pa.Array.from_buffers(
        pa.binary(_LENGTH_BYTES), len(values), [None, pa.py_buffer(np.ascontiguousarray(lengths))]
    )
    return fixed.cast(pa.binary())


def decode_texts(raw: memoryview, name: str, count: int) -> pa.Array:
    """Return ``count`` elements as a binary array.

    Args:
        raw: the wire bytes of one tensor.
        name: of the tensor, for errors.
        count: elements that the shape promises.

    Raises:
        AnswerError: the bytes hold another number of elements.
    """
    begin, end = 0, len(raw)
    if count * _LENGTH_BYTES > end:
        raise AnswerError(f"output {name!r} came with {end} bytes, too few for {count} elements")
    begins = np.empty(count, dtype=np.int64)
    for index in range(count):
        begins[index] = begin
        after = begin + _LENGTH_BYTES
        begin = after + int.from_bytes(raw[begin:after], "little")
        if after > end or begin > end:
            raise AnswerError(f"output {name!r} ends in the middle of element {index} of {count}")
    if begin != end:
        raise AnswerError(f"output {name!r} has {end - begin} bytes after its last element")
    keep = np.ones(end, dtype=bool)
    keep[(begins[:, None] + np.arange(_LENGTH_BYTES)).reshape(-1)] = False
    data = np.frombuffer(raw, dtype=np.uint8)[keep]
    offsets = np.append(begins, end) - _LENGTH_BYTES * np.arange(count + 1)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), count, buffers)
