"""The little of protobuf's wire format that the hot path needs, so that payloads are not copied.

Source: the encoding guide of protobuf, and the KServe v2 ``inference`` protocol for the numbers of
the fields. Everything else is left to the generated classes.
"""

from __future__ import annotations

from tritonbulk.errors import AnswerError

RAW_INPUT_TAG = b"\x3a"  # ModelInferRequest.raw_input_contents: field 7, length-delimited
_RAW_OUTPUT_KEY = 6 << 3 | 2  # ModelInferResponse.raw_output_contents: field 6, length-delimited
_VARINT, _FIXED64, _LENGTH_DELIMITED, _FIXED32 = 0, 1, 2, 5


def varint(value: int) -> bytes:
    """Return ``value`` as a base-128 varint."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def split_response(data: bytes) -> tuple[bytes, list[memoryview]]:
    """Return a serialized ``ModelInferResponse`` as (all but raw outputs, raw outputs in order).

    The first part is a valid message by itself; the views share ``data``'s memory.

    Raises:
        AnswerError: ``data`` is no protobuf message.
    """
    view = memoryview(data)
    rest: list[memoryview] = []
    raw: list[memoryview] = []
    position, end = 0, len(data)
    while position < end:
        begin = position
        key, position = _read_varint(data, position)
        kind = key & 7
        if kind == _LENGTH_DELIMITED:
            length, position = _read_varint(data, position)
            first, position = position, position + length
        elif kind == _VARINT:
            _, position = _read_varint(data, position)
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise AnswerError(f"the server's answer cannot be parsed (wire type {kind})")
        if position > end:
            raise AnswerError("the server's answer is cut off")
        if key == _RAW_OUTPUT_KEY:
            raw.append(view[first:position])
        else:
            rest.append(view[begin:position])
    return b"".join(rest), raw


def _read_varint(data: bytes, position: int) -> tuple[int, int]:
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
