"""What is known about the values of a graph: their element types, and what is constant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from tritonbulk.errors import ModelError
from tritonbulk_export.graph.walk import graphs
from tritonbulk_export.names import first_line

_SMALL_BYTES = 1024


def element_types(model: onnx.ModelProto) -> Mapping[str, int]:
    """Return the element type of every value of the outer graph that inference knows."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    kept = []
    for tensor in light.graph.initializer:
        if len(tensor.raw_data) <= _SMALL_BYTES:
            kept.append(tensor)
            continue
        # Types do not depend on weights, and inference takes no more than 2 GiB.
        light.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    small = list(kept)
    del light.graph.initializer[:]
    light.graph.initializer.extend(small)
    try:
        inferred = onnx.shape_inference.infer_shapes(light)
    except Exception as error:  # its errors have no common base
        raise ModelError(
            f"the types of the graph cannot be inferred ({first_line(error)}), so its precision "
            "cannot be changed; export it as fp32"
        ) from error
    graph = inferred.graph
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for port in (*graph.input, *graph.value_info, *graph.output):
        types[port.name] = port.type.tensor_type.elem_type
    return types


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the ``ai.onnx`` domain."""
    return next(opset.version for opset in model.opset_import if opset.domain == "")


def with_opset_at_least(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """Return ``model`` raised to ``opset`` if it is older.

    Raises:
        ModelError: it cannot be; no retry.
    """
    if opset_of(model) >= opset:
        return model
    try:
        raised = version_converter.convert_version(model, opset)
    except Exception as error:  # its errors have no common base
        raise ModelError(
            f"the graph is of opset {opset_of(model)}, this precision needs {opset}, and it cannot "
            f"be raised ({first_line(error)}); export the model again with opset {opset} or newer"
        ) from error
    raised.ir_version = max(raised.ir_version, 8)
    return raised


def lift_constants(model: onnx.ModelProto) -> None:
    """Make initializers, in place, of Constant nodes of the outer graph that hold a tensor."""
    nodes = []
    for node in model.graph.node:
        tensors = [a.t for a in node.attribute if a.name == "value" and a.HasField("t")]
        if node.op_type == "Constant" and tensors:
            tensor = model.graph.initializer.add()
            tensor.CopyFrom(tensors[0])
            tensor.name = node.output[0]
        else:
            nodes.append(node)
    left = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(left)


def drop_unused(model: onnx.ModelProto) -> None:
    """Remove initializers, in place, that nothing reads any more."""
    used = {name for node in model.graph.node for name in (*node.input, *captured(node))}
    used |= {port.name for port in model.graph.output}
    left = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(left)


def captured(node: onnx.NodeProto) -> set[str]:
    """Return the names that the subgraphs of ``node`` read, those of their own values included."""
    names: set[str] = set()
    for attribute in node.attribute:
        for child in (attribute.g, *attribute.graphs):
            for part in graphs(child):
                names.update(name for inner in part.node for name in inner.input)
                names.update(port.name for port in part.output)
    return names


def rename_captured(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Rename, in place, what the subgraphs of ``node`` read of the outer graph, old → new."""
    for attribute in node.attribute:
        for child in (attribute.g, *attribute.graphs):
            for part in graphs(child):
                for inner in part.node:
                    inner.input[:] = [names.get(name, name) for name in inner.input]


def array_of(tensor: TensorProto) -> npt.NDArray[np.float64]:
    """Return the numbers of a constant as float64."""
    return np.asarray(numpy_helper.to_array(tensor), dtype=np.float64)
