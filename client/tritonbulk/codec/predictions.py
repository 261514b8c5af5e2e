"""Predictions: the answers of one segment's batches, put in place, then turned into columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tritonbulk.contract import OutputTensor
from tritonbulk.contract.gather import Tensor
from tritonbulk.errors import AnswerError

STATUS_COLUMN = "_tritonbulk_status"
"""Output column, int32: 0 for a scored row, else the gRPC status code of its failure."""

ERROR_COLUMN = "_tritonbulk_error"
"""Output column, string: null for a scored row, else why it failed."""


def prediction_field(output: OutputTensor, name: str) -> pa.Field:
    """Return the Arrow field of an output's column: plain for ``[]`` and ``[1]``, else a list.

    A shape of fixed sizes gives nested FixedSizeLists; from the first free dimension (-1) on,
    variable lists.
    """
    kind = output.datatype.arrow
    if output.shape not in ((), (1,)):
        for size in reversed(output.shape):
            kind = pa.list_(kind) if size < 0 else pa.list_(kind, size)
    return pa.field(name, kind)


class Predictions:
    """The answers of one segment; rows may come in any order, each exactly once.

    Args:
        rows: rows of the segment.
        outputs: output tensors, in column order.
        names: their column names.

    Attributes:
        names: the same.
    """

    def __init__(self, rows: int, outputs: Sequence[OutputTensor], names: Sequence[str]) -> None:
        self._rows = rows
        self._outputs = tuple(outputs)
        self.names = tuple(names)
        self._dense: list[Tensor | None] = [None] * len(self._outputs)
        self._status: npt.NDArray[np.int32] = np.zeros(rows, dtype=np.int32)
        self._errors: dict[int, str] = {}
        self._filled = 0

    @property
    def complete(self) -> bool:
        """True once every row has its answer or its error."""
        return self._filled == self._rows

    @property
    def rows_failed(self) -> int:
        """Rows that failed so far."""
        return len(self._errors)

    def put(self, row_begin: int, tensors: Sequence[Tensor]) -> None:
        """Put the answer of the rows from ``row_begin`` on in place.

        Raises:
            AnswerError: a dimension that the model left free differs between answers.
        """
        rows = tensors[0].shape[0]
        for index, tensor in enumerate(tensors):
            dense = self._dense[index]
            if dense is None:
                shape = (self._rows, *tensor.shape[1:])
                dense = self._dense[index] = np.zeros(shape, dtype=tensor.dtype)
            if dense.shape[1:] != tensor.shape[1:]:
                raise AnswerError(
                    f"output {self._outputs[index].name!r} came with row shapes "
                    f"{list(dense.shape[1:])} and {list(tensor.shape[1:])} in one segment; "
                    "outputs whose size differs between rows are not supported"
                )
            dense[row_begin : row_begin + rows] = tensor
        self._filled += rows

    def fail(self, row_begin: int, rows: int, status: int, error: str) -> None:
        """Mark rows as failed, with the gRPC status code (not 0) and the reason."""
        self._status[row_begin : row_begin + rows] = status
        self._errors.update(dict.fromkeys(range(row_begin, row_begin + rows), error))
        self._filled += rows

    def to_columns(self) -> list[tuple[pa.Field, pa.Array]]:
        """Return prediction, status and error columns; failed rows have null predictions."""
        failed = self._status != 0
        mask = pa.array(failed) if failed.any() else None
        columns = []
        for output, name, dense in zip(self._outputs, self.names, self._dense, strict=True):
            field = prediction_field(output, name)
            array = pa.nulls(self._rows, field.type)
            if dense is not None:
                array = _to_arrow(dense, field.type, output)
                if mask is not None:
                    array = pc.if_else(mask, pa.scalar(None, field.type), array)
            columns.append((field, array))
        errors = pa.nulls(self._rows, pa.string())
        if self._errors:
            errors = pa.array([self._errors.get(row) for row in range(self._rows)], pa.string())
        columns.append((pa.field(STATUS_COLUMN, pa.int32()), pa.array(self._status)))
        columns.append((pa.field(ERROR_COLUMN, pa.string()), errors))
        return columns


def _to_arrow(dense: Tensor, kind: pa.DataType, output: OutputTensor) -> pa.Array:
    """Return ``dense`` (rows first) as an array of ``kind``, without copying numeric values."""
    try:
        flat = pa.array(dense.reshape(-1), type=output.datatype.arrow)
    except pa.ArrowInvalid as error:
        raise AnswerError(
            f"output {output.name!r} holds bytes that are not UTF-8 text ({error})"
        ) from error
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        return flat
    for axis in range(dense.ndim - 1, 0, -1):
        size = dense.shape[axis]
        if output.shape[axis - 1] < 0:
            lists = math.prod(dense.shape[:axis])
            offsets = pa.array(np.arange(lists + 1, dtype=np.int32) * np.int32(size))
            flat = pa.ListArray.from_arrays(offsets, flat)
        else:
            flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat
