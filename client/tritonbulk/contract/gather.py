"""Gather: Arrow columns → one dense tensor, by the contract's types, categories and null policy.

A value that the tensor cannot hold exactly enough is an error that names column and row, never a
wrong number. The rule is Arrow's safe cast (integers must survive unchanged, fractions are not cut
off); finite floats must stay finite (BF16 rounds them to nearest even), and only 0 and 1 are truth
values. It holds for every value by itself, so that rows never depend on the batch they are in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tritonbulk.contract.datatypes import Datatype
from tritonbulk.contract.schema import Column, InputTensor, Substitute
from tritonbulk.errors import InputError

Tensor = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class _Feed:
    """A column on its way into a tensor, from a batch of ``rows`` rows."""

    column: Column
    tensor: InputTensor
    rows: int

    def place(self, mask: pa.Array) -> str:
        """Name the row of the first true value; of a list's elements, its place there as well."""
        width = max(len(mask) // max(self.rows, 1), 1)
        row, element = divmod(_first(mask), width)
        return f"row {row}" if width == 1 else f"row {row}, element {element}"


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
    return np.concatenate(arrays, axis=1).reshape(shape)


def gather_numbers(
    batch: pa.RecordBatch, tensor: InputTensor
) -> tuple[tuple[int, ...], list[Tensor]]:
    """Return a tensor's shape ``[rows, *tensor.shape]`` and what fills it, copied only if cast.

    Several arrays, each ``[rows, width]``, stand side by side in the last dimension. A single one
    is one-dimensional and holds all elements in row-major order. All are of the tensor's dtype.

    Raises:
        InputError: as `gather`.
    """
    rows = len(batch)
    arrays = [_named(_values, batch, column, tensor) for column in tensor.columns]
    shape = fitted_shape(sum(array.size for array in arrays), rows, tensor)
    if len(arrays) > 1:
        arrays = [array.reshape(rows, -1) for array in arrays]
    return shape, arrays


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
            or array.type.bit_width != 8 * wanted.item_bytes  # bits of BOOL; BF16 is rounded
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
    """Return a BYTES tensor's shape ``[rows, *tensor.shape]`` and what fills it.

    Several arrays stand side by side in the last dimension (one element of each a row); a single
    one holds all elements in row-major order. All are text or binary, without nulls. Only lists
    beside other columns are copied.

    Raises:
        InputError: as `gather`.
    """
    rows = len(batch)
    arrays = [_named(_texts, batch, column, tensor) for column in tensor.columns]
    shape = fitted_shape(sum(len(array) for array in arrays), rows, tensor)
    if len(arrays) > 1:
        arrays = [part for array in arrays for part in _parts(array, rows)]
    return shape, arrays


def _parts(array: pa.Array, rows: int) -> list[pa.Array]:
    """Return the elements of lists apart: those that stand first in each row, second, and so on."""
    width = len(array) // max(rows, 1)
    if width <= 1:
        return [array] * width
    return [array.take(pa.array(range(at, len(array), width))) for at in range(width)]


def _named(
    take: Callable[[pa.Array, _Feed], pa.Array | Tensor],
    batch: pa.RecordBatch,
    column: Column,
    tensor: InputTensor,
) -> pa.Array:
    """Return what ``take`` makes of a column; what Arrow cannot do is an error with its name."""
    array = batch.column(column.name)
    try:
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        return take(array, _Feed(column, tensor, len(batch)))
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


def _values(array: pa.Array, feed: _Feed) -> Tensor:
    if feed.tensor.datatype.name == "BYTES":
        objects = np.empty(len(texts := _texts(array, feed)), dtype=object)
        objects[:] = texts.cast(pa.large_binary()).to_pylist()
        return objects
    if feed.column.categories is None:
        array = _flattened(array, feed)
        exact = _exact(array, feed)
        if exact.null_count:
            exact = _filled(exact, exact.is_null(), feed.column.null, array, feed)
    else:
        exact = _codes(array, feed.column.categories, feed)
    if pa.types.is_boolean(exact.type):
        return np.asarray(exact.to_numpy(zero_copy_only=False))
    return np.asarray(exact.to_numpy()).astype(feed.tensor.datatype.numpy, copy=False)


def _texts(array: pa.Array, feed: _Feed) -> pa.Array:
    array = _flattened(array, feed)
    if array.null_count:
        raise InputError(
            f"column {feed.column.name!r} has a null at {feed.place(array.is_null())}, which a "
            "BYTES tensor cannot hold; fill it"
        )
    return array


def _flattened(array: pa.Array, feed: _Feed) -> pa.Array:
    """Return the elements of a list column, row after row; a scalar column unchanged."""
    types = pa.types
    while types.is_list(array.type) or types.is_large_list(array.type) or _is_fixed(array.type):
        if array.null_count:
            raise InputError(
                f"column {feed.column.name!r} has a null list at {feed.place(array.is_null())}; "
                "fill or drop it"
            )
        if not _is_fixed(array.type) and len(array):
            lengths = pc.list_value_length(array)
            ragged = pc.not_equal(lengths, lengths[0])
            if pc.any(ragged).as_py():
                raise InputError(
                    f"column {feed.column.name!r} has lists of different lengths (first at "
                    f"{feed.place(ragged)}), but tensor {feed.tensor.name!r} needs one length; "
                    "pad them"
                )
        array = array.flatten()
    return array


def _is_fixed(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind))


