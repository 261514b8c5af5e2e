"""Graphs that end ONNX Runtime are found out in another process, before this one loads them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
from onnx import TensorProto

from tritonbulk.errors import ModelError
from tritonbulk_export.graph import model_files
from tritonbulk_export.graph.walk import graphs, tensors

LOAD_S = 600.0

_LOADS = """
import sys, onnxruntime
onnxruntime.set_default_logger_severity(4)
try:
    onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
except Exception:
    pass
"""


def check_survival(graph: onnx.ModelProto) -> None:
    """Load ``graph`` in a process of its own, if it holds float16: there ONNX Runtime has faults.

    What ONNX Runtime merely refuses is said where the graph is loaded here.

    Raises:
        ModelError: that process was ended by a signal, as Triton would be; no retry.
    """
    if not _holds_half(graph):
        return
    with TemporaryDirectory(prefix="tritonbulk-") as scratch:
        folder = Path(scratch)
        files = model_files(graph)
        for name, data in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
        model = next(name for name in files if name.endswith("model.onnx"))
        command = [sys.executable, "-I", "-c", _LOADS, str(folder / model)]
        try:
            done = subprocess.run(command, capture_output=True, check=False, timeout=LOAD_S)
        except subprocess.TimeoutExpired as error:
            raise ModelError(
                f"ONNX Runtime did not load the graph within {LOAD_S:.0f} s; export it as fp32"
            ) from error
    if done.returncode < 0:
        raise ModelError(
            f"ONNX Runtime ends by signal {-done.returncode} when it loads the float16 graph on a "
            "CPU, a fault of its own that would end Triton too; keep some of its operators in "
            "float32 (--keep-fp32), or export it as fp32"
        )


def _holds_half(model: onnx.ModelProto) -> bool:
    return any(t.data_type == TensorProto.FLOAT16 for t in tensors(model.graph)) or any(
        port.type.tensor_type.elem_type == TensorProto.FLOAT16
        for graph in graphs(model.graph)
        for port in (*graph.input, *graph.output)
    )
