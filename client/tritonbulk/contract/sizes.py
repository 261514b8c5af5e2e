"""How many bytes rows take: on the wire, and as prediction columns in memory."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from tritonbulk.contract.datatypes import Datatype
from tritonbulk.contract.schema import InputTensor, OutputTensor

FREE_DIMENSION_SIZE = 256
"""What a dimension of open size counts as."""

TEXT_BYTES = 64
"""What one BYTES element counts as: its length prefix and some text."""


def row_bytes(tensors: Sequence[InputTensor | OutputTensor]) -> int:
    """Return the bytes that one row of all ``tensors`` takes on the wire, open sizes estimated."""
    return sum(
        (tensor.datatype.item_bytes or TEXT_BYTES) * _elements(tensor.shape) for tensor in tensors
    )


def prediction_row_bytes(outputs: Sequence[OutputTensor]) -> int:
    """Return the bytes that one row of prediction columns takes in memory, open sizes estimated."""
    return sum(_column_item_bytes(each.datatype) * _elements(each.shape) for each in outputs)


def _column_item_bytes(datatype: Datatype) -> int:
    # BF16 comes back as float32, twice what it is on the wire.
    if not datatype.item_bytes:
        return TEXT_BYTES
    return np.dtype(datatype.arrow.to_pandas_dtype()).itemsize


def _elements(shape: Sequence[int]) -> int:
    return prod(FREE_DIMENSION_SIZE if size < 0 else size for size in shape)
