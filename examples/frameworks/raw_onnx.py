"""Raw ONNX: a graph that some other exporter wrote, with the defects that such graphs have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from examples.frameworks.example import NUMBERS, Example, customers, main, matrix, written


def make(folder: Path) -> Example:
    """Write a small network whose batch is declared as 1 and whose output is called 23."""
    table = customers(with_nulls=False)
    rows = matrix(table)
    random = np.random.default_rng(0)
    scale = np.array([50.0, 3e4, 2e4, 120.0, 1.0], np.float32)
    first = random.normal(size=(5, 32)).astype(np.float32)
    second = random.normal(size=(32, 2)).astype(np.float32)
    constants = {"scale": scale, "first": first, "second": second}
    graph = helper.make_graph(
        [
            helper.make_node("Div", ["features", "scale"], ["scaled"]),
            helper.make_node("MatMul", ["scaled", "first"], ["hidden"]),
            helper.make_node("Tanh", ["hidden"], ["active"]),
            helper.make_node("MatMul", ["active", "second"], ["23"]),
        ],
        "network",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, 5])],
        [helper.make_tensor_value_info("23", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=10), folder / "model.onnx")
    answers = np.tanh((rows / scale) @ first) @ second
    return Example(
        "default_onnx",
        ("onnx", str(folder / "model.onnx"), "--input-map", f"features={','.join(NUMBERS)}"),
        written(table, folder, NUMBERS),
        {"output_23": answers},
    )


if __name__ == "__main__":
    main(make)
