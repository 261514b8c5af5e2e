"""Part: the rows of one segment as the bytes of one file; committing it is the job's affair.

The same table always gives the same bytes: they hold no time, and how its rows lie in memory, in
chunks or as a view of more, changes nothing. (In Arrow files, what lies under a null of a kept
column of a nested or rare type may differ.)
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Mapping, Sequence
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tritonbulk.codec import Predictions, prediction_field
from tritonbulk.codec.predictions import ERROR_COLUMN, STATUS_COLUMN
from tritonbulk.contract import OutputTensor
from tritonbulk.errors import FailureLimitError, OptionError
from tritonbulk.options import OutFormat
from tritonbulk.scorer_options import Vectors

DTYPE_KEY = "tritonbulk.dtype"
"""Key in the metadata of a binary vector's field: NumPy's name of its elements' dtype, which are
little-endian."""

SHAPE_KEY = "tritonbulk.shape"
"""Key in the same place: its dimensions, row-major, joined by commas."""

_ZEROED_KINDS = (
    pa.types.is_primitive,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_decimal128,
)

_SAMPLE_ROWS = 1024
"""Rows that tell whether texts repeat: enough to tell, few enough to cost nothing."""


def unfit_for_csv(schema: pa.Schema) -> str | None:
    """Return the name of the first column that CSV cannot hold: lists, bytes; None if all fit."""
    types = pa.types
    for field in schema:
        kind = field.type
        if (
            types.is_nested(kind)
            or types.is_binary(kind)
            or types.is_large_binary(kind)
            or types.is_fixed_size_binary(kind)
        ):
            return str(field.name)
    return None


def output_schema(
    keep: Sequence[pa.Field],
    outputs: Sequence[OutputTensor],
    names: Sequence[str],
    vectors: Vectors = "list",
    *,
    has_status: bool = True,
) -> pa.Schema:
    """Return the schema of scored rows; without status columns no row may fail.

    Raises:
        OptionError: two columns would have one name; a retry does not help.
    """
    predictions = map(prediction_field, outputs, names)
    fields = [*keep, *(_vector_field(field, vectors) for field in predictions)]
    if has_status:
        fields += [pa.field(STATUS_COLUMN, pa.int32()), pa.field(ERROR_COLUMN, pa.string())]
    taken: set[str] = set()
    for field in fields:
        if field.name in taken:
            raise OptionError(
                f"the output would have two columns named {field.name!r}; rename a prediction with "
                f"--rename tensor=column, or leave the input column out with --keep"
            )
        taken.add(field.name)
    return pa.schema(fields)


def check_writable(schema: pa.Schema, out_format: OutFormat) -> None:
    """Refuse a column that parts of this format cannot hold.

    Raises:
        OptionError: names it; a retry does not help.
    """
    for field in schema:
        try:
            encode_part(pa.schema([field]).empty_table(), io.BytesIO(), out_format, [field.name])
        except (pa.ArrowException, OSError) as error:
            other = "parquet" if out_format == "arrow" else "arrow"
            raise OptionError(
                f"column {field.name!r} ({field.type}) cannot be written as {out_format} "
                f"({str(error).splitlines()[0]}); leave it out with --keep, or try --out-format "
                f"{other}"
            ) from None


def schema_as_read(schema: pa.Schema, out_format: OutFormat, kept: Sequence[str]) -> pa.Schema:
    """Return the schema that `decode_part` gives parts of `output_schema`; formats change types."""
    file = io.BytesIO()
    encode_part(schema.empty_table(), file, out_format, kept)
    return decode_part(file.getvalue(), out_format).schema.remove_metadata()


def scored_rows(
    kept: pa.RecordBatch,
    predictions: Predictions,
    vectors: Vectors,
    *,
    has_status: bool = True,
) -> pa.RecordBatch:
    """Return the rows of one segment with their predictions; the columns of `output_schema`.

    Args:
        kept: the input columns that stand before the predictions; may have none.
        predictions: complete.
        vectors: how a prediction of several numbers of fixed shape stands in a row.
        has_status: whether there are the columns of status and error.

    Raises:
        FailureLimitError: there is a failed row and no column to say so; no retry.
    """
    if predictions.rows_failed and not has_status:
        raise FailureLimitError(
            f"{predictions.rows_failed} rows failed, and without status columns nothing would tell "
            "them apart; score into another --out without --no-status"
        )
    columns = [*zip(kept.schema, kept.columns, strict=True)]
    for field, array in predictions.to_columns():
        if not has_status and field.name in (STATUS_COLUMN, ERROR_COLUMN):
            continue
        as_written = _vector_field(field, vectors)
        columns.append((as_written, array if as_written is field else _packed(array)))
    schema = pa.schema([field for field, _ in columns])
    return pa.RecordBatch.from_arrays([array for _, array in columns], schema=schema)


def part_table(rows: pa.RecordBatch, metadata: Mapping[str, str]) -> pa.Table:
    """Return the table of one part: `scored_rows`, with what stands in the footer."""
    return pa.Table.from_batches([rows]).replace_schema_metadata(dict(metadata))


def encode_part(
    table: pa.Table, file: IO[bytes], out_format: OutFormat, kept: Sequence[str]
) -> None:
    """Write ``table`` to ``file`` as one part, schema metadata included; neither flush nor close.

    Args:
        table: of `part_table`.
        file: open for writing bytes, at its beginning.
        out_format: of the file.
        kept: names of the columns that are no predictions.

    Raises:
        OSError: the file cannot be written.
    """
    if out_format == "arrow":
        table = _rebuilt(table)
        with pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=max(table.num_rows, 1))
        return
    vectors = {field.name for field in table.schema if _is_vector(field)} - set(kept)
    paths = {field.name: _leaf_paths(field) for field in table.schema}
    leaves = [path for name in paths if name not in vectors for path in paths[name]]
    # As schema metadata it would stand in the file twice, the second time in Base64.
    with pq.ParquetWriter(
        file,
        table.schema.remove_metadata(),
        write_page_checksum=True,
        # Predictions hardly ever repeat: a dictionary costs five times the writing, saves nothing.
        use_dictionary=[name for name in kept if _repeats(table[name])] or False,
        # Of a vector neither serves anybody: extremes of single elements, floats without patterns.
        # Parquet takes no codec for the leaves that are not named.
        write_statistics=leaves,
        compression=dict.fromkeys(leaves, "snappy") if vectors else "snappy",
    ) as writer:
        writer.write_table(
            table.replace_schema_metadata(None), row_group_size=max(table.num_rows, 1)
        )
        writer.add_key_value_metadata(table.schema.metadata or {})


def decode_part(data: bytes, out_format: OutFormat) -> pa.Table:
    """Return the table in the bytes of a part.

    Raises:
        pa.ArrowException, OSError: they cannot be read, or a page's checksum is wrong.
    """
    if out_format == "arrow":
        return pa.ipc.open_file(data).read_all()
    return pq.read_table(pa.BufferReader(data), page_checksum_verification=True)


def _is_vector(field: pa.Field) -> bool:
    kind = field.type
    return pa.types.is_fixed_size_list(kind) or pa.types.is_fixed_size_binary(kind)


def _vector_field(field: pa.Field, vectors: Vectors) -> pa.Field:
    """Return the field as it is written; the same object if it is no vector to pack."""
    shape, element = [], field.type
    while pa.types.is_fixed_size_list(element):
        shape.append(element.list_size)
        element = element.value_type
    is_packed = vectors == "binary" and shape and math.prod(shape)
    # Arrow holds booleans as bits, and texts have no fixed size.
    if not is_packed or not (pa.types.is_integer(element) or pa.types.is_floating(element)):
        return field
    metadata = {
        DTYPE_KEY: element.to_pandas_dtype().__name__,
        SHAPE_KEY: ",".join(map(str, shape)),
    }
    size_bytes = math.prod(shape) * element.bit_width // 8
    return pa.field(field.name, pa.binary(size_bytes), metadata=metadata)


def _packed(vectors: pa.Array) -> pa.Array:
    """Return fixed-size lists of numbers as fixed-size binaries; nothing but nulls is copied."""
    elements, lists = vectors, 1
    while pa.types.is_fixed_size_list(elements.type):
        lists *= elements.type.list_size
        elements = elements.values.slice(elements.offset * elements.type.list_size)
    width = lists * elements.type.bit_width // 8
    nulls = None
    if vectors.null_count:
        nulls = pa.array(vectors.is_valid()).buffers()[1]
    begin = elements.offset * elements.type.bit_width // 8
    data = elements.buffers()[1].slice(begin, len(vectors) * width)
    return pa.Array.from_buffers(pa.binary(width), len(vectors), [nulls, data])


def _repeats(column: pa.ChunkedArray) -> bool:
    """Return whether a column is of texts that repeat, by its first rows."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return True
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return False
    sample = column.slice(0, _SAMPLE_ROWS)
    return pc.count_distinct(sample).as_py() * 2 <= len(sample)


