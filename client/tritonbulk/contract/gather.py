"""Gather: Arrow columns → one dense tensor, by the contract's types, categories and null policy.

A value that the tensor cannot hold exactly enough is an error that names column and row, never a
wrong number. The rule is Arrow's safe cast (integers must survive unchanged, fractions are not cut
off), and finite floats must stay finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tritonbulk.contract.schema import Column, InputTensor, Substitute
from tritonbulk.errors import InputError

Tensor = npt.NDArray[np.generic]


def gather(batch: pa.RecordBatch, tensor: InputTensor) -> Tensor:
    """Return the tensor that ``batch`` feeds: shape ``[rows, *tensor.shape]``, C-contiguous.

    ``BYTES`` tensors come as object arrays of bytes.

    Args:
        batch: rows with at least the tensor's columns.
        tensor: with its columns.

    Raises:
        InputError: a value or null cannot be fed; names column and row (counted from 0 within
            ``batch``). A retry does not help.
    """
    shape, arrays = gather_numbers(batch, tensor)
    if len(arrays) == 1:
        return np.ascontiguousarray(arrays[0]).reshape(shape)
    return np.stack(arrays, axis=1).reshape(shape)


def gather_numbers(
    batch: pa.RecordBatch, tensor: InputTensor
) -> tuple[tuple[int, ...], list[Tensor]]:
    """Return a tensor's shape ``[rows, *tensor.shape]`` and what fills it, copied only if cast.

    Several arrays stand side by side in the last dimension (one element of each a row); a single
    one holds all elements in row-major order. All are one-dimensional and of the tensor's dtype.

    Raises:
        InputError: as `gather`.
    """
    arrays = [
        _gather_column(batch.column(column.name), column, tensor) for column in tensor.columns
    ]
    _check_side_by_side([len(array) for array in arrays], len(batch), tensor)
    size = sum(len(array) for array in arrays)
    return _fitted_shape(size, len(batch), tensor), arrays


def gather_texts(
    batch: pa.RecordBatch, tensor: InputTensor
) -> tuple[tuple[int, ...], list[pa.Array]]:
    """Return a BYTES tensor's shape ``[rows, *tensor.shape]`` and what fills it, without copies.

    Several arrays stand side by side in the last dimension (one element of each a row); a single
    one holds all elements in row-major order. All are text or binary, without nulls.

    Raises:
        InputError: as `gather`.
    """
    arrays = [_texts(batch.column(column.name), column, tensor) for column in tensor.columns]
    _check_side_by_side([len(array) for array in arrays], len(batch), tensor)
    size = sum(len(array) for array in arrays)
    return _fitted_shape(size, len(batch), tensor), arrays


def _check_side_by_side(sizes: Sequence[int], rows: int, tensor: InputTensor) -> None:
    """Refuse a list column beside others, where only one value a row has a place."""
    for column, size in zip(tensor.columns, sizes, strict=True):
        if len(sizes) > 1 and size != rows:
            raise InputError(
                f"column {column.name!r} holds lists, which cannot stand beside other columns in "
                f"tensor {tensor.name!r}; map it alone, or columns of single values"
            )


def _fitted_shape(size: int, rows: int, tensor: InputTensor) -> tuple[int, ...]:
    """Return ``[rows, *tensor.shape]`` for ``size`` elements; a free dimension takes what is left.

    Raises:
        InputError: the elements do not fill the shape, or it has several free dimensions.
    """
    width = size // max(rows, 1)
    fixed = math.prod(dimension for dimension in tensor.shape if dimension >= 0)
    free = tensor.shape.count(-1)
    if free == 1 and fixed and width % fixed == 0:
        return (rows, *(width // fixed if d < 0 else d for d in tensor.shape))
    if free or width != fixed:
        raise InputError(
            f"tensor {tensor.name!r} wants shape {list(tensor.shape)} a row, but the mapped "
            f"columns give {width} values a row; map columns that fill it"
        )
    return (rows, *tensor.shape)


def _gather_column(array: pa.Array, column: Column, tensor: InputTensor) -> Tensor:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if column.categories is not None:
        return _codes(array, column, tensor)
    if tensor.datatype.name == "BYTES":
        return _objects(_texts(array, column, tensor))
    array = _flattened(array, column, tensor)
    if array.null_count:
        array = _filled(array, column.null, column, tensor, "null")
    return _cast(array, column, tensor)


def _flattened(array: pa.Array, column: Column, tensor: InputTensor) -> pa.Array:
    """Return the elements of a list column, row after row; a scalar column unchanged."""
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        if array.null_count:
            raise InputError(
                f"column {column.name!r} has a null list at row {_first(array.is_null())}; "
                "fill or drop it"
            )
        lengths = pc.list_value_length(array)
        if len(array) and pc.min(lengths) != pc.max(lengths):
            ragged = pc.not_equal(lengths, lengths[0])
            raise InputError(
                f"column {column.name!r} has lists of different lengths (first at row "
                f"{_first(ragged)}), but tensor {tensor.name!r} needs one length; pad them"
            )
        array = array.flatten()
    while pa.types.is_fixed_size_list(array.type):
        if array.null_count:
            raise InputError(
                f"column {column.name!r} has a null list at row {_first(array.is_null())}; "
                "fill or drop it"
            )
        array = array.flatten()
    return array


def _codes(array: pa.Array, column: Column, tensor: InputTensor) -> Tensor:
    """Return each value's position in the column's categories, as the tensor's dtype."""
    value_set = pa.array(column.categories)
    if not value_set.type.equals(array.type):
        value_set = value_set.cast(array.type)
    is_null = array.is_null()
    codes = pc.index_in(array, value_set=value_set, skip_nulls=True)
    if pc.any(is_null).as_py():
        codes = _filled(codes, column.null, column, tensor, "null", where=is_null)
    if codes.null_count:
        codes = _filled(codes, column.unknown, column, tensor, "unknown category", of=array)
    return _cast(codes, column, tensor)


