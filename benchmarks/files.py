"""The files: made once from fixed seeds, found again by layout, width and number of rows."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from math import prod
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.entries import TEXT_KEYS
from benchmarks.workloads import PAYLOADS, Workload

ROW_GROUP_ROWS = 65_536
ROW_GROUP_VALUES = 16 * 2**20
FLIGHTS = Path(__file__).parents[1] / "examples" / "flights" / "data.py"


def make_file(workload: Workload, rows: int, folder: Path) -> Path:
    """Return the workload's file of ``rows`` rows, made unless it is there.

    An in-memory workload needs no more rows than its payloads have.
    """
    if workload.in_memory:
        rows = min(rows, PAYLOADS * workload.batch_rows)
    path = folder / f"{workload.layout}{prod(workload.shape)}-{rows}.parquet"
    if path.exists():
        return path
    aside = path.with_suffix(".part")
    batches = _flights(rows) if workload.layout == "flights" else _generated(workload, rows)
    first = next(batches)
    with pq.ParquetWriter(aside, first.schema, compression="snappy", use_dictionary=False) as file:
        file.write_batch(first, row_group_size=ROW_GROUP_ROWS)
        for batch in batches:
            file.write_batch(batch, row_group_size=ROW_GROUP_ROWS)
    return aside.rename(path)


def _generated(workload: Workload, rows: int) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(1)
    width = prod(workload.shape)
    step = min(ROW_GROUP_ROWS, ROW_GROUP_VALUES // width)
    for begin in range(0, rows, step):
        count = min(step, rows - begin)
        columns = {"id": pa.array(np.arange(begin, begin + count))}
        if workload.layout == "text":
            columns["x"] = pa.array(TEXT_KEYS).take(pa.array(random.integers(0, 1_000, count)))
        elif workload.layout == "list":
            flat = pa.array(random.standard_normal(count * width, dtype=np.float32))
            columns["x"] = pa.FixedSizeListArray.from_arrays(flat, width)
        else:
            values = random.standard_normal((width, count), dtype=np.float32)
            columns |= {f"f{index:03d}": pa.array(column) for index, column in enumerate(values)}
        yield pa.record_batch(columns)


def _flights(rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the flights of the example, over and over."""
    flights = runpy.run_path(str(FLIGHTS))["read_flights"]()
    for begin in range(0, rows, len(flights)):
        part = flights.slice(0, rows - begin)
        numbers = pa.array(np.arange(begin, begin + len(part)))
        yield from part.append_column("id", numbers).combine_chunks().to_batches()
