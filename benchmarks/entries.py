"""The model entries: made from fixed seeds, served by the embedded Triton and read in-process."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import model_config_pb2

FLIGHT_DELAY = Path(__file__).parents[1] / "model_repository" / "flight_delay"
TEXT_KEYS = tuple(f"key-{number:010d}" for number in range(1_000))
"""What the text model knows: 14 characters each."""

_DENSE_LAYERS = {
    "mlp": (64, 256, 256, 1),
    "mlp_2": (64, 256, 256, 1),
    "heavy": (64, 2048, 2048, 1024, 1),  # 12.8 MFLOP a row
    "embedding": (384, 768),
    "accelerator": (4, 1),
}
_OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 4)]


@dataclass(frozen=True, slots=True)
class _Settings:
    max_batch_size: int
    instances: int = 1
    parameters: tuple[tuple[str, str], ...] = ()


_SETTINGS = {
    "mlp": _Settings(4096),
    "mlp_2": _Settings(4096, instances=2),
    "heavy": _Settings(256, instances=2),
    "embedding": _Settings(1024, instances=2),
    "image": _Settings(8),
    "strings": _Settings(4096),
    # In one piece, as an accelerator executes it.
    "accelerator": _Settings(
        1024, parameters=(("simulate_ms", "8,0.05"), ("tritonbulk.run_rows_max", "0"))
    ),
}


def make_entry(name: str, repository: Path) -> None:
    """Make a model entry, unless it is there."""
    entry = repository / name
    if (entry / "config.pbtxt").exists():
        return
    aside = repository / f".{name}"
    shutil.rmtree(aside, ignore_errors=True)
    if name == "flight_delay":
        shutil.copytree(FLIGHT_DELAY, aside)
    else:
        (aside / "1").mkdir(parents=True)
        onnx.save(_model(name), str(aside / "1" / "model.onnx"))
        (aside / "config.pbtxt").write_text(_config(_SETTINGS[name]))
    shutil.rmtree(entry, ignore_errors=True)
    aside.rename(entry)


def model_file(name: str, repository: Path) -> Path:
    """Return the ONNX file of an entry's only version."""
    (path,) = (repository / name).glob("*/model.onnx")
    return path


def _model(name: str) -> onnx.ModelProto:
    if name == "image":
        nodes = [
            helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["y"]),
        ]
        return _graph(name, nodes, (3, 224, 224), 3)
    if name == "strings":
        node = helper.make_node(
            "LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_strings=TEXT_KEYS,
            values_floats=[float(number) for number in range(len(TEXT_KEYS))],
        )  # fmt: skip
        return _graph(name, [node], (1,), 1, kind=TensorProto.STRING)
    return _dense(name, _DENSE_LAYERS[name])


def _dense(name: str, layers: Sequence[int]) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for index, (rows, columns) in enumerate(pairwise(layers)):
        weight = random.standard_normal((rows, columns), dtype=np.float32) / np.float32(rows**0.5)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        is_last = index == len(layers) - 2
        dense = "y" if is_last else f"dense{index}"
        nodes.append(helper.make_node("MatMul", [last, f"w{index}"], [dense]))
        if not is_last:
            last = f"relu{index}"
            nodes.append(helper.make_node("Relu", [dense], [last]))
    return _graph(name, nodes, (layers[0],), layers[-1], weights)


def _graph(
    name: str,
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int],
    width: int,
    weights: Sequence[onnx.TensorProto] = (),
    kind: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        name,
        [value("x", kind, ["batch", *shape])],
        [value("y", TensorProto.FLOAT, ["batch", width])],
        weights,
    )
    return helper.make_model(graph, ir_version=10, opset_imports=_OPSETS)


def _config(settings: _Settings) -> str:
    config = model_config_pb2.ModelConfig(
        backend="onnxruntime",
        max_batch_size=settings.max_batch_size,
        instance_group=[model_config_pb2.ModelInstanceGroup(count=settings.instances)],
    )
    config.dynamic_batching.SetInParent()
    # One thread an instance, as for every in-process contender that is called "1 thread".
    config.parameters["intra_op_thread_count"].string_value = "1"
    for key, value in settings.parameters:
        config.parameters[key].string_value = value
    return str(text_format.MessageToString(config))
