"""What the sinks that refer to Parquet files have in common: types, and the files themselves."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from tritonbulk.errors import OutputError
from tritonbulk.sinks.base import Portion, PublishedPart
from tritonbulk.sinks.columns import cast, is_written_as, mapped

_WIDER = {
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
    pa.float16(): pa.float32(),
    pa.date64(): pa.date32(),
    pa.null(): pa.string(),
}
"""Types that table formats lack, and those that hold their values."""


def rule(kind: pa.DataType) -> pa.DataType | None:
    """Return the type of a table format that holds an Arrow type; None: none does."""
    types = pa.types
    if types.is_timestamp(kind):
        return pa.timestamp("us", None if kind.tz is None else "UTC")
    if types.is_time(kind) or types.is_duration(kind) or types.is_map(kind):
        return None
    return _WIDER.get(kind, kind)


def check_columns(there: pa.Schema, fitted: pa.Schema, name: str) -> None:
    """Check that a table whose columns are ``there`` takes rows of ``fitted``; it may have more.

    Nothing looks at the values in files that are added, so no column may refuse a NULL.

    Raises:
        OutputError: names the first column that it lacks or has otherwise; a retry does not help.
    """
    for field in there:
        # A column that the parts lack is NULL as a whole, and what is inside it does not matter.
        if not field.nullable or (field.name in fitted.names and _refuses_null(field)):
            raise OutputError(
                f"{name} has column {field.name!r} without NULL, which nothing checks in files "
                "that are added; let it be NULL, or give another table"
            )
    for field in fitted:
        at = there.get_field_index(field.name)
        if at < 0:
            raise OutputError(f"{name} has no column {field.name!r}; give another table")
        if mapped(there.field(at).type, _canonical) != mapped(field.type, _canonical):
            raise OutputError(
                f"{name} has column {field.name!r} as {there.field(at).type}, and the parts have "
                f"{field.type}; give another table"
            )


def _refuses_null(field: pa.Field) -> bool:
    kind = field.type
    inside = [kind.field(at) for at in range(kind.num_fields)]
    return not field.nullable or any(map(_refuses_null, inside))


def _canonical(kind: pa.DataType) -> pa.DataType:
    """Return one type for all those that a table format does not tell apart."""
    types = pa.types
    if types.is_string(kind) or types.is_string_view(kind):
        return pa.large_string()
    if types.is_binary(kind) or types.is_binary_view(kind) or types.is_fixed_size_binary(kind):
        return pa.large_binary()
    if types.is_int8(kind) or types.is_int16(kind):
        return pa.int32()
    if types.is_list(kind) or types.is_fixed_size_list(kind):
        return pa.large_list(kind.value_type)
    return kind


def file_name(portion: Portion, part: PublishedPart, mark: str = "") -> str:
    """Return the name of a part's file in a table, which no other job's part has."""
    marks = f"-{mark}" if mark else ""
    return f"{part.name.partition('.')[0]}-{portion.file_mark}{marks}.parquet"


def file_bytes(part: PublishedPart, schema: pa.Schema, fitted: pa.Schema) -> bytes:
    """Return a Parquet file of a part's rows: its own bytes where these will do.

    The same part always gives the same bytes.
    """
    if part.is_parquet and is_written_as(schema, fitted):
        return part.read()
    buffer = io.BytesIO()
    pq.write_table(cast(part.table(), fitted), buffer, write_page_checksum=True)
    return buffer.getvalue()
