"""Projection: all rows of a finished output as one local file, made from its parts.

Published by the same create-only step as a part: it stands there whole or not at all. Made again it
has the same bytes, so one that stands there already is compared, never replaced.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from tritonbulk.codec.predictions import ERROR_COLUMN
from tritonbulk.errors import DamagedError, OutputError
from tritonbulk.job.protocol import Put
from tritonbulk.job.puts import read_listed
from tritonbulk.job.stores.base import Store
from tritonbulk.job.stores.local import make_folder, publish, sink_errors
from tritonbulk.part import decode_part, unfit_for_csv

_FORMULA = r"^\s*[=+\-@\t\r]"
"""Beginnings of cells that spreadsheets take for formulas."""


def project(
    store: Store,
    listed: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    csv_guard: bool = True,
    is_single_writer: bool = False,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write the rows of all parts in order to one file; its extension tells the format.

    CSV has a header line and cannot hold lists or bytes; in JSON Lines numbers that are not finite
    are null, and bytes are Base64.

    Column names and errors are others' words; in CSV one that a spreadsheet would take for a
    formula gets ``'`` in front. Values of inputs and predictions stay as they are.

    Args:
        store: where the parts stand.
        listed: their entries in the manifests; a part that is not as listed is refused.
        path: of the file.
        csv_guard: whether formulas are guarded against.
        is_single_writer: nobody else writes the file; for file systems that cannot create only.
        sleep: see `OpenJob.sleep`; called before each part is read.

    Raises:
        OutputError: another file stands there, or the format cannot hold a column; no retry.
        DamagedError: a part is damaged; a retry does not help.
        SinkError: it could not be written; a retry helps once the cause is gone.
    """
    write_rows = _WRITERS[path.suffix]
    guard = _guarded if csv_guard and path.suffix == ".csv" else lambda table: table
    digest = ""

    def write(file: io.FileIO) -> None:
        nonlocal digest
        buffered = io.BufferedWriter(file)
        write_rows(map(guard, _tables(store, listed, sleep)), buffered)
        buffered.flush()
        buffered.detach()
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()

    with sink_errors(path):
        missing = [each for each in path.parents if not each.exists()]
        make_folder(path.parent)
        try:
            outcome = publish(path, path.parent, write, is_single_writer=is_single_writer)
        except BaseException:
            with contextlib.suppress(OSError):  # others may have put something there
                for made in missing:
                    made.rmdir()
            raise
        if outcome is Put.CREATED:
            return
        with path.open("rb") as stands:
            same = hashlib.file_digest(stands, "sha256").hexdigest() == digest
    if not same:
        raise OutputError(
            f"--single-file {path} exists and is not what this job gives; remove it or give "
            "another name (the job itself is finished)"
        )


def _tables(
    store: Store, listed: Sequence[Mapping[str, Any]], sleep: Callable[[float], None]
) -> Iterator[pa.Table]:
    for entry in listed:
        name = entry["name"]
        sleep(0)
        try:
            data = read_listed(store, entry, sleep)
        except DamagedError as error:
            raise DamagedError(f"{store.name}/{name} is damaged ({error}); restore it") from error
        table = decode_part(data, "arrow" if name.endswith(".arrow") else "parquet")
        yield table.replace_schema_metadata(None)


def _guarded(table: pa.Table) -> pa.Table:
    """Return a table whose column names and errors no spreadsheet takes for formulas."""
    if ERROR_COLUMN in table.column_names:
        at = table.column_names.index(ERROR_COLUMN)
        errors = pc.replace_substring_regex(table[at], _FORMULA, r"'\0")
        table = table.set_column(at, table.field(at), errors)
    names = [f"'{name}" if re.match(_FORMULA, name) else name for name in table.column_names]
    return table.rename_columns(names)


def _write_csv(tables: Iterator[pa.Table], file: BinaryIO) -> None:
    first = next(tables)
    if unfit := unfit_for_csv(first.schema):
        raise OutputError(
            f"column {unfit!r} holds lists or bytes, which CSV cannot; give --single-file a .jsonl "
            "or .parquet name (the job itself is finished)"
        )
    with pacsv.CSVWriter(file, first.schema) as writer:
        for table in chain([first], tables):
            writer.write_table(table)


def _write_parquet(tables: Iterator[pa.Table], file: BinaryIO) -> None:
    first = next(tables)
    with pq.ParquetWriter(
        file, first.schema, compression="snappy", write_page_checksum=True
    ) as writer:
        for table in chain([first], tables):
            writer.write_table(table, row_group_size=max(table.num_rows, 1))


def _write_jsonl(tables: Iterator[pa.Table], file: BinaryIO) -> None:
    for table in tables:
        for row in table.to_pylist():
            line = json.dumps(_plain(row), ensure_ascii=False, separators=(",", ":"))
            file.write(line.encode() + b"\n")


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value if isinstance(value, (int, str, type(None))) else str(value)


_WRITERS: Mapping[str, Callable[[Iterator[pa.Table], BinaryIO], None]] = {
    ".csv": _write_csv,
    ".jsonl": _write_jsonl,
    ".parquet": _write_parquet,
}
