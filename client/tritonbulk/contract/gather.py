"""Gather: Arrow columns → one dense tensor, by the contract's types, categories and null policy.

A value that the tensor cannot hold exactly enough is an error that names column and row, never a
wrong number. The rule is Arrow's safe cast (integers must survive unchanged, fractions are not cut
off); finite floats must stay finite, and only 0 and 1 are truth values. It holds for every value by
itself, so that rows never depend on the batch they are in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tritonbulk.contract.datatypes import Datatype
from tritonbulk.contract.schema import Column, InputTensor, Substitute
from tritonbulk.errors import InputError

Tensor = npt.NDArray[np.generic]


def gather(batch: pa.RecordBatch, tensor: InputTensor) -> Tensor:
    """Return the tensor that ``batch`` feeds: shape ``[rows, *tensor.shape]``, C-contiguous.

    ``BYTES`` tensors come as object arrays of bytes; `gather_texts` gives them without objects.

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
    arrays = [_named(_values, batch, column, tensor) for column in tensor.columns]
    check_side_by_side([len(array) for array in arrays], len(batch), tensor)
    size = sum(len(array) for array in arrays)
    return fitted_shape(size, len(batch), tensor), arrays


def plain_views(rows: pa.RecordBatch, tensor: InputTensor) -> tuple[Tensor, ...] | None:
    """Return a view ``[rows, width]`` of each column, if the tensor's bytes are theirs as they are.

    They are where every column holds the tensor's very datatype (numbers, or lists of one fixed
    size), no null, and stands for itself: what `gather_numbers` then does for any run of rows is to
    take that run of the view. None where a value has to be checked, cast or substituted.
    """
    views = []
    for column in tensor.columns:
        array = rows.column(column.name)
        width = 1
        while _is_fixed(array.type) and not array.null_count:
            width *= array.type.list_size
            array = array.flatten()
        wanted = tensor.datatype
        if (
            array.type != wanted.arrow
            or not wanted.item_bytes
            or pa.types.is_boolean(array.type)  # Arrow packs eight to the byte
            or array.null_count
            or column.categories is not None
        ):
            return None
        begin_bytes = array.offset * wanted.item_bytes
        values = np.frombuffer(array.buffers()[1], wanted.numpy, len(array), begin_bytes)
        views.append(values.reshape(len(rows), width))
    return tuple(views)


def gather_texts(
    batch: pa.RecordBatch, tensor: InputTensor
) -> tuple[tuple[int, ...], list[pa.Array]]:
    """Return a BYTES tensor's shape ``[rows, *tensor.shape]`` and what fills it, without copies.

    Several arrays stand side by side in the last dimension (one element of each a row); a single
    one holds all elements in row-major order. All are text or binary, without nulls.

    Raises:
        InputError: as `gather`.
    """
    arrays = [_named(_texts, batch, column, tensor) for column in tensor.columns]
    check_side_by_side([len(array) for array in arrays], len(batch), tensor)
    size = sum(len(array) for array in arrays)
    return fitted_shape(size, len(batch), tensor), arrays


def check_side_by_side(sizes: Sequence[int], rows: int, tensor: InputTensor) -> None:
    """Refuse a list column beside others, where only one value a row has a place.

    Raises:
        InputError: one of ``sizes``, the elements of each column, is not ``rows``; no retry.
    """
    for column, size in zip(tensor.columns, sizes, strict=True):
        if len(sizes) > 1 and size != rows:
            raise InputError(
                f"column {column.name!r} holds lists, which cannot stand beside other columns in "
                f"tensor {tensor.name!r}; map it alone, or columns of single values"
            )


def _named(
    take: Callable[[pa.Array, Column, InputTensor], pa.Array | Tensor],
    batch: pa.RecordBatch,
    column: Column,
    tensor: InputTensor,
) -> pa.Array:
    """Return what ``take`` makes of a column; what Arrow cannot do is an error with its name."""
    array = batch.column(column.name)
    try:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return take(array, column, tensor)
    except pa.ArrowException as error:
        raise InputError(
            f"column {column.name!r} ({array.type}) does not fit tensor {tensor.name!r} "
            f"({tensor.datatype.name}): {str(error).splitlines()[0]}; convert the column, or "
            "export the model with a wider dtype"
        ) from None


def fitted_shape(size: int, rows: int, tensor: InputTensor) -> tuple[int, ...]:
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


def _values(array: pa.Array, column: Column, tensor: InputTensor) -> Tensor:
    if tensor.datatype.name == "BYTES":
        objects = np.empty(len(texts := _texts(array, column, tensor)), dtype=object)
        objects[:] = texts.cast(pa.large_binary()).to_pylist()
        return objects
    if column.categories is None:
        array = _flattened(array, column, tensor)
        exact = _exact(array, column, tensor)
        if exact.null_count:
            exact = _filled(exact, exact.is_null(), column.null, array, column, tensor)
    else:
        exact = _codes(array, column.categories, column, tensor)
    if pa.types.is_boolean(exact.type):
        return np.asarray(exact.to_numpy(zero_copy_only=False))
    return np.asarray(exact.to_numpy())