@functools.lru_cache(maxsize=4096)
def _leaf_paths(field: pa.Field) -> tuple[str, ...]:
    """Return the paths of a column's leaves; in nested ones the writer knows them best."""
    if not pa.types.is_nested(field.type):
        return (field.name,)
    file = pa.BufferOutputStream()
    pq.write_table(pa.schema([field.remove_metadata()]).empty_table(), file)
    written = pq.read_metadata(pa.BufferReader(file.getvalue())).schema
    return tuple(written.column(index).path for index in range(len(written)))


def _rebuilt(table: pa.Table) -> pa.Table:
    """Return the table without what lies around a view or under a null, which IPC writes as it is.

    What lies under the nulls of nested and of rare types stays.
    """
    whole = pa.concat_tables([table.slice(0, 0), table]).combine_chunks()
    columns = [
        pa.chunked_array([_zeroed(chunk) for chunk in column.chunks], column.type)
        for column in whole.columns
    ]
    return pa.Table.from_arrays(columns, schema=whole.schema)


def _zeroed(array: pa.Array) -> pa.Array:
    """Return the array with zeros (or empty texts) under its nulls."""
    kind = array.type
    if not array.null_count or not any(is_kind(kind) for is_kind in _ZEROED_KINDS):
        return array
    is_text = len(array.buffers()) == 3
    zeros = pa.py_buffer(bytes(16 if is_text else kind.bit_width // 8 + 1))
    zero = pa.Array.from_buffers(kind, 1, [None, zeros, zeros] if is_text else [None, zeros])[0]
    valid = array.is_valid()
    filled = pc.if_else(valid, array, zero)
    return pa.Array.from_buffers(kind, len(array), [valid.buffers()[1], *filled.buffers()[1:]])
