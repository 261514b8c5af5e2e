"""Half precision in the graph: float16, or bfloat16, with casts where the two precisions meet.

Which nodes can be half follows from the operators' own schemas. A value has at most two forms,
float and half; each is made once, by the node that computes it or by one Cast behind it. Inputs
and outputs keep their declared types unless half ones are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tritonbulk.errors import ModelError, OptionError
from tritonbulk_export.graph.walk import title
from tritonbulk_export.precision.ports import (
    array_of,
    captured,
    drop_unused,
    element_types,
    lift_constants,
    opset_of,
    rename_captured,
)
from tritonbulk_export.precision.transposes import transpose_last

HEAVY = frozenset({
    "MatMul", "Gemm", "Conv", "ConvTranspose", "LSTM", "GRU", "RNN", "Attention", "Einsum",
    "Gather",
})  # fmt: skip
"""What half precision is for: if none of these becomes half, nothing is gained."""

_NEVER = frozenset({
    "Cast", "CastLike", "Range", "CumSum", "RandomNormalLike", "RandomUniformLike", "Upsample",
    "NonMaxSuppression", "RoiAlign", "QuantizeLinear", "DequantizeLinear", "If", "Loop", "Scan",
    "DynamicQuantizeLinear", "EyeLike", "Bernoulli", "Multinomial", "SequenceConstruct",
})  # fmt: skip
_MANY = 1024
_FEW = 16
"""Constants of so few values are parameters, such as an epsilon, and must not become zero."""


@dataclass(frozen=True, slots=True)
class HalfType:
    """A half-precision element type.

    Attributes:
        name: as in ``--precision``.
        onnx: number of the element type.
        largest: finite number.
        smallest: positive number.
    """

    name: str
    onnx: int
    largest: float
    smallest: float

    @property
    def tensor(self) -> str:
        """Return the name of the type in operators' schemas."""
        return "tensor(float16)" if self.onnx == TensorProto.FLOAT16 else "tensor(bfloat16)"


FP16 = HalfType("fp16", TensorProto.FLOAT16, 65504.0, 2.0**-24)
BF16 = HalfType("bf16", TensorProto.BFLOAT16, 3.38e38, 2.0**-133)


def to_half(
    model: onnx.ModelProto,
    kind: HalfType,
    *,
    keep: Sequence[str] = (),
    half_io: bool = False,
    emulated: bool = False,
) -> tuple[onnx.ModelProto, list[str]]:
    """Return ``model`` with all nodes in half precision that can be, and what was done.

    Args:
        model: repaired, in float32.
        kind: of half precision.
        keep: patterns of node names or operator types that stay float32.
        half_io: make float32 inputs and outputs half as well.
        emulated: leave all types float32 and round where the half graph would: what a processor
            without such arithmetic can run.

    Raises:
        ModelError: no node that costs time can be half; says which stay and why. No retry.
        OptionError: a pattern of ``keep`` fits no node; no retry.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    lift_constants(graph)
    transpose_last(graph)
    plan = _plan(graph, kind, keep)
    made = [graph.graph.node[index] for index in plan.half]
    if not any(_is_heavy(node, graph) for node in made):
        raise ModelError(_nothing_gained(graph, kind, plan))
    writer = _Writer(graph, kind, half_io=half_io, emulated=emulated)
    for index, node in enumerate(list(graph.graph.node)):
        ports = plan.half.get(index)
        if ports is None:
            writer.keep(node)
        else:
            writer.make_half(node, *ports)
    casts = writer.finish()
    notes = [f"{len(made)} of {len(graph.graph.node) - casts} nodes are {kind.name}, {casts} casts"]
    if plan.kept:
        notes.append("float32 stays " + "; ".join(f"{w}: {why}" for w, why in plan.kept.items()))
    drop_unused(graph)
    return graph, notes


@dataclass
class _Plan:
    """Which nodes become half, by index with the ports to change, and why others do not."""

    half: dict[int, tuple[list[int], list[int]]] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)


def _plan(model: onnx.ModelProto, kind: HalfType, keep: Sequence[str]) -> _Plan:
    types = element_types(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    opset = opset_of(model)
    plan = _Plan()
    unused = set(keep)
    for index, node in enumerate(model.graph.node):
        asked = [p for p in keep if fnmatchcase(node.name, p) or fnmatchcase(node.op_type, p)]
        unused -= set(asked)
        ports = _half_ports(node, kind, types, opset)
        if ports is None:
            continue
        reason = "asked" if asked else _out_of_range(node, ports[0], constants, kind)
        if reason:
            plan.kept[title(node)] = reason
        else:
            plan.half[index] = ports
    if unused:
        raise OptionError(
            f"--keep-fp32 {min(unused)!r} fits no node's name and no operator of the graph"
        )
    return plan


def _half_ports(
    node: onnx.NodeProto, kind: HalfType, types: Mapping[str, int], opset: int
) -> tuple[list[int], list[int]] | None:
    """Return the inputs and outputs of ``node`` to make half; None if it has to stay as it is."""
    if node.domain not in ("", "ai.onnx") or node.op_type in _NEVER:
        return None
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return None
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    inputs, variables = [], set()
    for index, name in enumerate(node.input):
        if types.get(name) != TensorProto.FLOAT:
            continue
        formal = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
        if kind.tensor in allowed.get(formal, ()):
            inputs.append(index)
            variables.add(formal)
    outputs = [
        index
        for index, name in enumerate(node.output)
        if name and schema.outputs[min(index, len(schema.outputs) - 1)].type_str in variables
    ]
    return (inputs, outputs) if inputs else None


def _out_of_range(
    node: onnx.NodeProto,
    inputs: Sequence[int],
    constants: Mapping[str, TensorProto],
    kind: HalfType,
) -> str:
    """Return why the constants of ``node`` do not fit; empty if they do."""
    for index in inputs:
        tensor = constants.get(node.input[index])
        if tensor is None:
            continue
        sizes = np.abs(array_of(tensor))
        finite = sizes[np.isfinite(sizes)]
        if finite.max(initial=0.0) > kind.largest:
            return f"{tensor.name} holds {finite.max():.3g}"
        if sizes.size <= _FEW and ((finite > 0) & (finite < kind.smallest)).any():
            return f"{tensor.name} would become 0"
    return ""


def _is_heavy(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Return whether half precision of ``node`` gains anything.

    Looking up, and whatever comes beside trees, has to be about many weights.
    """
    if node.op_type not in HEAVY:
        return False
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    weights = sum(sizes.get(name, 0) for name in node.input)
    has_trees = any(other.op_type.startswith("TreeEnsemble") for other in model.graph.node)
    return weights >= _MANY or not (has_trees or node.op_type == "Gather")