def _texts(array: pa.Array, column: Column, tensor: InputTensor) -> pa.Array:
    array = _flattened(array, column, tensor)
    if array.null_count:
        raise InputError(
            f"column {column.name!r} has a null at row {_first(array.is_null())}, which a BYTES "
            "tensor cannot hold; fill it"
        )
    return array


def _flattened(array: pa.Array, column: Column, tensor: InputTensor) -> pa.Array:
    """Return the elements of a list column, row after row; a scalar column unchanged."""
    types = pa.types
    while types.is_list(array.type) or types.is_large_list(array.type) or _is_fixed(array.type):
        if array.null_count:
            raise InputError(
                f"column {column.name!r} has a null list at row {_first(array.is_null())}; "
                "fill or drop it"
            )
        if not _is_fixed(array.type) and len(array):
            lengths = pc.list_value_length(array)
            ragged = pc.not_equal(lengths, lengths[0])
            if pc.any(ragged).as_py():
                raise InputError(
                    f"column {column.name!r} has lists of different lengths (first at row "
                    f"{_first(ragged)}), but tensor {tensor.name!r} needs one length; pad them"
                )
        array = array.flatten()
    return array


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind))


def _codes(
    array: pa.Array, categories: tuple[str | int, ...], column: Column, tensor: InputTensor
) -> pa.Array:
    """Return each value's position in the categories, as the tensor's datatype."""
    value_set = pa.array(categories)
    if pa.types.is_integer(value_set.type):
        array = array.cast(value_set.type)  # a narrow column may not hold every category
    else:
        value_set = value_set.cast(array.type)
    is_null = array.is_null()
    codes = pc.index_in(array, value_set=value_set, skip_nulls=True)
    is_unknown = pc.and_(codes.is_null(), pc.invert(is_null))
    exact = codes.cast(tensor.datatype.arrow)
    exact = _filled(exact, is_null, column.null, array, column, tensor)
    return _filled(exact, is_unknown, column.unknown, array, column, tensor)


def _exact(array: pa.Array, column: Column, tensor: InputTensor) -> pa.Array:
    """Return ``array`` as the tensor's datatype, nulls kept, every other value unchanged."""
    wanted = tensor.datatype
    if array.type == wanted.arrow:
        return array
    if pa.types.is_boolean(wanted.arrow):
        return _truths(array, column, tensor)
    exact = _cast(array, wanted)
    if wanted.is_float and pa.types.is_floating(array.type):
        overflow = pc.and_(pc.is_inf(exact), pc.is_finite(array))
        if pc.any(overflow).as_py():
            row = _first(overflow)
            raise InputError(
                f"column {column.name!r} holds {array[row].as_py()!r} at row {row}, which "
                f"overflows tensor {tensor.name!r} ({wanted.name}); scale the column"
            )
    return exact


def _cast(array: pa.Array, wanted: Datatype) -> pa.Array:
    # Arrow has no direct way from truth values to half floats.
    if pa.types.is_boolean(array.type) and pa.types.is_float16(wanted.arrow):
        array = array.cast(pa.float32())
    return array.cast(wanted.arrow)


def _truths(array: pa.Array, column: Column, tensor: InputTensor) -> pa.Array:
    numbers = array.cast(pa.float64(), safe=False)
    is_truth = pc.fill_null(pc.or_(pc.equal(numbers, 0.0), pc.equal(numbers, 1.0)), True)
    if not pc.all(is_truth).as_py():
        row = _first(pc.invert(is_truth))
        raise InputError(
            f"column {column.name!r} holds {array[row].as_py()!r} at row {row}, but tensor "
            f"{tensor.name!r} is BOOL; only 0, 1, false and true fit"
        )
    return pc.equal(numbers, 1.0)


def _filled(
    exact: pa.Array,
    where: pa.Array,
    substitute: Substitute,
    array: pa.Array,
    column: Column,
    tensor: InputTensor,
) -> pa.Array:
    """Return ``exact`` with the substitute where ``where`` is true; ``array`` is the file's."""
    if not pc.any(where).as_py():
        return exact
    if substitute == "refuse":
        row = _first(where)
        value = array[row].as_py()
        what = "null" if value is None else f"unknown category {value!r}"
        raise InputError(
            f"column {column.name!r} has a {what} at row {row}, which tensor {tensor.name!r} does "
            "not take; fill it, or export the model with a policy for it"
        )
    number = float("nan") if substitute == "nan" else substitute
    filler = _exact(pa.array([number], pa.float64()), column, tensor)[0]
    return pc.if_else(where, filler, exact)


def _first(mask: pa.Array) -> int:
    """Return the position of the first true value."""
    return int(pc.index(mask, pa.scalar(value=True)).as_py())
