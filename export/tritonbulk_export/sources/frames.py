"""Frames: how a process that holds a pickled model talks with export. Nothing here is a pickle.

A frame is a line of JSON and the buffers that it announces, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from tritonbulk_export.spec import Tensor, Tensors

MARGIN = "margin of the answers"
"""Name under which `Answers.margin` travels among the outputs."""

LINE_BYTES_MAX = 1 << 26
BUFFER_BYTES_MAX = 1 << 33


def write_frame(stream: IO[bytes], head: Mapping[str, Any], *buffers: bytes | memoryview) -> None:
    """Write ``head`` and ``buffers``."""
    sizes = [memoryview(buffer).nbytes for buffer in buffers]
    stream.write(json.dumps({**head, "sizes": sizes}).encode() + b"\n")
    stream.writelines(buffers)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]]:
    """Return the next head and its buffers.

    Raises:
        EOFError: the other side has gone.
        ValueError: it wrote something else than a frame.
    """
    line = stream.readline(LINE_BYTES_MAX)
    if not line:
        raise EOFError
    head = json.loads(line)
    if not isinstance(head, dict) or not all(
        isinstance(size, int) and 0 <= size <= BUFFER_BYTES_MAX for size in head.get("sizes", [""])
    ):
        raise ValueError("no frame")
    buffers = [stream.read(size) for size in head["sizes"]]
    if any(len(buffer) != size for buffer, size in zip(buffers, head["sizes"], strict=True)):
        raise EOFError
    return head, buffers


def packed(tensors: Tensors) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return what `unpacked` makes the tensors of. Objects are text or bytes."""
    heads, buffers = [], []
    for name, tensor in tensors.items():
        is_object = tensor.dtype == object
        dtype = "text" if is_object or tensor.dtype.kind == "U" else tensor.dtype.str
        heads.append({"name": name, "dtype": dtype, "shape": list(tensor.shape)})
        if dtype == "text":
            values = [v.decode() if isinstance(v, bytes) else str(v) for v in tensor.ravel()]
            buffers.append(json.dumps(values).encode())
        else:
            buffers.append(np.ascontiguousarray(tensor).tobytes())
    return heads, buffers


def unpacked(heads: list[dict[str, Any]], buffers: list[bytes]) -> dict[str, Tensor]:
    """Return tensors; text comes as objects.

    Raises:
        ValueError: what is said of one does not fit its bytes.
    """
    tensors: dict[str, Tensor] = {}
    for head, buffer in zip(heads, buffers, strict=True):
        if head["dtype"] == "text":
            values = np.array(json.loads(buffer), dtype=object)
        else:
            values = np.frombuffer(buffer, np.dtype(head["dtype"])).copy()
        tensors[head["name"]] = values.reshape(head["shape"])
    return tensors
