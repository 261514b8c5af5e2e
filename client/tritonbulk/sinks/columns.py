"""Columns: the types of a part as those that a sink can hold. Pure.

Values stay what they are: types only get wider, and one that would change a value is an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pyarrow as pa

from tritonbulk.errors import OutputError

Rule = Callable[[pa.DataType], pa.DataType | None]
"""Type without parts → the one that holds it in a sink; None: the sink has none."""


def fit(schema: pa.Schema, rule: Rule, sink: str) -> pa.Schema:
    """Return the schema of a table in a sink, for parts of ``schema``.

    Dictionaries become their values, and the bytes of ``--vectors binary`` lists again.

    Raises:
        OutputError: names the first column that the sink cannot hold; a retry does not help.
    """
    fields = []
    for field in schema:
        kind = mapped(_unpacked(field), rule)
        if kind is None:
            raise OutputError(
                f"column {field.name!r} is {field.type}, which {sink} cannot hold; publish to "
                "another sink, or score without it (--columns)"
            )
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def is_written_as(schema: pa.Schema, fitted: pa.Schema) -> bool:
    """Return whether the Parquet file of a part of ``schema`` holds just the types of ``fitted``.

    Then its bytes will do: dictionaries and sizes of lists are no types in Parquet.
    """
    return all(
        mapped(field.type, lambda kind: kind) == there.type
        for field, there in zip(schema, fitted, strict=True)
    )


def cast(table: pa.Table, fitted: pa.Schema) -> pa.Table:
    """Return a part's rows with the types of `fit`.

    Raises:
        OutputError: names the column of which a value would change; a retry does not help.
    """
    columns = []
    for field, there in zip(table.schema, fitted, strict=True):
        column = table[field.name]
        if _unpacked(field) != field.type:
            column = pa.chunked_array(
                [_unpack(chunk, _unpacked(field)) for chunk in column.chunks], _unpacked(field)
            )
        try:
            columns.append(column.cast(there.type))
        except pa.ArrowInvalid as error:
            raise OutputError(
                f"column {field.name!r} has a value that {there.type} cannot hold unchanged; "
                "publish to another sink, or score without it (--columns)"
            ) from error
    return pa.table(columns, schema=fitted)


def mapped(kind: pa.DataType, rule: Rule) -> pa.DataType | None:
    """Return a type with `rule` applied to it and, before, to what it is made of."""
    if pa.types.is_dictionary(kind):
        return mapped(kind.value_type, rule)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = mapped(kind.value_type, rule)
        return None if item is None else rule(_list_like(kind, item))
    if pa.types.is_struct(kind):
        inside = [(field.name, mapped(field.type, rule)) for field in kind]
        is_whole = all(each is not None for _, each in inside)
        return rule(pa.struct(inside)) if is_whole else None
    return rule(kind)


def _list_like(kind: pa.DataType, item: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(item, kind.list_size)
    return pa.large_list(item) if pa.types.is_large_list(kind) else pa.list_(item)


def _unpacked(field: pa.Field) -> pa.DataType:
    """Return the type of a column whose vectors are lists again; see ``--vectors binary``."""
    told = field.metadata or {}
    if not pa.types.is_fixed_size_binary(field.type) or b"tritonbulk.dtype" not in told:
        return field.type
    kind = pa.from_numpy_dtype(told[b"tritonbulk.dtype"].decode())
    for size in reversed(told[b"tritonbulk.shape"].decode().split(",")):
        kind = pa.list_(kind, int(size))
    return kind


def _unpack(packed: pa.FixedSizeBinaryArray, kind: pa.DataType) -> pa.Array:
    """Return the vectors in a column of bytes."""
    element, sizes = kind, []
    while pa.types.is_fixed_size_list(element):
        sizes.append(element.list_size)
        element = element.value_type
    # A column that is sliced keeps the buffer of the whole.
    count, begin = math.prod(sizes), packed.offset
    values = pa.Array.from_buffers(
        element, (begin + len(packed)) * count, [None, packed.buffers()[1]]
    )
    array = values.slice(begin * count)
    for size in reversed(sizes[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return pa.FixedSizeListArray.from_arrays(
        array, sizes[0], mask=packed.is_null() if packed.null_count else None
    )
