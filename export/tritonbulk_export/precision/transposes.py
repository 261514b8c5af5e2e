"""Products behind transposes, in the order that ONNX Runtime survives in half precision.

``Transpose → MatMul`` by a constant matrix, where the first dimension moves next to the last, ends
ONNX Runtime 1.23 to 1.32 on x86 with a segmentation fault if a cast comes between the two, and on
CPUs one always does in float16 (microsoft/onnxruntime#28392). A product over the last dimension and
a transpose that leaves that dimension alone commute, so the transpose can come last.
"""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import helper


def transpose_last(model: onnx.ModelProto) -> None:
    """Move such transposes, in place, behind the products."""
    matrices = {t.name for t in model.graph.initializer if len(t.dims) == 2}
    makers = {name: node for node in model.graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        source = makers.get(node.input[0]) if node.input else None
        if (
            node.op_type != "MatMul"
            or node.input[1] not in matrices
            or source is None
            or not _is_fatal(source)
        ):
            nodes.append(node)
            continue
        out = node.output[0]
        between = f"{out}_untransposed"
        node.input[0], node.output[0] = source.input[0], between
        turn = helper.make_node(
            "Transpose", [between], [out], name=f"{node.name or out}_transpose", perm=_perm(source)
        )
        # Whatever reads this product next may be another one.
        makers[out] = turn
        nodes += [node, turn]
    read = Counter(name for node in nodes for name in node.input)
    read.update(port.name for port in model.graph.output)
    left = [n for n in nodes if not (_is_fatal(n) and not read[n.output[0]])]
    del model.graph.node[:]
    model.graph.node.extend(left)


def _is_fatal(node: onnx.NodeProto) -> bool:
    perm = _perm(node)
    rank = len(perm)
    return rank > 2 and perm[-2:] == [0, rank - 1]


def _perm(node: onnx.NodeProto) -> list[int]:
    if node.op_type != "Transpose":
        return []
    found = [a.ints for a in node.attribute if a.name == "perm"]
    return list(found[0]) if found else []
