"""Contenders without a server: ONNX Runtime in this process, between our own Arrow ends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa

from benchmarks.entries import FLIGHT_DELAY, model_file
from benchmarks.task import Stopwatch, Task
from benchmarks.tritonclients import Tensor, dense, payloads_of
from tritonbulk.clocks import COMMITTERS
from tritonbulk.codec import Predictions, RequestEncoder
from tritonbulk.contract import (
    Contract,
    InputTensor,
    OutputTensor,
    bind_inputs,
    datatype,
    row_bytes,
)
from tritonbulk.dispatch import segment_rows_auto
from tritonbulk.jobrun import part_writer, scratch_job
from tritonbulk.source import Source, open_source


@dataclass(frozen=True, slots=True)
class Runtime:
    """How ONNX Runtime is set up.

    Attributes:
        sessions: that work side by side, each on the batch that comes next.
        threads: of each session; 0: one a core.
        spinning: whether idle threads spin, which takes the cores from reader and writer.
    """

    sessions: int = 1
    threads: int = 1
    spinning: bool = False


RUNTIMES = {
    "in_process_1": Runtime(),
    "in_process_all": Runtime(threads=0),
    "in_process_spinning": Runtime(threads=0, spinning=True),
    "in_process_sessions": Runtime(sessions=os.cpu_count() or 1),
}


def in_process(runtime: Runtime, task: Task, watch: Stopwatch) -> int:
    """Score with ONNX Runtime in this process; return the rows."""
    sessions = [_session(runtime, task) for _ in range(runtime.sessions)]
    name, output = task.workload.tensors

    def run(session: onnxruntime.InferenceSession, values: Tensor) -> list[Tensor]:
        return session.run([output], {name: values})

    with ThreadPoolExecutor(runtime.sessions) as pool:
        if task.workload.in_memory:
            return _in_memory(sessions, run, pool, task, watch)
        watch.start()  # as servers have loaded the model before the others begin
        return _file_to_file(sessions[0], run, task)


def _session(runtime: Runtime, task: Task) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime.threads
    spinning = str(int(runtime.spinning))
    options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
    model = model_file(task.workload.entry, Path(task.repository))
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _in_memory(
    sessions: Sequence[onnxruntime.InferenceSession],
    run: Callable[..., list[Tensor]],
    pool: ThreadPoolExecutor,
    task: Task,
    watch: Stopwatch,
) -> int:
    payloads = list(payloads_of(task))
    batches = task.rows // task.workload.batch_rows
    numbers = count()  # next() of it is atomic, so the sessions share it without a lock

    def work(session: onnxruntime.InferenceSession) -> None:
        while (number := next(numbers)) < batches:
            run(session, payloads[number % len(payloads)])

    for session in sessions:
        run(session, payloads[0])
    watch.start()
    list(pool.map(work, sessions))
    watch.stop()
    return task.rows


def _file_to_file(
    session: onnxruntime.InferenceSession, run: Callable[..., list[Tensor]], task: Task
) -> int:
    """Read, run and write as tritonbulk does, each in its thread."""
    workload = task.workload
    source, write = open_source([task.file]), part_writer(scratch_job(Path(task.out)), ["id"])
    take, names = _feeder(task, source)
    shape = tuple(session.get_outputs()[0].shape[1:])
    outputs = [OutputTensor(workload.tensors[1], datatype("FP32"), shape)]
    segment_rows = segment_rows_auto(source.row_bytes(names) + row_bytes(outputs))
    segments = source.read(segment_rows, names)
    rows = 0
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
        ThreadPoolExecutor(COMMITTERS) as committers,
    ):
        commits = []
        ahead, writing = reader.submit(next, segments, None), None
        while (read := ahead.result()) is not None:
            segment, batch = read
            ahead = reader.submit(next, segments, None)
            done = Predictions(segment.rows, outputs, [workload.tensors[1]])
            for begin, values in take(batch):
                done.put(begin, run(session, values))
            if writing is not None:
                commits.append(committers.submit(writing.result()))
            writing = writer.submit(write, segment, batch, done)
            rows += segment.rows
        if writing is not None:
            commits.append(committers.submit(writing.result()))
        for commit in commits:
            commit.result()
    return rows


Tensors = Iterator[tuple[int, Tensor]]
"""First row and tensor of each batch of a segment."""


def _feeder(
    task: Task, source: Source
) -> tuple[Callable[[pa.RecordBatch], Tensors], Sequence[str]]:
    """Return what makes the tensors of a segment's batches, and the columns to read."""
    workload = task.workload

    def runs(rows: pa.RecordBatch) -> Iterator[tuple[int, int]]:
        for begin in range(0, len(rows), workload.batch_rows):
            yield begin, min(workload.batch_rows, len(rows) - begin)

    def texts(rows: pa.RecordBatch) -> Tensors:
        # ONNX Runtime takes text as Python objects: there is nothing of ours to use.
        for begin, size in runs(rows):
            yield begin, dense(rows.slice(begin, size), workload)

    if workload.layout == "text":
        return texts, ("id", "x")
    if workload.layout == "flights":
        inputs = Contract.from_json((FLIGHT_DELAY / "contract.json").read_text()).inputs
    else:
        inputs = (InputTensor(workload.tensors[0], datatype("FP32"), workload.shape),)
    (tensor,) = bind_inputs(inputs, workload.input_map, source.schema)
    encoder = RequestEncoder(workload.entry, "", [tensor], [])

    def numbers(rows: pa.RecordBatch) -> Tensors:
        prepared = encoder.prepare(rows)
        for begin, size in runs(rows):
            (raw,) = encoder.encode(prepared, begin, size).inputs
            if len(raw.columns) == 1:
                yield begin, raw.columns[0].reshape(-1, *workload.shape)
                continue
            values = np.empty(raw.size_bytes, np.uint8)
            raw.write_to(values)
            yield begin, values.view(np.float32).reshape(-1, *workload.shape)

    return numbers, ("id", *(column.name for column in tensor.columns))
