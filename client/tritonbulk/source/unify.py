"""Unify: one schema for all files of a source, where that changes no value; else a refusal. Pure.

Columns are matched by name; their order is that of the first file. A type gives way to another
only if the other holds each of its values exactly.
"""

from __future__ import annotations

import pyarrow as pa

from tritonbulk.errors import InputError

_FLOATS = {16: pa.float16(), 32: pa.float32(), 64: pa.float64()}
_EXACT_INTEGER_BITS = {16: 11, 32: 24, 64: 53}
_REMEDY = "give all files the same columns, or leave it out with --columns"


def check_names(schema: pa.Schema, name: str) -> None:
    """Check that no two columns of file ``name`` have one name.

    Raises:
        InputError: two have; a retry does not help.
    """
    if len(set(schema.names)) == len(schema.names):
        return
    twice = next(each for each in schema.names if schema.names.count(each) > 1)
    raise InputError(f"{name} has two columns named {twice!r}; rename one")


def unify(schema: pa.Schema, first: str, other: pa.Schema, name: str) -> pa.Schema:
    """Return the schema that holds the values of both.

    Args:
        schema: of the files so far.
        first: names the first of them.
        other: schema of one more file.
        name: names it.

    Raises:
        InputError: there is none; says which file and column. A retry does not help.
    """
    if schema.equals(other):
        return schema
    for missing in schema.names:
        if missing not in other.names:
            raise InputError(f"{name} lacks column {missing!r}, which {first} has; {_REMEDY}")
    for extra in other.names:
        if extra not in schema.names:
            raise InputError(f"{name} has column {extra!r}, which {first} lacks; {_REMEDY}")
    fields = []
    for field in schema:
        kind = common_type(field.type, other.field(field.name).type)
        if kind is None:
            raise InputError(
                f"column {field.name!r} is {other.field(field.name).type} in {name} but "
                f"{field.type} in {first}; convert one, or leave it out with --columns"
            )
        fields.append(pa.field(field.name, kind))
    return pa.schema(fields)


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the smallest type that holds every value of both exactly, None if there is none."""
    types = pa.types
    if one.equals(other) or types.is_null(other):
        return one
    if types.is_null(one):
        return other
    if types.is_dictionary(one) or types.is_dictionary(other):
        return common_type(_plain(one), _plain(other))
    if types.is_floating(one) or types.is_floating(other):
        return _common_float(one, other)
    if types.is_integer(one) and types.is_integer(other):
        return _common_integer(one, other)
    if _is_text(one) and _is_text(other):
        return pa.large_string()
    if _is_binary(one) and _is_binary(other):
        return pa.large_binary()
    return _common_list(one, other)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _common_float(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    bits = 0
    for kind in (one, other):
        if pa.types.is_floating(kind):
            bits = max(bits, kind.bit_width)
        elif pa.types.is_integer(kind):
            needed = kind.bit_width - (1 if pa.types.is_signed_integer(kind) else 0)
            exact = [width for width, most in _EXACT_INTEGER_BITS.items() if needed <= most]
            if not exact:
                return None
            bits = max(bits, exact[0])
        else:
            return None
    return _FLOATS[bits]


def _common_integer(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    signed = [pa.types.is_signed_integer(kind) for kind in (one, other)]
    if signed[0] == signed[1]:
        return max(one, other, key=lambda kind: kind.bit_width)
    unsigned, with_sign = (one, other) if signed[1] else (other, one)
    bits = max(with_sign.bit_width, 2 * unsigned.bit_width)
    return {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}.get(bits)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _common_list(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the common type of two lists of one kind and size; names of their items are moot."""
    types = pa.types
    for is_list in (types.is_list, types.is_large_list, types.is_fixed_size_list):
        if is_list(one) and is_list(other):
            value = common_type(one.value_type, other.value_type)
            if value is None or types.is_dictionary(value):
                return None
            if is_list is types.is_fixed_size_list:
                same = one.list_size == other.list_size
                return pa.list_(value, one.list_size) if same else None
            return pa.list_(value) if is_list is types.is_list else pa.large_list(value)
    return None
