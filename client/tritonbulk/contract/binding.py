"""Binding: which file columns feed which tensor, decided and checked before the first row.

Names are resolved once, against one schema, into explicit lists; from then on columns are found
by name. Nothing here looks at values: `gather` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from math import prod

import pyarrow as pa

from tritonbulk.contract.schema import Column, InputTensor
from tritonbulk.errors import ContractError, InputError, OptionError

InputMap = Mapping[str, tuple[str, ...]]
"""Tensor name → column names or patterns, in tensor order."""


def parse_input_map(entries: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the mapping that ``tensor=column[,column…]`` entries describe.

    A column may be a pattern with ``*``, ``?`` or ``[…]``.

    Raises:
        OptionError: an entry has another form or names a tensor twice; a retry does not help.
    """
    mapping: dict[str, tuple[str, ...]] = {}
    for entry in entries:
        tensor, equals, columns = entry.partition("=")
        names = tuple(name.strip() for name in columns.split(","))
        if not equals or not tensor.strip() or not all(names):
            raise OptionError(
                f"--input-map {entry!r} is not of the form tensor=column[,column…]; "
                "write for example x=age,income or x=f*"
            )
        if tensor.strip() in mapping:
            raise OptionError(
                f"--input-map names tensor {tensor.strip()!r} twice; give it all its columns once"
            )
        mapping[tensor.strip()] = names
    return mapping


def bind_inputs(
    inputs: Sequence[InputTensor], input_map: InputMap, schema: pa.Schema
) -> tuple[InputTensor, ...]:
    """Return ``inputs`` with the columns that feed them.

    A tensor in ``input_map`` takes the columns given there; a tensor that already has columns
    keeps them; any other takes the column of its own name.

    Raises:
        ContractError: the map names an unknown tensor, or a tensor without columns; no retry.
        InputError: a column or pattern matches nothing in ``schema``; no retry.
    """
    known = {tensor.name for tensor in inputs}
    for name in input_map:
        if name not in known:
            raise ContractError(
                f"--input-map names tensor {name!r}, but the model's inputs are "
                f"{', '.join(sorted(known))}; use one of these"
            )
    return tuple(_bind_tensor(tensor, input_map.get(tensor.name), schema) for tensor in inputs)


def _bind_tensor(
    tensor: InputTensor, patterns: tuple[str, ...] | None, schema: pa.Schema
) -> InputTensor:
    if patterns is None:
        if tensor.columns:
            return tensor
        if tensor.name not in schema.names:
            raise ContractError(
                f"no column is known for input tensor {tensor.name!r} and the file has none of "
                f"that name; say which with --input-map {tensor.name}=column[,column…]"
            )
        patterns = (tensor.name,)
    names = [name for pattern in patterns for name in _expand(pattern, schema)]
    # A remapped column keeps the categories and null policy that the contract gives that name.
    known = {column.name: column for column in tensor.columns}
    return replace(tensor, columns=tuple(known.get(name, Column(name)) for name in names))


def _expand(pattern: str, schema: pa.Schema) -> list[str]:
    if pattern in schema.names:
        return [pattern]
    names = [name for name in schema.names if fnmatchcase(name, pattern)]
    if not names:
        raise InputError(f"no column matches {pattern!r}; the file has {_abbreviate(schema.names)}")
    return names


def check_columns(inputs: Sequence[InputTensor], schema: pa.Schema, where: str) -> None:
    """Check that every column exists in ``schema``, once, with a type its tensor can take.

    Args:
        inputs: tensors with their columns.
        schema: of the file.
        where: names the file in errors.

    Raises:
        InputError: it does not; a retry does not help.
    """
    for tensor in inputs:
        _check_width(tensor, schema)
        for column in tensor.columns:
            count = schema.names.count(column.name)
            if count != 1:
                problem = "is missing" if count == 0 else f"appears {count} times"
                raise InputError(
                    f"column {column.name!r} (for tensor {tensor.name!r}) {problem} in {where}, "
                    f"which has {_abbreviate(schema.names)}; mend the file or map another column "
                    f"with --input-map"
                )
            _check_type(column, schema.field(column.name).type, tensor, where)


def _check_width(tensor: InputTensor, schema: pa.Schema) -> None:
    """Check that the columns can fill one row of the tensor, as far as their types tell."""
    kinds = {field.name: field.type for field in schema}
    widths = [_width(kinds[c.name]) if c.name in kinds else 1 for c in tensor.columns]
    if None in widths or -1 in tensor.shape:
        return
    wanted, found = prod(tensor.shape), sum(width for width in widths if width is not None)
    if wanted != found:
        columns = len(tensor.columns)
        raise ContractError(
            f"tensor {tensor.name!r} takes {wanted} values a row but {columns} columns are mapped "
            f"to it" + (f", with {found} values" if found != columns else "") + "; map columns "
            "that fill it with --input-map"
        )


def _width(found: pa.DataType) -> int | None:
    """Return how many values a row of a column has, None where only the rows tell."""
    width = 1
    while _is_list(found):
        if not pa.types.is_fixed_size_list(found):
            return None
        width, found = width * found.list_size, found.value_type
    return width


def _check_type(column: Column, found: pa.DataType, tensor: InputTensor, where: str) -> None:
    element = element_type(found)
    if _is_list(found) and (column.categories is not None or not tensor.shape):
        raise InputError(
            f"column {column.name!r} in {where} holds lists, but tensor {tensor.name!r} wants "
            "one value of it a row; map a scalar column"
        )
    if pa.types.is_null(element) and column.null != "refuse":
        return
    kind = _kind(element)
    wanted = _wanted_kinds(column, tensor)
    if kind not in wanted:
        raise InputError(
            f"column {column.name!r} in {where} is {found}, but tensor {tensor.name!r} "
            f"({tensor.datatype.name}) wants {' or '.join(wanted)}; convert the column or map "
            "another one with --input-map"
        )


def _wanted_kinds(column: Column, tensor: InputTensor) -> tuple[str, ...]:
    """Return the kinds of values that may feed ``tensor`` from this column."""
    if column.categories is not None:
        return ("text",) if any(isinstance(v, str) for v in column.categories) else ("integer",)
    if tensor.datatype.name == "BYTES":
        return ("text",)
    if column.dtype is None:
        return ("integer", "float", "truth")
    # Whole numbers are as good as the fractions that the model was shown, not the other way round.
    kind = _kind(pa.type_for_alias(column.dtype))
    return ("integer", "float") if kind == "float" else (kind,)


def element_type(found: pa.DataType) -> pa.DataType:
    """Return the type of a column's values; of a list, that of its elements."""
    while _is_list(found) or pa.types.is_dictionary(found):
        found = found.value_type
    return found


def _kind(found: pa.DataType) -> str:
    types = pa.types
    if _is_text(found):
        return "text"
    if types.is_integer(found):
        return "integer"
    if types.is_floating(found):
        return "float"
    return "truth" if types.is_boolean(found) else str(found)


def _is_list(found: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(found) or types.is_large_list(found) or types.is_fixed_size_list(found)
    )


def _is_text(found: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_string(found)
        or types.is_large_string(found)
        or types.is_binary(found)
        or types.is_large_binary(found)
    )


def _abbreviate(names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown}, … ({len(names)} columns)"
