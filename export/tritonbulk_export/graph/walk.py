"""What a model consists of, nested parts included."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from onnx import TensorProto, helper


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield ``graph`` and every graph inside its nodes' attributes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for child in (attribute.g, *attribute.graphs):
                if child.node or child.output:
                    yield from graphs(child)


def tensors(message: Message) -> Iterator[TensorProto]:
    """Yield every tensor in ``message``, wherever it stands: initializers, attributes, functions.

    Unset fields are not visited, so a message of any depth that protobuf could parse is finite.
    """
    if isinstance(message, TensorProto):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in [value] if isinstance(value, Message) else value:
            yield from tensors(child)


def has_only_text(message: Message) -> bool:
    """Return whether all strings in ``message`` are UTF-8: protobuf hands out bytes where not."""
    for field, value in message.ListFields():
        parts = [value] if isinstance(value, str | bytes | Message) else value
        if field.type == FieldDescriptor.TYPE_STRING:
            if any(isinstance(text, bytes) for text in parts):
                return False
        elif field.message_type is not None and not all(map(has_only_text, parts)):
            return False
    return True


def title(node: onnx.NodeProto) -> str:
    """Return how messages name ``node``: its type and its name, or what it computes."""
    return f"{node.op_type} {node.name or next(iter(node.output), '')!s}".strip()


_BITS = {TensorProto.UINT4: 4, TensorProto.INT4: 4, TensorProto.FLOAT4E2M1: 4, 25: 2, 26: 2}
"""Types that NumPy has no size for; 25 and 26 are those of 2 bits, which older releases of the
package do not name."""
_UNSIZED = {TensorProto.UNDEFINED, TensorProto.STRING, 27, 28}
"""Texts, and types whose packing this module does not know (6 bits)."""


def element_bytes(data_type: int) -> float:
    """Return the size of one element in bytes, a fraction for packed types; 0 if it has none."""
    if data_type in _BITS:
        return _BITS[data_type] / 8
    if data_type in _UNSIZED:
        return 0.0
    try:
        return float(helper.tensor_dtype_to_np_dtype(data_type).itemsize)
    except (KeyError, TypeError):
        return 0.0
