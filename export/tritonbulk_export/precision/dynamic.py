"""Dynamic INT8: weights are quantized once, activations when they come, each row by itself.

ONNX's own DynamicQuantizeLinear takes one scale for the whole tensor, so that a row's answer would
depend on the rows beside it. Here every row (of the last dimension) has its own scale, which plain
operators compute; the product of integers is exact, so batches cannot change it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tritonbulk.errors import ModelError
from tritonbulk_export.graph.walk import title
from tritonbulk_export.precision.ports import (
    drop_unused,
    lift_constants,
    opset_of,
    with_opset_at_least,
)

_OPSET = 13
_AXES_AS_INPUT = 18
_LARGEST = 127.0
_LOW, _HIGH, _TINY, _LAST = (f"tritonbulk_{name}" for name in ("low", "high", "tiny", "last"))
_CONSTANTS: Mapping[str, npt.NDArray[Any]] = {
    _LOW: np.array(-_LARGEST, dtype=np.float32),
    _HIGH: np.array(_LARGEST, dtype=np.float32),
    _TINY: np.array(1e-30, dtype=np.float32),
    _LAST: np.array([-1], dtype=np.int64),
}


def to_dynamic_int8(model: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
    """Return ``model`` with its products by constant matrices in INT8, and what was done.

    Args:
        model: repaired, in float32.

    Raises:
        ModelError: it has no such product; no retry.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(with_opset_at_least(model, _OPSET))
    lift_constants(graph)
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    opset = opset_of(graph)
    for name, value in _CONSTANTS.items():
        graph.graph.initializer.append(numpy_helper.from_array(value, name))
    nodes: list[onnx.NodeProto] = []
    done = []
    for node in graph.graph.node:
        matrix = _matrix(node, weights)
        if matrix is None:
            nodes.append(node)
            continue
        done.append(title(node))
        nodes += _quantized(graph, node, matrix, opset)
    if not done:
        raise ModelError(
            "--precision int8-dynamic would change nothing: the graph has no MatMul or Gemm with a "
            "constant matrix; export it as fp32"
        )
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    drop_unused(graph)
    return graph, [f"{len(done)} products are INT8 with a scale a row"]


def _matrix(
    node: onnx.NodeProto, weights: Mapping[str, TensorProto]
) -> npt.NDArray[np.float32] | None:
    """Return the constant matrix ``[in, out]`` that ``node`` multiplies by; None if it does not."""
    if node.op_type not in ("MatMul", "Gemm") or node.domain not in ("", "ai.onnx"):
        return None
    tensor = weights.get(node.input[1])
    if tensor is None or tensor.data_type != TensorProto.FLOAT or len(tensor.dims) != 2:
        return None
    settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if settings.get("transA", 0) or settings.get("alpha", 1.0) != 1 or settings.get("beta", 1) != 1:
        return None
    matrix = numpy_helper.to_array(tensor)
    return matrix.T if settings.get("transB", 0) else matrix


def _quantized(
    model: onnx.ModelProto, node: onnx.NodeProto, matrix: npt.NDArray[np.float32], opset: int
) -> Sequence[onnx.NodeProto]:
    """Return the nodes that stand for ``node``, and add their constants."""
    out, source = node.output[0], node.input[0]
    scale = np.maximum(np.abs(matrix).max(axis=0) / _LARGEST, 1e-30).astype(np.float32)
    whole = np.clip(np.round(matrix / scale), -_LARGEST, _LARGEST).astype(np.int8)
    model.graph.initializer.append(numpy_helper.from_array(whole, f"{out}_weight_int8"))
    model.graph.initializer.append(numpy_helper.from_array(scale, f"{out}_weight_scale"))

    def step(kind: str, inputs: Sequence[str], name: str, **settings: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [name], name=f"{name}_{kind}", **settings)

    axes = ([_LAST], {}) if opset >= _AXES_AS_INPUT else ([], {"axes": [-1]})
    has_bias = len(node.input) > 2 and bool(node.input[2])
    product = f"{out}_product" if has_bias else out
    nodes = [
        step("Abs", [source], f"{out}_abs"),
        step("ReduceMax", [f"{out}_abs", *axes[0]], f"{out}_peak", keepdims=1, **axes[1]),
        step("Div", [f"{out}_peak", _HIGH], f"{out}_unit0"),
        step("Max", [f"{out}_unit0", _TINY], f"{out}_unit"),
        step("Div", [source, f"{out}_unit"], f"{out}_in_units"),
        step("Round", [f"{out}_in_units"], f"{out}_round"),
        step("Clip", [f"{out}_round", _LOW, _HIGH], f"{out}_clip"),
        step("Cast", [f"{out}_clip"], f"{out}_int8", to=TensorProto.INT8),
        step("MatMulInteger", [f"{out}_int8", f"{out}_weight_int8"], f"{out}_int32"),
        step("Cast", [f"{out}_int32"], f"{out}_wide", to=TensorProto.FLOAT),
        step("Mul", [f"{out}_wide", f"{out}_unit"], f"{out}_scaled"),
        step("Mul", [f"{out}_scaled", f"{out}_weight_scale"], product),
    ]
    if has_bias:
        nodes.append(step("Add", [product, node.input[2]], out))
    return nodes
