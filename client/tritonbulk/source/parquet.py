"""Parquet: row groups of any size, streamed page by page.

Column chunks are read through small buffers instead of whole, so that one huge row group costs no
more memory than many; on files with ordinary row groups this is as fast.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from tritonbulk.errors import InputError
from tritonbulk.source.columns import fixed_bytes, measure
from tritonbulk.source.reader import Description, InputFile, opening, reading

COLUMN_BUFFER_BYTES = 64 * 2**10
"""Bytes read at a time of one column."""

BUFFERS_BYTES_MAX = 16 * 2**20
"""Bytes of these buffers over all columns; very wide files read in smaller steps."""

_BUFFER_BYTES_MIN = 4 * 2**10

SAMPLE_ROWS = 64
"""First rows that are read to learn the size of text and lists."""

SAMPLE_BYTES = 2**20
"""Bytes of these, as far as metadata tell."""

_GROUPS_LOOKED_AT = 64
"""Row groups, evenly spread, whose metadata tell the size of text and lists."""


def describe(file: InputFile, like: pa.Schema | None) -> Description:  # noqa: ARG001
    """See `tritonbulk.source.reader.Reader.describe`."""
    with _opened(file) as parquet, opening(file):
        return Description(
            parquet.schema_arrow.remove_metadata(),
            parquet.metadata.num_rows,
            _value_bytes(parquet),
        )


def read(file: InputFile, schema: pa.Schema, block_rows: int) -> Iterator[pa.RecordBatch]:
    """See `tritonbulk.source.reader.Reader.read`."""
    with _opened(file, columns=len(schema)) as parquet, reading(file):
        # Threads inside the reader would fight the server for the cores and gain nothing
        # measurable; reading ahead happens one level up.
        yield from parquet.iter_batches(block_rows, columns=schema.names, use_threads=False)


def null_counts(file: InputFile, columns: Sequence[str]) -> dict[str, int]:
    """Return the nulls of each column, as far as statistics tell; others are left out."""
    counts: dict[str, int] = {}
    with _opened(file) as parquet:
        metadata = parquet.metadata
        for name, position in _leaves(metadata, columns).items():
            groups = [
                metadata.row_group(group).column(position).statistics
                for group in range(metadata.num_row_groups)
            ]
            if all(statistics is not None and statistics.has_null_count for statistics in groups):
                counts[name] = sum(statistics.null_count for statistics in groups)
    return counts


@contextlib.contextmanager
def _opened(file: InputFile, columns: int = 1) -> Iterator[pq.ParquetFile]:
    buffer_bytes = max(
        min(COLUMN_BUFFER_BYTES, BUFFERS_BYTES_MAX // max(columns, 1)), _BUFFER_BYTES_MIN
    )
    if file.compression is not None:
        raise InputError(
            f"input file {file.name} is Parquet inside {file.compression}, which can only be read "
            "from the front; decompress it (Parquet compresses its own pages)"
        )
    with contextlib.ExitStack() as stack:
        with opening(file):
            handle = stack.enter_context(file.filesystem.open_input_file(file.path))
            parquet = stack.enter_context(pq.ParquetFile(handle, buffer_size=buffer_bytes))
        yield parquet


def _leaves(metadata: pq.FileMetaData, columns: Sequence[str]) -> dict[str, int]:
    """Return the position of each plain column's values in the file."""
    positions = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
    return {name: positions[name] for name in columns if name in positions}


def _value_bytes(parquet: pq.ParquetFile) -> dict[str, float]:
    """Return the mean bytes a value of columns without a fixed width.

    The larger of what the metadata and the first rows tell: where a dictionary stands for long
    values, the metadata know only its size.
    """
    varying = [field.name for field in parquet.schema_arrow if fixed_bytes(field.type) is None]
    if not varying:
        return {}
    told = _told_by_metadata(parquet.metadata, set(varying))
    rows = max(min(SAMPLE_ROWS, int(SAMPLE_BYTES / max(sum(told.values()), 1.0))), 1)
    first = next(parquet.iter_batches(rows, columns=varying, use_threads=False), None)
    seen = {} if first is None else measure(first)
    return {name: max(told.get(name, 0.0), seen.get(name, 0.0)) for name in {*told, *seen}}


def _told_by_metadata(metadata: pq.FileMetaData, names: set[str]) -> dict[str, float]:
    """Return the mean uncompressed bytes a value of some columns."""
    leaves = [
        (owner, index)
        for index in range(metadata.num_columns)
        if (owner := _owner(metadata.schema.column(index).path, names)) is not None
    ]
    step = max(metadata.num_row_groups // _GROUPS_LOOKED_AT, 1)
    groups = [metadata.row_group(each) for each in range(0, metadata.num_row_groups, step)]
    rows = sum(group.num_rows for group in groups)
    total: dict[str, float] = {}
    for owner, index in leaves if rows else ():
        size = sum(group.column(index).total_uncompressed_size for group in groups)
        total[owner] = total.get(owner, 0.0) + size / rows
    return total


def _owner(path: str, names: set[str]) -> str | None:
    """Return the column that a leaf's dotted path belongs to, if it is one of ``names``."""
    if path in names:
        return path
    first = path.partition(".")[0]
    return first if first in names else None
