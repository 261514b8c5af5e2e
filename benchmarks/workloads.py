"""What is measured: models, their repository entries, and the files that go through them.

Everything is made once, from fixed seeds, into one folder, and found there again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2

CHUNK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Workload:
    """One model and one file.

    Attributes:
        name: of the model entry and of the file.
        rows: rows of the file.
        width: values of the input tensor ``x`` a row.
        batch_rows: rows a request, for every contender.
        max_batch_size: of the entry.
        instances: of the entry.
        is_list: whether the file has one FixedSizeList column ``x`` instead of a column a value
            (``f000``…).
        parameters: of the entry's configuration.
    """

    name: str
    rows: int
    width: int
    batch_rows: int
    max_batch_size: int = 4096
    instances: int = 1
    is_list: bool = False
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def input_map(self) -> str:
        """The mapping of file columns to the tensor ``x``."""
        return "x=x" if self.is_list else "x=f*"


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("mlp", rows=2_097_152, width=64, batch_rows=4096),
        Workload("heavy", rows=131_072, width=64, batch_rows=256, max_batch_size=256, instances=2),
        Workload(
            "embedding", rows=131_072, width=384, batch_rows=1024, max_batch_size=1024,
            instances=2, is_list=True,
        ),
        # Sleeps until an execution has taken 8 ms + 0.05 ms a row: ideal is M / (a + b·M) rows/s.
        Workload(
            "accelerator", rows=131_072, width=4, batch_rows=1024, max_batch_size=1024,
            parameters=(("simulate_ms", "8,0.05"), ("tritonbulk.run_rows_max", "0")),
        ),
    )
}  # fmt: skip

ACCELERATOR_IDEAL_ROWS_S = 1024 / (8e-3 + 0.05e-3 * 1024)


def prepare(names: list[str], folder: Path, rows_max: int) -> None:
    """Make the entries and the files of the workloads, unless they are there.

    Args:
        names: of the workloads.
        folder: gets ``repository/`` and ``NAME-ROWS.parquet``.
        rows_max: files are cut at so many rows.
    """
    for name in names:
        workload = WORKLOADS[name]
        entry = folder / "repository" / name
        if not (entry / "config.pbtxt").exists():
            (entry / "1").mkdir(parents=True, exist_ok=True)
            onnx.save(_model(workload), str(entry / "1" / "model.onnx"))
            (entry / "config.pbtxt").write_text(_config(workload))
        path = file_of(workload, folder, rows_max)
        if not path.exists():
            _write(workload, path, min(workload.rows, rows_max))


def file_of(workload: Workload, folder: Path, rows_max: int) -> Path:
    """Return the workload's file."""
    return folder / f"{workload.name}-{min(workload.rows, rows_max)}.parquet"


def _model(workload: Workload) -> onnx.ModelProto:
    layers = {
        "mlp": (64, 256, 256, 1),
        "heavy": (64, 2048, 2048, 1024, 1),
        "embedding": (384, 768),
        "accelerator": (4, 1),
    }[workload.name]
    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for index, (rows, columns) in enumerate(pairwise(layers)):
        weight = random.standard_normal((rows, columns), dtype=np.float32) / np.float32(rows**0.5)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        is_last = index == len(layers) - 2
        dense = "y" if is_last else f"dense{index}"
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [dense]))
        if not is_last:
            nodes.append(helper.make_node("Relu", [dense], [f"relu{index}"]))
            last = f"relu{index}"
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        workload.name,
        [value("x", TensorProto.FLOAT, ["batch", layers[0]])],
        [value("y", TensorProto.FLOAT, ["batch", layers[-1]])],
        weights,
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])


def _config(workload: Workload) -> str:
    config = model_config_pb2.ModelConfig(
        backend="onnxruntime",
        max_batch_size=workload.max_batch_size,
        instance_group=[model_config_pb2.ModelInstanceGroup(count=workload.instances)],
    )
    config.dynamic_batching.SetInParent()
    # One thread an instance, as for every in-process contender that is called "1 thread".
    config.parameters["intra_op_thread_count"].string_value = "1"
    for key, value in workload.parameters:
        config.parameters[key].string_value = value
    return str(text_format.MessageToString(config))


def _write(workload: Workload, path: Path, rows: int) -> None:
    batches = _batches(workload, rows)
    first = next(batches)
    aside = path.with_suffix(".part")
    with pq.ParquetWriter(aside, first.schema, compression="snappy", use_dictionary=False) as file:
        file.write_batch(first, row_group_size=CHUNK_ROWS)
        for batch in batches:
            file.write_batch(batch, row_group_size=CHUNK_ROWS)
    aside.rename(path)


def _batches(workload: Workload, rows: int) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(1)
    for begin in range(0, rows, CHUNK_ROWS):
        count = min(CHUNK_ROWS, rows - begin)
        values = random.standard_normal((count, workload.width), dtype=np.float32)
        columns = {"id": pa.array(np.arange(begin, begin + count))}
        if workload.is_list:
            flat = pa.array(values.reshape(-1))
            columns["x"] = pa.FixedSizeListArray.from_arrays(flat, workload.width)
        else:
            for index in range(workload.width):
                columns[f"f{index:03d}"] = pa.array(np.ascontiguousarray(values[:, index]))
        yield pa.record_batch(columns)
