"""Training mode: what a model does while it learns has no place in an entry."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from tritonbulk.errors import ParityError
from tritonbulk_export.graph.walk import graphs, title


def check_modes(graph: onnx.ModelProto) -> None:
    """Check that no node is in training mode, where batches are mixed or answers random.

    Raises:
        ParityError: one is; names it. A retry does not help.
    """
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    for part in graphs(graph.graph):
        for node in part.node:
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            outputs = [name for name in node.output if name]
            trains = node.op_type == "BatchNormalization" and (
                attributes.get("training_mode", 0) == 1 or len(outputs) > 1
            )
            if node.op_type == "Dropout" and len(node.input) > 2:
                mode = constants.get(node.input[2])
                trains = mode is not None and bool(numpy_helper.to_array(mode))
            if trains:
                raise ParityError(
                    f"node {title(node)} is in training mode, so that a row's answer would depend "
                    "on the rows beside it or on chance; export the model in evaluation mode "
                    "(model.eval() in PyTorch)"
                )
