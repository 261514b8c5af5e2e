"""Strings from Triton's byte format to ONNX Runtime, and back, with little work for each value.

A tensor of strings travels as its values in C order, each after its size in bytes (4 bytes, little
endian). ``deserialize`` and ``serialize`` mean what ``deserialize_bytes_tensor`` and
``serialize_byte_tensor`` of ``triton_python_backend_utils`` mean, and are two to twenty times as
fast. Pure.
"""

from __future__ import annotations

import struct

import numpy as np

_SIZE_BYTES = 4
# Bound once, not looked up for each value.
_read_size = struct.Struct("<I").unpack_from
_write_size = struct.Struct("<I").pack
# Of a value that is read as an item of numpy: larger ones gain nothing, and from 2 GiB on numpy's
# item sizes wrap without an error.
_SIZE_MAX = 2**20


def deserialize(encoded: np.ndarray) -> np.ndarray:
    """The values of a tensor in Triton's byte format, as a flat object array of ``bytes``.

    Args:
        encoded: the tensor, of uint8.

    Raises:
        struct.error: the tensor ends within a value.
    """
    buffer = encoded.tobytes()
    if not buffer:
        return np.empty(0, np.object_)
    (size,) = _read_size(buffer)
    if size <= _SIZE_MAX and len(buffer) % (_SIZE_BYTES + size) == 0:
        # Codes, dates and hashes have one size: then the tensor is an array of records. Void, not
        # numpy's bytes type, which drops trailing NULs.
        records = np.frombuffer(buffer, [("size", "<u4"), ("value", np.void, size)])
        if (records["size"] == size).all():
            return records["value"].astype(np.object_)
    return np.array(_values(buffer), np.object_)


def _values(buffer: bytes) -> list[bytes]:
    values = []
    end = 0
    while end < len(buffer):
        start = end + _SIZE_BYTES
        end = start + _read_size(buffer, end)[0]
        values.append(buffer[start:end])
    if end > len(buffer):
        raise struct.error(f"the last value ends {end - len(buffer)} bytes after its tensor")
    return values


def decode(array: np.ndarray) -> np.ndarray:
    """An object array of ``bytes`` as an array that ONNX Runtime takes for strings.

    ASCII values of one size become numpy's void type, which ONNX Runtime copies as they are (as it
    does not with numpy's bytes type), without a Python object for each; others become ``str``.
    Arrays must be joined before: void types of different sizes cannot be.

    Raises:
        UnicodeDecodeError: a string is not UTF-8.
    """
    values = array.ravel().tolist()
    joined = b"".join(values)
    size = len(values[0]) if values else 0
    # From the cheapest condition to the dearest; most unequal sizes show in their sum.
    if (
        0 < size <= _SIZE_MAX
        and len(joined) == size * len(values)
        and joined.isascii()
        and set(map(len, values)) == {size}
    ):
        return np.frombuffer(joined, (np.void, size)).reshape(array.shape)
    decoded = [value.decode() for value in values]
    return np.array(decoded, np.object_).reshape(array.shape)


def serialize(array: np.ndarray) -> bytes | tuple[()] | None:
    """An array of strings in Triton's byte format; ``()`` for an empty one, None for other types.

    Args:
        array: of objects, ``bytes`` as they are and all others as the UTF-8 of their ``str``; or
            of numpy's bytes type.
    """
    if array.size == 0:
        return ()
    if array.dtype.kind not in "OS":
        return None
    values = [
        each if type(each) is bytes else str(each).encode() for each in array.ravel().tolist()
    ]
    return b"".join([_write_size(len(value)) + value for value in values])
