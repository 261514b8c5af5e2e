"""Columns: their choice by name or pattern, and the bytes that one row of them takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import pyarrow as pa

from tritonbulk.errors import InputError

VARIABLE_BYTES = 64.0
"""What a value without a fixed width is taken for where the file does not tell its size."""


def matching(patterns: Sequence[str], names: Sequence[str], option: str) -> tuple[str, ...]:
    """Return the names that match any of ``patterns``, in the order of the patterns, each once.

    Raises:
        InputError: a pattern matches nothing; names ``option``. A retry does not help.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        hits = [name for name in names if name == pattern or fnmatchcase(name, pattern)]
        if not hits:
            raise InputError(
                f"{option} {pattern!r} matches no column; the file has {', '.join(names)}"
            )
        found.update(dict.fromkeys(hits))
    return tuple(found)


def fixed_bytes(kind: pa.DataType) -> float | None:
    """Return the bytes that one value of a type takes in memory, None if values differ."""
    if pa.types.is_null(kind):
        return 0.0
    if pa.types.is_fixed_size_list(kind):
        each = fixed_bytes(kind.value_type)
        return None if each is None else each * kind.list_size
    if pa.types.is_struct(kind):
        parts = [fixed_bytes(kind.field(index).type) for index in range(kind.num_fields)]
        return None if None in parts else sum(part for part in parts if part is not None)
    try:
        return kind.bit_width / 8
    except ValueError:
        return None


def row_bytes(schema: pa.Schema, measured: Mapping[str, float]) -> int:
    """Return the bytes in memory of one row of ``schema``, at least 1.

    Args:
        schema: the columns.
        measured: mean bytes a value of columns without a fixed width, as far as known.
    """
    total = 0.0
    for field in schema:
        fixed = fixed_bytes(field.type)
        total += measured.get(field.name, VARIABLE_BYTES) if fixed is None else fixed
    return max(round(total), 1)


def measure(rows: pa.RecordBatch) -> dict[str, float]:
    """Return the mean bytes a value of those columns of ``rows`` that have no fixed width."""
    return {
        field.name: column.nbytes / len(rows)
        for field, column in zip(rows.schema, rows.columns, strict=True)
        if len(rows) and fixed_bytes(field.type) is None
    }
