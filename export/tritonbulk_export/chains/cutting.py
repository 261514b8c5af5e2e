"""Cutting a graph into stages: where little passes, and where the weights are halved fairly.

The cost of a cut is the bytes a row of the values that cross it. Weights stand for work: a stage
should hold its share of them. Around each fair place, half a share to either side, the cheapest
cut is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from tritonbulk.errors import ModelError, OptionError
from tritonbulk_export.graph.walk import graphs
from tritonbulk_export.runtime import open_session
from tritonbulk_export.spec import Tensors

STAGES_MAX = 16
_SLACK = 1 / 2
_KINDS = "fiub"


@dataclass(frozen=True, slots=True)
class Value:
    """A value inside a graph that could pass from one stage to the next.

    Attributes:
        name: of the value.
        element: ONNX's number of its datatype.
        shape: of one row.
        row_bytes: bytes of one row.
    """

    name: str
    element: int
    shape: tuple[int, ...]
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Cut:
    """A place after a node, and what passes there.

    Attributes:
        after: number of nodes before it.
        values: that pass.
    """

    after: int
    values: tuple[Value, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row that pass."""
        return sum(value.row_bytes for value in self.values)


def cut(
    model: onnx.ModelProto, stages: int, rows: Tensors
) -> tuple[list[onnx.ModelProto], list[Cut]]:
    """Return the models of ``stages`` stages and the cuts between them.

    Args:
        model: repaired: the first dimension of inputs and outputs is the batch.
        stages: how many.
        rows: some rows, two at least, to see values' shapes by.

    Raises:
        OptionError: ``stages`` is out of bounds. No retry.
        ModelError: there are not enough places where whole rows pass. No retry.
    """
    if not 2 <= stages <= STAGES_MAX:
        raise OptionError(f"--stages {stages} is not between 2 and {STAGES_MAX}")
    values = _observed(model, rows)
    cuts = _possible(model, values)
    chosen = _chosen(cuts, _weights(model), stages)
    ends = [0, *(each.after for each in chosen), len(model.graph.node)]
    passing: list[tuple[Value, ...]] = [(), *(each.values for each in chosen), ()]
    models = [
        _stage(model, ends[i], ends[i + 1], passing[i], passing[i + 1]) for i in range(stages)
    ]
    return models, chosen


def uses(node: onnx.NodeProto) -> set[str]:
    """Return the names that a node reads, those inside its subgraphs included."""
    names = set(node.input)
    for attribute in node.attribute:
        for child in (attribute.g, *attribute.graphs):
            for graph in graphs(child):
                names |= {name for inner in graph.node for name in inner.input}
                names |= {port.name for port in graph.output}
    return names - {""}


def _observed(model: onnx.ModelProto, rows: Tensors) -> dict[str, Value]:
    """Return the inner values that are one row a row, by running the graph at two sizes."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    outputs = {port.name for port in model.graph.output}
    inner = [n for node in model.graph.node for n in node.output if n and n not in outputs]
    known = _element_types(model)
    for name in inner:
        if name in known:
            shown.graph.output.append(helper.make_tensor_value_info(name, known[name], None))
    session = open_session(shown)
    count = len(next(iter(rows.values())))
    if count < 2:
        raise ModelError("a model is cut by at least 2 sample rows; give more with --sample")
    few = session.run({name: tensor[: count - 1] for name, tensor in rows.items()})
    many = session.run(rows)
    values = {}
    for name in inner:
        if name not in many:
            continue
        one, other = few[name], many[name]
        is_by_row = one.ndim > 0 and len(one) == count - 1 and len(other) == count
        if is_by_row and one.shape[1:] == other.shape[1:] and other.dtype.kind in _KINDS:
            size = other.dtype.itemsize * int(np.prod(other.shape[1:], dtype=np.int64))
            values[name] = Value(name, known[name], other.shape[1:], size)
    return values


def _element_types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    return {
        port.name: port.type.tensor_type.elem_type
        for port in inferred.graph.value_info
        if port.type.tensor_type.elem_type
    }


def _possible(model: onnx.ModelProto, values: Mapping[str, Value]) -> list[Cut]:
    """Return the places where everything that passes is a row a row."""
    nodes = model.graph.node
    constant = {tensor.name for tensor in model.graph.initializer}
    outside = constant | {port.name for port in model.graph.input} | {""}
    last_use: dict[str, int] = {}
    for number, node in enumerate(nodes):
        for name in uses(node):
            last_use[name] = number
    live: set[str] = set()
    cuts = []
    for number, node in enumerate(nodes[:-1]):
        live |= {name for name in node.output if last_use.get(name, -1) > number}
        live = {name for name in live if last_use[name] > number} - outside
        if live and live <= set(values):
            cuts.append(Cut(number + 1, tuple(values[name] for name in sorted(live))))
    return cuts


def _weights(model: onnx.ModelProto) -> list[int]:
    """Return the bytes of weights that are first used by each node, plus one a node."""
    sizes = {tensor.name: tensor.ByteSize() for tensor in model.graph.initializer}
    seen: set[str] = set()
    found = []
    for node in model.graph.node:
        own = {name for name in uses(node) if name in sizes} - seen
        seen |= own
        found.append(1 + sum(sizes[name] for name in own))
    return found


def _chosen(cuts: Sequence[Cut], weights: Sequence[int], stages: int) -> list[Cut]:
    before = np.concatenate([[0], np.cumsum(weights)])
    share = before[-1] / stages
    chosen: list[Cut] = []
    for number in range(1, stages):
        fair = share * number
        later = [each for each in cuts if not chosen or each.after > chosen[-1].after]
        near = [each for each in later if abs(before[each.after] - fair) <= share * _SLACK]
        if not (near or later):
            raise ModelError(
                f"the graph has no {stages - 1} places where whole rows pass; give fewer --stages"
            )
        if near:
            best = min(near, key=lambda each: (each.row_bytes, abs(before[each.after] - fair)))
        else:
            best = min(later, key=lambda each: abs(before[each.after] - fair))
        chosen.append(best)
    return chosen


def _stage(
    model: onnx.ModelProto, start: int, end: int, taken: Sequence[Value], given: Sequence[Value]
) -> onnx.ModelProto:
    nodes = model.graph.node[start:end]
    used = {name for node in nodes for name in uses(node)}
    made = {name for node in nodes for name in node.output}
    # What only passes through goes around: an ensemble hands each tensor to whoever takes it.
    inputs = [port for port in model.graph.input if port.name in used]
    inputs += [_port(value) for value in taken if value.name in used]
    outputs = [_port(value) for value in given if value.name in made]
    outputs += [port for port in model.graph.output if port.name in made]
    stage = onnx.ModelProto()
    stage.CopyFrom(model)
    del stage.graph.node[:], stage.graph.input[:], stage.graph.output[:]
    del stage.graph.initializer[:], stage.graph.value_info[:]
    stage.graph.node.extend(nodes)
    stage.graph.input.extend(inputs)
    stage.graph.output.extend(outputs)
    stage.graph.initializer.extend(t for t in model.graph.initializer if t.name in used)
    return stage


def _port(value: Value) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(value.name, value.element, ["batch", *value.shape])
