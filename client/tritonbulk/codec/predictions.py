"""Predictions: the answers of one segment's batches, put in place, then turned into columns."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tritonbulk.codec.response import Answer, Texts
from tritonbulk.contract import OutputTensor
from tritonbulk.contract.gather import Tensor
from tritonbulk.errors import AnswerError

STATUS_COLUMN = "_tritonbulk_status"
"""Output column, int32: 0 for a scored row, else the gRPC status code of its failure."""

ERROR_COLUMN = "_tritonbulk_error"
"""Output column, string: null for a scored row, else why it failed."""


def prediction_field(output: OutputTensor, name: str) -> pa.Field:
    """Return the Arrow field of an output's column: plain for ``[]`` and ``[1]``, else a list.

    A dimension of fixed size gives a FixedSizeList, a free one (-1) a list.
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
        self.names = tuple(names)
        self._columns: list[_Numbers | _Words] = [
            _Words(rows, output) if output.datatype.name == "BYTES" else _Numbers(rows, output)
            for output in outputs
        ]
        self._status: npt.NDArray[np.int32] = np.zeros(rows, dtype=np.int32)
        self._errors: dict[int, str] = {}
        self._filled = 0

    @property
    def complete(self) -> bool:
        """True once every row has its answer or its error."""
        return self._filled == self._rows

    @property
    def rows_failed(self) -> int:
        """Rows that have an error, so far."""
        return len(self._errors)

    def put(self, row_begin: int, answers: Sequence[Answer]) -> None:
        """Put the answer of the rows from ``row_begin`` on in place.

        Raises:
            AnswerError: a dimension that the model left free differs between answers.
        """
        for column, answer in zip(self._columns, answers, strict=True):
            column.put(row_begin, answer)
        self._filled += answers[0].shape[0]

    def fail(self, row_begin: int, rows: int, status: int, error: str) -> None:
        """Mark rows as failed, with the gRPC status code (not 0) and the reason."""
        self._status[row_begin : row_begin + rows] = status
        self._errors.update(dict.fromkeys(range(row_begin, row_begin + rows), error))
        self._filled += rows

    def fail_nan(self, row_begin: int, rows: int, status: int, error: str) -> list[int]:
        """Mark those of some rows as failed that were put and have a NaN; return their numbers.

        Args:
            row_begin: the first of them.
            rows: how many.
            status: gRPC status code of a failed one.
            error: why it failed.
        """
        is_nan: npt.NDArray[np.bool_] = np.zeros(rows, dtype=np.bool_)
        for column in self._columns:
            if isinstance(column, _Numbers):
                is_nan |= column.is_nan(row_begin, rows)
        found = [row_begin + int(row) for row in np.flatnonzero(is_nan)]
        self._status[found] = status
        self._errors.update(dict.fromkeys(found, error))
        return found

    def to_columns(self) -> list[tuple[pa.Field, pa.Array]]:
        """Return prediction, status and error columns; failed rows have null predictions.

        Raises:
            AnswerError: a text of an answer is not UTF-8.
        """
        is_failed = pa.array(self._status != 0) if self._errors else None
        columns = []
        for column, name in zip(self._columns, self.names, strict=True):
            field = prediction_field(column.output, name)
            array = column.to_arrow(field.type)
            if is_failed is not None:
                array = pc.if_else(is_failed, pa.scalar(None, field.type), array)
            columns.append((field, array))
        errors = pa.nulls(self._rows, pa.string())
        if self._errors:
            errors = pa.array([self._errors.get(row) for row in range(self._rows)], pa.string())
        columns.append((pa.field(STATUS_COLUMN, pa.int32()), pa.array(self._status)))
        columns.append((pa.field(ERROR_COLUMN, pa.string()), errors))
        return columns


