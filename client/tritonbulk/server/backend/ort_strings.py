"""Strings in Triton's byte format, read and written without a call of ``struct`` for each value.

A tensor of strings travels as its values in C order, each after its size in bytes (4 bytes, little
endian). ``deserialize`` and ``serialize`` do what ``deserialize_bytes_tensor`` and
``serialize_byte_tensor`` of ``triton_python_backend_utils`` do, several times faster. Pure.
"""

from __future__ import annotations

import struct

import numpy as np

_SIZE = struct.Struct("<I")
# numpy keeps the bytes of an item in 32 bits with a sign; a larger record wraps without an error.
_RECORD_BYTES_MAX = 2**31 - 1


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
    (first_size,) = _SIZE.unpack_from(buffer)
    record_bytes = _SIZE.size + first_size
    if record_bytes <= _RECORD_BYTES_MAX and len(buffer) % record_bytes == 0:
        # Codes, dates and hashes have one size: then the tensor is an array of records. Void, not
        # numpy's bytes type, which drops trailing NULs.
        records = np.frombuffer(buffer, [("size", "<u4"), ("value", np.void, first_size)])
        if (records["size"] == first_size).all():
            return records["value"].astype(np.object_)
    return np.array(_values(buffer), np.object_)


def _values(buffer: bytes) -> list[bytes]:
    values = []
    end = 0
    while end < len(buffer):
        start = end + _SIZE.size
        end = start + _SIZE.unpack_from(buffer, end)[0]
        values.append(buffer[start:end])
    if end > len(buffer):
        raise struct.error(f"the last value ends {end - len(buffer)} bytes after its tensor")
    return values


def decode(array: np.ndarray) -> np.ndarray:
    """An object array of ``bytes`` as the object array of ``str`` that ONNX Runtime takes.

    Raises:
        UnicodeDecodeError: a string is not UTF-8.
    """
    decoded = [value.decode() for value in array.reshape(-1)]
    return np.array(decoded, dtype=np.object_).reshape(array.shape)


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
    return b"".join([_SIZE.pack(len(value)) + value for value in values])
