"""Repair: any exporter's ONNX → a graph that every Triton from 25.06 on loads and can batch.

Each step mends one known defect of an exporter; none changes what the graph computes, and `proof`
checks that afterwards. The bytes that come out depend on the model alone: random graph names,
source paths and stack traces that exporters leave behind are taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, version_converter

from tritonbulk.errors import ModelError
from tritonbulk_export.names import first_line

OPSET_MAX, ML_OPSET_MAX, IR_VERSION_MAX = 22, 5, 10
"""What ONNX Runtime 1.22 loads, which is the oldest in a supported Triton (25.06)."""

BATCH = "batch"
"""Name of the batch dimension in every repaired graph."""

_ONNX_DOMAINS = ("", "ai.onnx")
_EXPORTER_NOTES = ("doc_string", "metadata_props")


def repaired(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of ``model`` in the form that export publishes.

    - ZipMap outputs are tensors; initialisers are no inputs; there is one opset import a domain.
    - Opset, IR version and ``ai.onnx.ml`` are at most `OPSET_MAX`, `IR_VERSION_MAX`,
      `ML_OPSET_MAX`.
    - The first dimension of all inputs and outputs is the batch.
    - Names of exporters, documentation and metadata are gone.

    Raises:
        ModelError: a step is impossible; says why. A retry does not help.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    _merge_opsets(graph)
    without_zipmap(graph)
    _drop_initializer_inputs(graph)
    graph = _lowered(graph)
    for port in graph.graph.input:
        if not port.type.tensor_type.HasField("shape"):
            raise ModelError(f"input {port.name!r} has no declared shape; export it with one")
    for port in (*graph.graph.input, *graph.graph.output):
        _declare_batch(port)
    _strip(graph)
    graph.graph.name = "model"
    graph.producer_name = "tritonbulk"
    graph.ClearField("producer_version")
    graph.ClearField("domain")
    graph.ClearField("model_version")
    return graph


def with_output_shapes(
    graph: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]
) -> onnx.ModelProto:
    """Return ``graph`` with output shapes declared as they were observed.

    Exporters declare some wrongly (a static ``[1]`` for a label a row) or not at all, and Triton
    compares the declared ones with the configuration, exactly.

    Args:
        graph: repaired.
        shapes: row shape by output name; -1 where a size differs from run to run.

    Raises:
        ModelError: the ONNX checker refuses the graph; a retry does not help.
    """
    declared = onnx.ModelProto()
    declared.CopyFrom(graph)
    for port in declared.graph.output:
        dims = [BATCH, *(None if size == -1 else size for size in shapes[port.name])]
        element = port.type.tensor_type.elem_type
        port.CopyFrom(helper.make_tensor_value_info(port.name, element, dims))
    try:
        onnx.checker.check_model(declared)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(
            f"the ONNX checker refuses the graph ({first_line(error)}); export the model again "
            "with another exporter or opset"
        ) from error
    return declared


def serialized(graph: onnx.ModelProto) -> bytes:
    """Return the bytes of the model file: the same for the same graph.

    Raises:
        ModelError: it is larger than the 2 GiB that one ONNX file can hold; no retry.
    """
    try:
        return graph.SerializeToString(deterministic=True)
    except Exception as error:  # the protobuf implementations raise different classes here
        raise ModelError(
            f"the model does not fit one ONNX file of at most 2 GiB ({error}); make it smaller"
        ) from error


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Return a copy of ``model`` with values renamed, old name → new name, in subgraphs too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in _graphs(copy.graph):
        for port in (*graph.input, *graph.output, *graph.value_info):
            port.name = names.get(port.name, port.name)
        for constant in graph.initializer:
            constant.name = names.get(constant.name, constant.name)
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
    return copy


def without_zipmap(model: onnx.ModelProto) -> None:
    """Make tensors, in place, of outputs that ZipMap made sequences of maps: Triton has none."""
    ports = {port.name: port for port in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "ZipMap" and node.output[0] in ports:
            port = ports[node.output[0]]
            port.CopyFrom(helper.make_tensor_value_info(port.name, TensorProto.FLOAT, [None, None]))
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]


def _merge_opsets(model: onnx.ModelProto) -> None:
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        domain = "" if opset.domain in _ONNX_DOMAINS else opset.domain
        versions[domain] = max(opset.version, versions.get(domain, 0))
    # A graph of ai.onnx.ml nodes alone may leave it out; the Identity of a mended ZipMap needs it.
    versions.setdefault("", 15)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*pair) for pair in sorted(versions.items()))


def _drop_initializer_inputs(model: onnx.ModelProto) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    if not inputs:
        raise ModelError("the ONNX graph has no inputs; export a model that takes rows")
    # Inputs that are initialisers too were how IR 3 wrote constants.
    model.ir_version = max(model.ir_version, 4)


def _lowered(model: onnx.ModelProto) -> onnx.ModelProto:
    versions = {opset.domain: opset.version for opset in model.opset_import}
    if versions.get("ai.onnx.ml", 0) > ML_OPSET_MAX:
        raise ModelError(
            f"the graph uses ai.onnx.ml {versions['ai.onnx.ml']}, Triton 25.06 knows up to "
            f"{ML_OPSET_MAX}; export the model again with a lower target opset"
        )
    if versions[""] > OPSET_MAX:
        try:
            model = version_converter.convert_version(model, OPSET_MAX)
        except Exception as error:  # its errors have no common base
            raise ModelError(
                f"the graph uses opset {versions['']}, Triton 25.06 knows up to {OPSET_MAX}, and "
                f"it cannot be lowered ({first_line(error)}); export the model again with opset 20"
            ) from error
    model.ir_version = min(model.ir_version, IR_VERSION_MAX)
    return model


def _declare_batch(port: onnx.ValueInfoProto) -> None:
    tensor = port.type.tensor_type
    if not tensor.HasField("shape"):
        return
    if not tensor.shape.dim:
        raise ModelError(
            f"tensor {port.name!r} is a scalar and has no batch dimension; export the model so "
            "that the first dimension of all inputs and outputs is rows"
        )
    first = tensor.shape.dim[0]
    first.Clear()
    first.dim_param = BATCH


def _strip(message: Message) -> None:
    """Remove what exporters write for people, which holds paths, stack traces and random names."""
    for note in _EXPORTER_NOTES:
        if note in message.DESCRIPTOR.fields_by_name:
            message.ClearField(note)
    for _, value in message.ListFields():
        children = [value] if isinstance(value, Message) else value
        if isinstance(children, str | bytes | int | float):
            continue
        for child in children:
            if not isinstance(child, Message):
                break
            _strip(child)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for child in (attribute.g, *attribute.graphs):
                if child.node:
                    yield from _graphs(child)
