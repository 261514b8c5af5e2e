"""Parquet: row groups of any size, streamed page by page.

Column chunks are read through small buffers instead of whole, so that one huge row group costs no
more memory than many; on files with ordinary row groups this is as fast.

A filter's own columns are read first, and row groups in which no row passes are not read further.
Statistics are never looked at: they would say the same of some of these groups only, and where they
are damaged pyarrow 26 ends the process instead of raising.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq

from tritonbulk.errors import InputError
from tritonbulk.segments import Block, Gap, head
from tritonbulk.source.columns import fixed_bytes, measure
from tritonbulk.source.reader import (
    Description,
    Glance,
    InputFile,
    checked,
    opening,
    reading,
    skip,
)

COLUMN_BUFFER_BYTES = 64 * 2**10
"""Bytes read at a time of one column."""

BUFFERS_BYTES_MAX = 16 * 2**20
"""Bytes of these buffers over all columns; very wide files read in smaller steps."""

UNTRUSTED_TEXT_BYTES_MAX = 16 * 2**20
"""Bytes of one text in the metadata of a stranger's file."""

UNTRUSTED_ITEMS_MAX = 100_000
"""Items of one list there: columns, row groups."""

UNTRUSTED_BLOCK_BYTES_MAX = 2**30
"""Bytes that a block of rows of it may declare, uncompressed."""

_BUFFER_BYTES_MIN = 4 * 2**10

_THRIFT_LIMITS = {
    "thrift_string_size_limit": UNTRUSTED_TEXT_BYTES_MAX,
    "thrift_container_size_limit": UNTRUSTED_ITEMS_MAX,
}

SAMPLE_GROUPS = 8
"""Row groups, evenly spread, whose first rows tell the size of text and lists."""

SAMPLE_ROWS = 64
"""First rows of a group that are read for this."""

SAMPLE_BYTES = 2**20
"""Bytes of these, as far as metadata tell."""


def describe(file: InputFile, like: pa.Schema | None) -> Description:  # noqa: ARG001
    """See `tritonbulk.source.reader.Reader.describe`."""
    with _opened(file) as parquet, opening(file):
        return Description(
            parquet.schema_arrow.remove_metadata(),
            parquet.metadata.num_rows,
            _value_bytes(parquet),
        )


def read(
    file: InputFile,
    schema: pa.Schema,
    block_rows: int,
    glance: Glance | None = None,
    row_begin: int = 0,
) -> Iterator[Block]:
    """See `tritonbulk.source.reader.Reader.read`."""
    with _opened(file, columns=len(schema)) as parquet, reading(file):
        groups, inside = _groups_from(parquet.metadata, row_begin)
        if file.is_untrusted:
            _check_declared(file, parquet.metadata, groups, block_rows)
        # Threads inside the reader would fight the server for the cores and gain nothing
        # measurable; reading ahead happens one level up.
        stream = functools.partial(parquet.iter_batches, block_rows, use_threads=False)
        if glance is None:
            blocks = stream(groups, columns=schema.names)
        else:
            if glance.rows_max is not None:
                glance = replace(glance, rows_max=glance.rows_max + inside)
            runs = _runs(parquet.metadata, groups, block_rows)
            blocks = _passing(runs, stream, schema.names, glance)
        yield from skip(checked(blocks, row_begin - inside), inside)


def _groups_from(metadata: pq.FileMetaData, row_begin: int) -> tuple[list[int], int]:
    """Return the row groups from that of ``row_begin`` on, and its position in the first."""
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        if row_begin < rows:
            return list(range(group, metadata.num_row_groups)), row_begin
        row_begin -= rows
    return [], 0


def _check_declared(
    file: InputFile, metadata: pq.FileMetaData, groups: Sequence[int], block_rows: int
) -> None:
    """Refuse row groups of which one block would be too large by their own account.

    Raises:
        InputError: names file and row group; a retry does not help.
    """
    for index in groups:
        group = metadata.row_group(index)
        rows, size = group.num_rows, group.total_byte_size
        if rows < 0 or size < 0 or size * min(block_rows, rows) > UNTRUSTED_BLOCK_BYTES_MAX * rows:
            raise InputError(
                f"row group {index} of {file.name} declares {size:,} bytes in {rows:,} rows, more "
                f"than {UNTRUSTED_BLOCK_BYTES_MAX >> 20} MiB for a block of {block_rows:,}; lower "
                "--segment-rows, or look at where it comes from"
            )


def _runs(metadata: pq.FileMetaData, groups: Iterable[int], rows_max: int) -> Iterator[list[int]]:
    """Yield neighbours of ``groups`` that have ``rows_max`` rows together, a larger one alone."""
    run: list[int] = []
    rows = 0
    for group in groups:
        more = metadata.row_group(group).num_rows
        if run and rows + more > rows_max:
            yield run
            run, rows = [], 0
        run.append(group)
        rows += more
    if run:
        yield run


def _passing(
    runs: Iterable[list[int]],
    stream: Callable[..., Iterator[pa.RecordBatch]],
    columns: Sequence[str],
    glance: Glance,
) -> Iterator[Block]:
    """Yield the blocks of row groups in which a glance finds something, gaps for the others.

    A gap is shorter than its row groups only where the glance was not to look at more rows.
    """
    for groups in runs:
        looked_at = stream(groups, columns=list(glance.columns))
        rows = _rows_without(head(looked_at, glance.rows_max), glance)
        if rows is None:
            yield from stream(groups, columns=columns)
        else:
            yield Gap(rows)


def _rows_without(blocks: Iterable[pa.RecordBatch], glance: Glance) -> int | None:
    """Return how many rows ``blocks`` have if a glance finds nothing in them, else None."""
    rows = 0
    for block in blocks:
        if glance.finds(block):
            return None
        rows += len(block)
    return rows


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
            # Arrow's own reading ahead (pre_buffer) would in the end hold the whole file.
            parquet = pq.ParquetFile(
                handle,
                buffer_size=buffer_bytes,
                pre_buffer=False,
                page_checksum_verification=True,
                **(_THRIFT_LIMITS if file.is_untrusted else {}),
            )
            stack.enter_context(parquet)
        yield parquet


def _value_bytes(parquet: pq.ParquetFile) -> dict[str, float]:
    """Return the mean bytes a value of columns without a fixed width, of the first rows of groups.

    Read, not taken from the metadata: these know only the size of a dictionary, not of what it
    stands for, and where they are damaged pyarrow 26 ends the process instead of raising.
    """
    varying = [field.name for field in parquet.schema_arrow if fixed_bytes(field.type) is None]
    groups = parquet.num_row_groups
    sums: dict[str, float] = dict.fromkeys(varying, 0.0)
    sampled = 0
    for index in range(0, groups if varying else 0, max(groups // SAMPLE_GROUPS, 1)):
        group = parquet.metadata.row_group(index)
        rows = int(SAMPLE_BYTES * group.num_rows / max(group.total_byte_size, 1))
        rows = max(min(rows, SAMPLE_ROWS), 1)
        first = next(parquet.iter_batches(rows, [index], varying, use_threads=False), None)
        if first is not None and len(first):
            sampled += 1
            for name, size in measure(first).items():
                sums[name] += size
    return {name: total / sampled for name, total in sums.items()} if sampled else {}
