"""How many bytes rows take on the wire."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tritonbulk.contract.schema import InputTensor, OutputTensor

FREE_DIMENSION_SIZE = 256
"""What a dimension of open size counts as."""

TEXT_BYTES = 64
"""What one BYTES element counts as: its length prefix and some text."""


def row_bytes(tensors: Sequence[InputTensor | OutputTensor]) -> int:
    """Return the bytes that one row of all ``tensors`` takes, estimated where its size is open."""
    return sum(
        (tensor.datatype.item_bytes or TEXT_BYTES)
        * prod(FREE_DIMENSION_SIZE if size < 0 else size for size in tensor.shape)
        for tensor in tensors
    )