class _Numbers:
    """A numeric output, copied once into one array for the whole segment."""

    def __init__(self, rows: int, output: OutputTensor) -> None:
        self.output = output
        self._rows = rows
        self._dense: Tensor | None = None

    def put(self, row_begin: int, answer: Answer) -> None:
        assert not isinstance(answer, Texts)
        if self._dense is None:
            dtype = self.output.datatype.arrow.to_pandas_dtype()
            self._dense = np.zeros((self._rows, *answer.shape[1:]), dtype)
        _check_row_shape(self.output, self._dense.shape, answer.shape)
        self._dense[row_begin : row_begin + len(answer)] = answer

    def is_nan(self, row_begin: int, rows: int) -> npt.NDArray[np.bool_]:
        """Return which of some rows that were put have a NaN."""
        if self._dense is None or self._dense.dtype.kind != "f":
            return np.zeros(rows, dtype=np.bool_)
        found = np.isnan(self._dense[row_begin : row_begin + rows].reshape(rows, -1)).any(axis=1)
        return np.asarray(found)

    def to_arrow(self, kind: pa.DataType) -> pa.Array:
        if self._dense is None:
            return pa.nulls(self._rows, kind)
        flat = pa.array(self._dense.reshape(-1))
        return _nested(flat, self._dense.shape, kind, self.output)


class _Words:
    """A BYTES output: the batches' elements, put one behind the other at the end."""

    def __init__(self, rows: int, output: OutputTensor) -> None:
        self.output = output
        self._rows = rows
        self._pieces: dict[int, Texts] = {}
        self._row_shape: tuple[int, ...] | None = None

    def put(self, row_begin: int, answer: Answer) -> None:
        assert isinstance(answer, Texts)
        self._row_shape = self._row_shape or answer.shape[1:]
        _check_row_shape(self.output, (0, *self._row_shape), answer.shape)
        self._pieces[row_begin] = answer

    def to_arrow(self, kind: pa.DataType) -> pa.Array:
        if self._row_shape is None:
            return pa.nulls(self._rows, kind)
        width = math.prod(self._row_shape)
        pieces, row = [], 0
        for row_begin, piece in sorted(self._pieces.items(), key=lambda item: item[0]):
            pieces += [_empty_texts((row_begin - row) * width), piece.values]
            row = row_begin + piece.shape[0]
        pieces.append(_empty_texts((self._rows - row) * width))
        try:
            flat = pa.concat_arrays(pieces).cast(pa.string())
        except pa.ArrowInvalid as error:
            raise AnswerError(
                f"output {self.output.name!r} cannot be written as text ({error}); answers must be "
                "UTF-8, and less than 2 GiB a segment"
            ) from error
        return _nested(flat, (self._rows, *self._row_shape), kind, self.output)


def _empty_texts(count: int) -> pa.Array:
    """Return the elements that stand in for failed rows until these become null."""
    return pa.array([b""], pa.large_binary()).take(pa.array(np.zeros(count, dtype=np.int32)))


def _check_row_shape(output: OutputTensor, known: tuple[int, ...], found: tuple[int, ...]) -> None:
    if known[1:] != found[1:]:
        raise AnswerError(
            f"output {output.name!r} came with row shapes {list(known[1:])} and {list(found[1:])} "
            "in one segment; outputs whose size differs between rows are not supported"
        )


def _nested(
    flat: pa.Array, shape: tuple[int, ...], kind: pa.DataType, output: OutputTensor
) -> pa.Array:
    """Return ``flat``, elements in row-major order, as an array of ``kind`` with ``shape``."""
    if not (pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)):
        return flat
    for axis in range(len(shape) - 1, 0, -1):
        size = shape[axis]
        if output.shape[axis - 1] < 0:
            lists = math.prod(shape[:axis])
            offsets = pa.array(np.arange(lists + 1, dtype=np.int32) * np.int32(size))
            flat = pa.ListArray.from_arrays(offsets, flat)
        else:
            flat = pa.FixedSizeListArray.from_arrays(flat, size)
    return flat
