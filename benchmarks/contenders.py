"""Who is measured: one function a contender, each run in a process of its own.

    python benchmarks/contenders.py NAME --workload mlp --file F --repository R --endpoint E --out O

Every contender reads the file, scores all rows, and writes ``id`` and the predictions as Parquet.
The last line of stdout is ``{"rows": …, "seconds": …, "cpu_seconds": …}``, measured after imports.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from workloads import WORKLOADS, Workload

Floats = npt.NDArray[np.float32]


def tritonbulk_grpc(workload: Workload, given: argparse.Namespace) -> int:
    """Ours, over gRPC."""
    return _tritonbulk(workload, given)


def _tritonbulk(workload: Workload, given: argparse.Namespace, **options: object) -> int:
    from tritonbulk import score  # noqa: PLC0415  each contender imports only what it measures

    result = score(
        given.file,
        model=workload.name,
        out=given.out,
        endpoints=given.endpoint,
        input_map=[workload.input_map],
        keep=("id",),
        batch_rows=workload.batch_rows,
        **options,
    )
    return result.rows_ok


def naive(workload: Workload, given: argparse.Namespace) -> int:
    """The loop that most people write: pandas chunks, one request at a time, default writer."""
    import tritonclient.grpc as triton  # noqa: PLC0415

    client = triton.InferenceServerClient(given.endpoint[0])
    rows, writer = 0, None
    for batch in pq.ParquetFile(given.file).iter_batches(workload.batch_rows):
        frame = batch.to_pandas()
        values = _from_frame(frame, workload)
        tensor = triton.InferInput("x", list(values.shape), "FP32")
        tensor.set_data_from_numpy(values)
        answer = client.infer(workload.name, [tensor]).as_numpy("y")
        table = pa.table(
            {"id": frame["id"], "y": list(answer) if answer.shape[1] > 1 else answer[:, 0]}
        )
        writer = writer or pq.ParquetWriter(_single(given.out), table.schema)
        writer.write_table(table)
        rows += len(frame)
    assert writer is not None
    writer.close()
    return rows


def careful_aio(workload: Workload, given: argparse.Namespace) -> int:
    """A careful user of tritonclient.grpc.aio: a semaphore of 4, big reads, a lean writer."""
    return asyncio.run(_careful_aio(workload, given))


async def _careful_aio(workload: Workload, given: argparse.Namespace) -> int:
    import tritonclient.grpc.aio as triton  # noqa: PLC0415

    client = triton.InferenceServerClient(given.endpoint[0])
    slots = asyncio.Semaphore(4)

    async def infer(values: Floats) -> Floats:
        async with slots:
            tensor = triton.InferInput("x", list(values.shape), "FP32")
            tensor.set_data_from_numpy(values)
            return (await client.infer(workload.name, [tensor])).as_numpy("y")

    rows, writer = 0, None
    for block in _blocks(given.file):
        values = _dense(block, workload)
        cuts = range(0, len(block), workload.batch_rows)
        answers = await asyncio.gather(*(infer(values[c : c + workload.batch_rows]) for c in cuts))
        writer = _write(writer, given.out, block, np.concatenate(answers))
        rows += len(block)
    await client.close()
    assert writer is not None
    writer.close()
    return rows


def in_process(threads: int, workload: Workload, given: argparse.Namespace) -> int:
    """ONNX Runtime in this process, between our reader, gather and sink, each in its thread."""
    import onnxruntime  # noqa: PLC0415

    from tritonbulk.codec import Predictions  # noqa: PLC0415
    from tritonbulk.contract import (  # noqa: PLC0415
        OutputTensor,
        bind_inputs,
        datatype,
        gather,
        parse_input_map,
    )
    from tritonbulk.contract.schema import InputTensor  # noqa: PLC0415
    from tritonbulk.jobrun import part_writer, scratch_job  # noqa: PLC0415
    from tritonbulk.options import SEGMENT_ROWS  # noqa: PLC0415
    from tritonbulk.source import open_source  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning would take the cores from the reader and the writer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = Path(given.repository, workload.name, "1", "model.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    source, write = open_source([given.file]), part_writer(scratch_job(Path(given.out)), ["id"])
    fp32 = datatype("FP32")
    (x,) = bind_inputs(
        [InputTensor("x", fp32, (workload.width,))],
        parse_input_map([workload.input_map]),
        source.schema,
    )
    y = OutputTensor("y", fp32, (session.get_outputs()[0].shape[1],))
    names = ("id", *(column.name for column in x.columns))
    segments = source.read(SEGMENT_ROWS, names)
    rows = 0
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        ahead, writing = reader.submit(next, segments, None), None
        while (read := ahead.result()) is not None:
            segment, batch = read
            ahead = reader.submit(next, segments, None)
            done = Predictions(segment.rows, [y], ["y"])
            for begin in range(0, segment.rows, workload.batch_rows):
                values = gather(batch.slice(begin, workload.batch_rows), x)
                done.put(begin, session.run(["y"], {"x": values}))
            if writing is not None:
                writing.result()
            writing = writer.submit(write, segment, batch, done)
            rows += segment.rows
        if writing is not None:
            writing.result()
    return rows


def _blocks(file: str) -> Iterator[pa.RecordBatch]:
    yield from pq.ParquetFile(file).iter_batches(65_536)


def _dense(block: pa.RecordBatch, workload: Workload) -> Floats:
    if workload.is_list:
        return block["x"].flatten().to_numpy().reshape(-1, workload.width)
    return np.column_stack([block[f"f{i:03d}"].to_numpy() for i in range(workload.width)])


def _from_frame(frame: object, workload: Workload) -> Floats:
    if workload.is_list:
        return np.stack(frame["x"].to_numpy())  # type: ignore[index]
    return np.ascontiguousarray(frame.drop(columns="id").to_numpy(np.float32))  # type: ignore[attr-defined]


def _write(
    writer: pq.ParquetWriter | None, out: str, block: pa.RecordBatch, answer: Floats
) -> pq.ParquetWriter:
    width = answer.shape[1]
    flat = pa.array(answer.reshape(-1))
    y = flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)
    table = pa.table({"id": block["id"], "y": y})
    writer = writer or pq.ParquetWriter(_single(out), table.schema, use_dictionary=False)
    writer.write_table(table)
    return writer


def _single(out: str) -> Path:
    Path(out).mkdir(parents=True)
    return Path(out) / "all.parquet"


CONTENDERS: dict[str, Callable[[Workload, argparse.Namespace], int]] = {
    "tritonbulk_grpc": tritonbulk_grpc,
    "naive": naive,
    "careful_aio": careful_aio,
    "in_process_1": partial(in_process, 1),
    "in_process_all": partial(in_process, 0),
}


def main() -> None:
    """Run one contender and print its figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--workload", required=True, choices=WORKLOADS)
    parser.add_argument("--file", required=True)
    parser.add_argument("--repository", required=True)
    parser.add_argument("--endpoint", required=True, action="append")
    parser.add_argument("--out", required=True)
    given = parser.parse_args()
    # What is imported lazily is imported now: start-up is nobody's throughput.
    import pandas as pd  # noqa: F401, PLC0415
    import tritonclient.grpc.aio  # noqa: F401, PLC0415

    import tritonbulk.scoring  # noqa: F401, PLC0415

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    rows = CONTENDERS[given.contender](WORKLOADS[given.workload], given)
    seconds, cpu_seconds = time.perf_counter() - wall_s, time.process_time() - cpu_s
    figures = {"rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds}
    print(json.dumps({**figures, "cpu_seconds_whole": time.process_time()}))


if __name__ == "__main__":
    main()