def _nothing_gained(model: onnx.ModelProto, kind: HalfType, plan: _Plan) -> str:
    trees = [node.op_type for node in model.graph.node if node.op_type.startswith("TreeEnsemble")]
    why = (
        f"its trees ({trees[0]}) compare with float32 thresholds"
        if trees
        else "no " + ", ".join(sorted(HEAVY)) + " of it can be half"
    )
    if plan.kept:
        why += "; " + "; ".join(f"{what} stays: {reason}" for what, reason in plan.kept.items())
    return f"--precision {kind.name} would change nothing that costs time: {why}; export it as fp32"


class _Writer:
    """The new list of nodes, with each form of a value made once."""

    def __init__(
        self, model: onnx.ModelProto, kind: HalfType, *, half_io: bool, emulated: bool
    ) -> None:
        self._model = model
        self._kind = kind
        self._half_io = half_io
        self._emulated = emulated
        self._nodes: list[onnx.NodeProto] = []
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self._float: dict[str, str] = {}
        self._half: dict[str, str] = {}
        self._native: set[str] = set()
        self._outputs = {
            port.name
            for port in model.graph.output
            if half_io and port.type.tensor_type.elem_type == TensorProto.FLOAT
        }
        self._casts = 0
        for port in model.graph.input:
            if half_io and port.type.tensor_type.elem_type == TensorProto.FLOAT:
                port.type.tensor_type.elem_type = kind.onnx
                self._half[port.name] = port.name
                self._native.add(port.name)

    def keep(self, node: onnx.NodeProto) -> None:
        """Append ``node``, whose inputs are float."""
        inside = captured(node) & (set(self._native) | set(self._float))
        rename_captured(node, {name: self._float_form(name) for name in inside})
        node.input[:] = [self._float_form(name) for name in node.input]
        self._nodes.append(node)
        for index, name in enumerate(node.output):
            if name in self._outputs:
                node.output[index] = self._float[name] = f"{name}_float"

    def make_half(
        self, node: onnx.NodeProto, inputs: Sequence[int], outputs: Sequence[int]
    ) -> None:
        """Append ``node`` with the given inputs and outputs half."""
        node.input[:] = [
            self._half_form(name) if index in inputs else self._float_form(name)
            for index, name in enumerate(node.input)
        ]
        self._nodes.append(node)
        for index in outputs:
            name = node.output[index]
            half = name if name in self._outputs else f"{name}_{self._kind.name}"
            node.output[index] = f"{name}_exact" if self._emulated else half
            if self._emulated:
                self._round(f"{name}_exact", half)
            self._half[name] = half
            self._native.add(name)

    def finish(self) -> int:
        """Write the nodes into the model and return how many of them are casts."""
        for port in self._model.graph.output:
            name = port.name
            if name in self._outputs:
                port.type.tensor_type.elem_type = self._kind.onnx
                if name not in self._native:
                    self._cast(self._float_form(name), name, self._kind.onnx)
            else:
                self._float_form(name)
        del self._model.graph.node[:]
        self._model.graph.node.extend(self._nodes)
        return self._casts

    def _half_form(self, name: str) -> str:
        """Return the name of the half form of value ``name``, made now if it was not before."""
        if name not in self._half:
            half = f"{name}_{self._kind.name}"
            if name in self._constants:
                self._model.graph.initializer.append(self._half_constant(name, half))
            elif self._emulated:
                self._round(self._float_form(name), half)
            else:
                self._cast(self._float_form(name), half, self._kind.onnx)
            self._half[name] = half
        return self._half[name]

    def _float_form(self, name: str) -> str:
        """Return the name of the float form of value ``name``, made now if it was not before."""
        if name in self._native and name not in self._float:
            half = self._half[name]
            self._float[name] = f"{name}_float" if half == name else name
            self._cast(half, self._float[name], TensorProto.FLOAT)
        return self._float.get(name, name)

    def _half_constant(self, name: str, half: str) -> TensorProto:
        kind = np.float16 if self._kind is FP16 else ml_dtypes.bfloat16
        rounded = numpy_helper.to_array(self._constants[name]).astype(kind)
        if self._emulated:
            return numpy_helper.from_array(rounded.astype(np.float32), half)
        return helper.make_tensor(
            half, self._kind.onnx, self._constants[name].dims, rounded.tobytes(), raw=True
        )

    def _round(self, source: str, target: str) -> None:
        self._cast(source, f"{target}_rounded", self._kind.onnx)
        self._cast(f"{target}_rounded", target, TensorProto.FLOAT)

    def _cast(self, source: str, target: str, data_type: int) -> None:
        self._nodes.append(
            helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=data_type)
        )
        self._casts += 1