def _filled(
    array: pa.Array,
    substitute: Substitute,
    column: Column,
    tensor: InputTensor,
    what: str,
    *,
    where: pa.Array | None = None,
    of: pa.Array | None = None,
) -> pa.Array:
    """Return ``array`` with ``substitute`` where it is null (or where ``where`` is true)."""
    mask = array.is_null() if where is None else where
    if substitute == "refuse":
        row = _first(mask)
        value = "" if of is None else f" {of[row].as_py()!r}"
        raise InputError(
            f"column {column.name!r} has a {what}{value} at row {row}, which tensor "
            f"{tensor.name!r} does not take; fill it, or export the model with a policy for it"
        )
    number = float("nan") if substitute == "nan" else float(substitute)
    if not array.type.equals(pa.float64()) and (substitute == "nan" or tensor.datatype.is_float):
        array = array.cast(pa.float64(), safe=False)
    return pc.if_else(mask, pa.scalar(number).cast(array.type), array)


def _cast(array: pa.Array, column: Column, tensor: InputTensor) -> Tensor:
    """Return ``array``, which has no nulls, as the tensor's dtype."""
    wanted = tensor.datatype
    try:
        cast = array if array.type == wanted.arrow else array.cast(wanted.arrow)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"column {column.name!r} does not fit tensor {tensor.name!r} ({wanted.name}): "
            f"{str(error).splitlines()[0]}; convert the column or export the model with a wider "
            "dtype"
        ) from None
    if pa.types.is_boolean(cast.type):
        return np.asarray(cast.to_numpy(zero_copy_only=False))
    values = np.asarray(cast.to_numpy())
    if wanted.is_float and pa.types.is_floating(array.type) and array.type != cast.type:
        overflow = np.isinf(values) & np.isfinite(array.to_numpy())
        if overflow.any():
            row = int(overflow.argmax())
            raise InputError(
                f"column {column.name!r} holds {array[row].as_py()!r} at row {row}, which "
                f"overflows tensor {tensor.name!r} ({wanted.name}); scale the column"
            )
    return values


def _texts(array: pa.Array, column: Column, tensor: InputTensor) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    array = _flattened(array, column, tensor)
    if array.null_count:
        raise InputError(
            f"column {column.name!r} has a null at row {_first(array.is_null())}, which a BYTES "
            "tensor cannot hold; fill it"
        )
    return array


def _objects(texts: pa.Array) -> Tensor:
    """Return texts as an object array of bytes."""
    values = np.empty(len(texts), dtype=object)
    values[:] = texts.cast(pa.large_binary()).to_pylist()
    return values


def _first(mask: pa.Array) -> int:
    """Return the position of the first true value."""
    return int(pc.index(mask, pa.scalar(value=True)).as_py())
