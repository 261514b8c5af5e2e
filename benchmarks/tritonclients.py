"""Contenders that use tritonclient: the loop that most people write, and a careful one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.entries import FLIGHT_DELAY
from benchmarks.task import Stopwatch, Task
from benchmarks.workloads import IN_FLIGHT, PAYLOADS, Workload

BLOCK_ROWS = 65_536
BLOCK_BYTES = 64 * 2**20
Tensor = npt.NDArray[Any]


def naive(task: Task, watch: Stopwatch) -> int:
    """Pandas chunks, one request at a time, default writer; return the rows."""
    import pandas as pd  # noqa: PLC0415  the others do without
    import tritonclient.grpc as triton  # noqa: PLC0415

    watch.start()
    workload = task.workload
    client = triton.InferenceServerClient(task.endpoints[0])
    _, output = workload.tensors
    rows, writer = 0, None
    for batch in pq.ParquetFile(task.file).iter_batches(workload.batch_rows):
        frame = batch.to_pandas()
        tensor = _infer_input(triton, workload, _from_frame(frame, workload, pd))
        answer = client.infer(workload.entry, [tensor]).as_numpy(output)
        y = list(answer) if answer.shape[1] > 1 else answer[:, 0]
        table = pa.table({"id": frame["id"], output: y})
        writer = writer or pq.ParquetWriter(_single(task.out), table.schema)
        writer.write_table(table)
        rows += len(frame)
    assert writer is not None
    writer.close()
    return rows


def careful_aio(task: Task, watch: Stopwatch) -> int:
    """A semaphore of 4 a server, big reads, a lean writer; return the rows."""
    return asyncio.run(_careful_aio(task, watch))


async def _careful_aio(task: Task, watch: Stopwatch) -> int:
    import tritonclient.grpc.aio as triton  # noqa: PLC0415

    watch.start()
    workload = task.workload
    clients = [triton.InferenceServerClient(address) for address in task.endpoints]
    turns = cycle([(client, asyncio.Semaphore(IN_FLIGHT)) for client in clients])
    _, output = workload.tensors

    async def infer(values: Tensor) -> Tensor:
        client, slots = next(turns)
        async with slots:
            tensor = _infer_input(triton, workload, values)
            answer = await client.infer(workload.entry, [tensor])
            return answer.as_numpy(output)

    try:
        if workload.in_memory:
            payloads = list(payloads_of(task))
            await asyncio.gather(*map(infer, payloads[:IN_FLIGHT]))
            watch.start()
            numbers = range(task.rows // workload.batch_rows)
            await asyncio.gather(*(infer(payloads[number % len(payloads)]) for number in numbers))
            watch.stop()
            return task.rows
        return await _file_to_file(task, infer)
    finally:
        for client in clients:
            await client.close()


async def _file_to_file(task: Task, infer: Any) -> int:
    workload = task.workload
    rows, writer = 0, None
    row_bytes = 4 * int(np.prod(workload.shape))
    block_rows = min(
        BLOCK_ROWS, BLOCK_BYTES // row_bytes // workload.batch_rows * workload.batch_rows
    )
    for block in pq.ParquetFile(task.file).iter_batches(block_rows):
        values = dense(block, workload)
        cuts = range(0, len(block), workload.batch_rows)
        answers = await asyncio.gather(*(infer(values[c : c + workload.batch_rows]) for c in cuts))
        writer = _write(writer, task, block, np.concatenate(answers))
        rows += len(block)
    assert writer is not None
    writer.close()
    return rows


def payloads_of(task: Task) -> Iterator[Tensor]:
    """Yield the dense tensors of an in-memory workload."""
    workload = task.workload
    batches = pq.ParquetFile(task.file).iter_batches(workload.batch_rows)
    for _, batch in zip(range(PAYLOADS), batches, strict=False):
        yield dense(batch, workload)


def dense(block: pa.RecordBatch, workload: Workload) -> Tensor:
    """Return the tensor of some rows, as a careful user of Arrow and NumPy makes it."""
    if workload.layout == "list":
        return block["x"].flatten().to_numpy().reshape(-1, *workload.shape)
    if workload.layout == "text":
        return block["x"].to_numpy(zero_copy_only=False).reshape(-1, 1)
    if workload.layout == "columns":
        return np.column_stack([block[f"f{i:03d}"].to_numpy() for i in range(workload.shape[0])])
    features = []
    for column in _flight_columns():
        values = block[column["name"]]
        if categories := column.get("categories"):
            values = pc.index_in(values, value_set=pa.array(categories), skip_nulls=True)
        # A null becomes NaN, which the model takes for missing.
        features.append(values.cast(pa.float32()).to_numpy(zero_copy_only=False))
    return np.column_stack(features)


def _from_frame(frame: Any, workload: Workload, pd: Any) -> Tensor:
    if workload.layout == "list":
        return np.stack(frame["x"].to_numpy()).reshape(-1, *workload.shape)
    if workload.layout == "text":
        return frame["x"].to_numpy(dtype=object).reshape(-1, 1)
    if workload.layout == "columns":
        return np.ascontiguousarray(frame.drop(columns="id").to_numpy(np.float32))
    features = {}
    for column in _flight_columns():
        values = frame[column["name"]]
        if categories := column.get("categories"):
            codes = pd.Categorical(values, categories=categories).codes
            values = np.where(codes < 0, np.nan, codes)
        features[column["name"]] = values
    return np.ascontiguousarray(pd.DataFrame(features).to_numpy(np.float32))


def _flight_columns() -> list[dict[str, Any]]:
    contract = json.loads((FLIGHT_DELAY / "contract.json").read_text())
    return contract["inputs"][0]["columns"]


def _infer_input(triton: Any, workload: Workload, values: Tensor) -> Any:
    kind = "BYTES" if workload.layout == "text" else "FP32"
    tensor = triton.InferInput(workload.tensors[0], list(values.shape), kind)
    tensor.set_data_from_numpy(values)
    return tensor


def _write(
    writer: pq.ParquetWriter | None, task: Task, block: pa.RecordBatch, answer: Tensor
) -> pq.ParquetWriter:
    width = answer.shape[1]
    flat = pa.array(answer.reshape(-1))
    y = flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)
    table = pa.table({"id": block["id"], task.workload.tensors[1]: y})
    writer = writer or pq.ParquetWriter(_single(task.out), table.schema, use_dictionary=False)
    writer.write_table(table)
    return writer


def _single(out: str) -> Path:
    Path(out).mkdir(parents=True)
    return Path(out) / "all.parquet"
