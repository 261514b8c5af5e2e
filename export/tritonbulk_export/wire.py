"""Tensors as bytes on Triton's wire, for warm-up files and golden rows.

The client has a faster codec of its own; here a few rows are turned once.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tritonbulk.contract import OutputTensor
from tritonbulk_export.spec import Tensor


def wire_bytes(values: Tensor) -> bytes:
    """Return a tensor as Triton takes it; texts have their length in front, 4 bytes each."""
    if values.dtype.kind not in "OUS":
        return np.ascontiguousarray(values).tobytes()
    texts = [each if isinstance(each, bytes) else str(each).encode() for each in values.ravel()]
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts)


def decoded(raw: bytes, output: OutputTensor) -> Tensor:
    """Return the flat values of an output as Triton sent them."""
    if output.datatype.name != "BYTES":
        return np.frombuffer(raw, output.datatype.numpy)
    texts, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        texts.append(raw[at + 4 : at + 4 + size])
        at += 4 + size
    return np.array(texts, dtype=object)


def expected_values(column: pa.Array, output: OutputTensor) -> Tensor:
    """Return the flat values of a column of golden answers."""
    values = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
    found: Tensor = values.to_numpy(zero_copy_only=False)
    if output.datatype.name == "BYTES":
        return np.array([each.encode() for each in found], dtype=object)
    return found.astype(output.datatype.numpy)
