"""Slice: the rows of the user's file that trials use, read once and laid out as a file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tritonbulk.errors import InputError
from tritonbulk.source import Source, open_source

SLICE_ROWS_MAX = 262_144
"""Rows of the user's file that trials use."""

SLICE_BYTES_MAX = 256 * 2**20
"""Bytes (in memory) of the same."""

READ_ROWS_MAX = 16 * SLICE_ROWS_MAX
"""Rows that are read to find them, before any filter, unless a limit says how many."""


def lay_out(
    source: Source,
    rows_min: int,
    limit_rows: int | None,
    folder: Path,
    rows_wanted: int = 0,
) -> Source:
    """Write a slice of the source, repeated until it has enough rows, and open it.

    Args:
        source: of the rows.
        rows_min: that it must have.
        limit_rows: of the source that may be looked at.
        folder: to write it into.
        rows_wanted: that it should have, if `SLICE_BYTES_MAX` allows.

    Raises:
        InputError: there are no rows to measure with; a retry does not help.
    """
    rows = _slice(source, limit_rows)
    room = SLICE_BYTES_MAX // max(rows.nbytes, 1)
    times = max(-(-rows_min // len(rows)), min(-(-rows_wanted // len(rows)), room))
    path = folder / "rows.parquet"
    pq.write_table(pa.concat_tables([rows] * times), path, row_group_size=SLICE_ROWS_MAX // 4)
    return open_source([str(path)])


def no_rows(source: Source) -> InputError:
    """Return the error of a source without rows."""
    return InputError(f"{source.name} has no rows to measure with; give another file")


def _slice(source: Source, limit_rows: int | None) -> pa.Table:
    """Return the first rows that pass the source's filter, read once; at least one."""
    found: list[pa.RecordBatch] = []
    rows_read, rows, size = 0, 0, 0
    names = list(source.schema.names)
    for segment, batch in source.read(SLICE_ROWS_MAX // 4, names, limit_rows or READ_ROWS_MAX):
        found.append(batch)
        rows_read += segment.rows + segment.rows_filtered
        rows, size = rows + len(batch), size + batch.nbytes
        if rows >= SLICE_ROWS_MAX or size >= SLICE_BYTES_MAX:
            break
    if not rows_read:
        raise no_rows(source)
    if not rows:
        raise InputError(
            f"none of the first {rows_read:,} rows of {source.name} passes --where; give another "
            "filter, or a --limit that reaches rows that pass"
        )
    return pa.Table.from_batches(found)