def _codes(array: pa.Array, categories: tuple[str | int, ...], feed: _Feed) -> pa.Array:
    """Return each value's position in the categories, as the tensor's datatype."""
    value_set = pa.array(categories)
    if pa.types.is_integer(value_set.type):
        array = array.cast(value_set.type)  # a narrow column may not hold every category
    else:
        value_set = value_set.cast(array.type)
    is_null = array.is_null()
    codes = pc.index_in(array, value_set=value_set, skip_nulls=True)
    is_unknown = pc.and_(codes.is_null(), pc.invert(is_null))
    exact = codes.cast(feed.tensor.datatype.arrow)
    exact = _filled(exact, is_null, feed.column.null, array, feed)
    return _filled(exact, is_unknown, feed.column.unknown, array, feed)


def _exact(array: pa.Array, feed: _Feed) -> pa.Array:
    """Return ``array`` as the tensor's datatype, nulls kept, every other value unchanged."""
    wanted = feed.tensor.datatype
    if array.type == wanted.arrow and wanted.name != "BF16":
        return array
    if pa.types.is_boolean(wanted.arrow):
        return _truths(array, feed)
    exact = _cast(array, wanted)
    if wanted.name == "BF16":
        exact = _rounded(exact, pa.types.is_floating(array.type))
    if wanted.is_float and pa.types.is_floating(array.type):
        overflow = pc.and_(pc.is_inf(exact), pc.is_finite(array))
        if pc.any(overflow).as_py():
            raise InputError(
                f"column {feed.column.name!r} holds {array[_first(overflow)].as_py()!r} at "
                f"{feed.place(overflow)}, which overflows tensor {feed.tensor.name!r} "
                f"({wanted.name}); scale the column"
            )
    return exact


def _cast(array: pa.Array, wanted: Datatype) -> pa.Array:
    # Arrow has no direct way from truth values to half floats.
    if pa.types.is_boolean(array.type) and pa.types.is_float16(wanted.arrow):
        array = array.cast(pa.float32())
    return array.cast(wanted.arrow)


def _rounded(array: pa.Array, is_fraction: bool) -> pa.Array:
    """Return float32 values as BF16 holds them: fractions to nearest even, integers unchanged.

    Raises:
        pa.ArrowInvalid: an integer would change.
    """
    values = array.to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        rounded = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    changed = (rounded != values) & ~np.isnan(values)
    if not is_fraction and changed.any():
        raise pa.ArrowInvalid(f"Integer value {values[changed.argmax()]:.0f} would be rounded")
    return pa.array(rounded, mask=np.asarray(array.is_null()))


def _truths(array: pa.Array, feed: _Feed) -> pa.Array:
    numbers = array.cast(pa.float64(), safe=False)
    is_truth = pc.fill_null(pc.or_(pc.equal(numbers, 0.0), pc.equal(numbers, 1.0)), True)
    if not pc.all(is_truth).as_py():
        wrong = pc.invert(is_truth)
        raise InputError(
            f"column {feed.column.name!r} holds {array[_first(wrong)].as_py()!r} at "
            f"{feed.place(wrong)}, but tensor {feed.tensor.name!r} is BOOL; only 0, 1, false and "
            "true fit"
        )
    return pc.equal(numbers, 1.0)


def _filled(
    exact: pa.Array,
    where: pa.Array,
    substitute: Substitute,
    array: pa.Array,
    feed: _Feed,
) -> pa.Array:
    """Return ``exact`` with the substitute where ``where`` is true; ``array`` is the file's."""
    if not pc.any(where).as_py():
        return exact
    if substitute == "refuse":
        value = array[_first(where)].as_py()
        what = "null" if value is None else f"unknown category {value!r}"
        raise InputError(
            f"column {feed.column.name!r} has a {what} at {feed.place(where)}, which tensor "
            f"{feed.tensor.name!r} does not take; fill it, or export the model with a policy for it"
        )
    number = float("nan") if substitute == "nan" else substitute
    filler = _exact(pa.array([number], pa.float64()), feed)[0]
    return pc.if_else(where, filler, exact)


def _first(mask: pa.Array) -> int:
    """Return the position of the first true value."""
    return int(pc.index(mask, pa.scalar(value=True)).as_py())
