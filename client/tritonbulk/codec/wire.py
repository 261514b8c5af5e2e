"""The little of protobuf's wire format that the hot path needs, so that payloads are not copied.

Source: the encoding guide of protobuf, and the KServe v2 ``inference`` protocol for the numbers of
the fields. Everything else is left to the generated classes.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tritonbulk.errors import AnswerError

Octets = npt.NDArray[np.uint8]

RAW_INPUT_TAG = b"\x3a"  # ModelInferRequest.raw_input_contents: field 7, length-delimited
REQUEST_ID_TAG = b"\x1a"  # ModelInferRequest.id: field 3, length-delimited
_ERROR_KEY = 1 << 3 | 2  # ModelStreamInferResponse.error_message
_RESPONSE_KEY = 2 << 3 | 2  # ModelStreamInferResponse.infer_response
_ID_KEY = 3 << 3 | 2  # ModelInferResponse.id
_RAW_OUTPUT_KEY = 6 << 3 | 2  # ModelInferResponse.raw_output_contents
_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """Return ``value`` as a base-128 varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def filled_bytes(size: int, fill: Callable[[Octets], None]) -> bytes:
    """Return ``size`` bytes (at least 2) that ``fill`` writes in place.

    gRPC takes nothing but ``bytes``. In CPython they are written before anyone else sees the
    object, which saves the copy of a whole payload; elsewhere they are copied.
    """
    if sys.implementation.name != "cpython":
        octets = np.empty(size, np.uint8)
        fill(octets)
        return octets.tobytes()
    data: bytes = _new_bytes(None, size)
    # The header of a bytes object, and behind its data one closing zero that basicsize counts.
    address = id(data) + bytes.__basicsize__ - 1
    fill(np.ctypeslib.as_array((ctypes.c_ubyte * size).from_address(address)))
    return data


_new_bytes = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_char_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)


@dataclass(frozen=True, slots=True)
class StreamReply:
    """One message of a ``ModelStreamInfer`` stream.

    Attributes:
        id: of the request that it answers; "" if it names none.
        error: the server's words if the request failed, else "".
        response: the serialized ``ModelInferResponse``.
    """

    id: str
    error: str
    response: memoryview


def split_stream_reply(data: bytes) -> StreamReply:
    """Return a serialized ``ModelStreamInferResponse`` by its parts; they share its memory.

    Raises:
        AnswerError: ``data`` is no such message.
    """
    view = memoryview(data)
    error, response = "", view[:0]
    for key, _, first, end in _fields(view):
        if key == _ERROR_KEY:
            error = bytes(view[first:end]).decode(errors="replace")
        elif key == _RESPONSE_KEY:
            response = view[first:end]
    for key, _, first, end in _fields(response):
        if key == _ID_KEY:
            return StreamReply(bytes(response[first:end]).decode(errors="replace"), error, response)
    return StreamReply("", error, response)


def split_response(data: bytes | memoryview) -> tuple[bytes, list[memoryview]]:
    """Return a serialized ``ModelInferResponse`` as (its description, its raw outputs in order).

    The first part is a valid message by itself, without the id, so that it is the same for all
    answers of one shape; the views share ``data``'s memory.

    Raises:
        AnswerError: ``data`` is no protobuf message.
    """
    view = memoryview(data)
    rest: list[memoryview] = []
    raw: list[memoryview] = []
    for key, begin, first, end in _fields(view):
        if key == _RAW_OUTPUT_KEY:
            raw.append(view[first:end])
        elif key != _ID_KEY:
            rest.append(view[begin:end])
    return b"".join(rest), raw


def _fields(data: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Yield each top-level field as (key, where it begins, where its value begins, its end).

    Raises:
        AnswerError: ``data`` is no protobuf message.
    """
    position, length = 0, len(data)
    while position < length:
        begin = position
        key, position = _read_varint(data, position)
        kind = key & 7
        first = position
        if kind == _LENGTH_DELIMITED:
            size, first = _read_varint(data, position)
            position = first + size
        elif kind == _VARINT:
            _, position = _read_varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise AnswerError(f"the server's answer cannot be parsed (wire type {kind})")
        if position > length:
            raise AnswerError("the server's answer is cut off")
        yield key, begin, first, position


def _read_varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        if position >= len(data):
            raise AnswerError("the server's answer is cut off")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise AnswerError("the server's answer cannot be parsed (a number has no end)")
