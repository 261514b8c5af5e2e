"""Rejects: the rows of a finished output that failed, in one small file beside its manifest.

Derived from the parts, which have them in their places as well; the same parts always give the same
bytes. Created, never replaced.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tritonbulk.codec.predictions import ERROR_COLUMN, STATUS_COLUMN
from tritonbulk.job.commit import read_listed
from tritonbulk.job.manifest import Manifest
from tritonbulk.job.protocol import OWN_FOLDER
from tritonbulk.job.stores.base import Store
from tritonbulk.part import decode_part

REJECTS_BYTES_MAX = 64 * 2**20
"""Bytes in memory of the rows that the file holds at most; the rest stand in the parts alone."""

INPUT_COLUMN = "_tritonbulk_input"
"""Column, string: name of the input file that the row is from."""

ROW_COLUMN = "_tritonbulk_row"
"""Column, int64: its row there, counted from 0; null where a filter makes that unknown."""


def write_rejects(store: Store, manifest: Manifest, increment: int, keep: int) -> str | None:
    """Write the failed rows of one job and return the file's name; None if there are none.

    Args:
        store: of the output.
        manifest: of the job, which is finished.
        increment: number of the job in its output, 0 for the first.
        keep: how many columns of a part are the input's; they come first.

    Raises:
        DamagedError: a part is not as the manifest lists it; no retry.
        SinkError: a part cannot be read; a retry helps once the cause is gone.
    """
    tables: list[pa.Table] = []
    size_bytes = 0
    for entry in manifest.parts:
        if not entry["rows_failed"]:
            continue
        table = _rejected(store, entry, str(manifest.inputs[entry["input"]]["name"]), keep)
        tables.append(table)
        size_bytes += table.nbytes
        if size_bytes >= REJECTS_BYTES_MAX:
            break
    if not tables:
        return None
    file = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), file, write_page_checksum=True)
    number = f"-{increment:04d}" if increment else ""
    name = f"{OWN_FOLDER}/rejects{number}.parquet"
    store.create(name, file.getvalue())
    return name


def _rejected(store: Store, entry: Mapping[str, Any], source: str, keep: int) -> pa.Table:
    name = entry["name"]
    data = read_listed(store, entry)
    table = decode_part(data, "arrow" if name.endswith(".arrow") else "parquet")
    table = table.replace_schema_metadata(None)
    is_failed = pc.not_equal(table[STATUS_COLUMN], 0)
    rows = pc.indices_nonzero(is_failed.combine_chunks())
    numbers = pc.add(rows.cast(pa.int64()), entry["row_begin"])
    if entry["rows_filtered"]:
        numbers = pa.nulls(len(rows), pa.int64())
    failed = table.take(rows)
    kept = [failed.schema.names[index] for index in range(keep)]
    columns = {INPUT_COLUMN: pa.array([source] * len(rows), pa.string()), ROW_COLUMN: numbers}
    columns |= {each: failed[each] for each in (*kept, STATUS_COLUMN, ERROR_COLUMN)}
    return pa.table(columns)
