"""Rejects: the rows of a finished output that failed, in one small file beside its manifest.

Derived from the parts, which have them in their places as well; the same parts always give the same
bytes. Created, never replaced.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tritonbulk.codec.predictions import ERROR_COLUMN, STATUS_COLUMN
from tritonbulk.errors import DamagedError, SinkError
from tritonbulk.job.manifest import Manifest
from tritonbulk.job.protocol import OWN_FOLDER, StandingJob
from tritonbulk.job.puts import read_listed
from tritonbulk.job.spec import JobFile
from tritonbulk.job.stores.base import Store
from tritonbulk.part import decode_part

REJECTS_BYTES_MAX = 64 * 2**20
"""Bytes in memory of the rows that the file holds at most; the rest stand in the parts alone."""

INPUT_COLUMN = "_tritonbulk_input"
"""Column, string: name of the input file that the row is from."""

ROW_COLUMN = "_tritonbulk_row"
"""Column, int64: its row there, counted from 0; null where a filter makes that unknown."""


def list_rejects(store: Store, jobs: Sequence[StandingJob]) -> str | None:
    """Write the failed rows of each finished job whose rejects do not stand there yet.

    A run may have died between its manifest and them; whichever comes next makes them.

    Args:
        store: of the output.
        jobs: of the output, in order, the unfinished one too.

    Returns:
        Why they could not be written; None if all is well.
    """
    failed = [
        (increment, job.file, job.manifest)
        for increment, job in enumerate(jobs)
        if job.manifest is not None and job.manifest.rows_failed
    ]
    if not failed:
        return None
    try:
        standing = store.names(OWN_FOLDER)
        for increment, file, manifest in failed:
            if _file_name(increment) not in standing:
                write_rejects(store, file, manifest, increment)
    except (DamagedError, SinkError) as error:
        return f"the job is finished, but its rejects are not listed: {error}"
    return None


def write_rejects(store: Store, file: JobFile, manifest: Manifest, increment: int) -> None:
    """Write the failed rows of one job, if it has any.

    Args:
        store: of the output.
        file: of the job, which is finished.
        manifest: likewise.
        increment: number of the job in its output, 0 for the first.

    Raises:
        DamagedError: a part is not as the manifest lists it; no retry.
        SinkError: a part cannot be read; a retry helps once the cause is gone.
    """
    # The input's columns come first, then predictions, status and error.
    keep = len(file.spec["output"]) - len(file.spec["tensors"]["outputs"]) - 2
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
    if tables:
        data = io.BytesIO()
        pq.write_table(pa.concat_tables(tables), data, write_page_checksum=True)
        store.create(f"{OWN_FOLDER}/{_file_name(increment)}", data.getvalue())


def _file_name(increment: int) -> str:
    number = f"-{increment:04d}" if increment else ""
    return f"rejects{number}.parquet"


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
