"""Lowering: a graph of any opset and IR version → one that a Triton release loads.

An opset is a promise about what operators mean. Where every operator of a graph has had its meaning
since an opset that the release knows, only the number changes. Where one has not, the version
converter of the ``onnx`` package rewrites the graph, or says that it cannot.
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto, version_converter

from tritonbulk.errors import ModelError
from tritonbulk_export.graph.walk import graphs, tensors, title
from tritonbulk_export.names import first_line
from tritonbulk_export.targets import Release

_IR_OF_TYPE = {
    TensorProto.UINT4: 10, TensorProto.INT4: 10, TensorProto.FLOAT4E2M1: 11,
    TensorProto.FLOAT8E8M0: 12, **dict.fromkeys((25, 26), 13),
    **dict.fromkeys((27, 28), 14),
}  # fmt: skip
"""IR version with which an element type came (onnx/onnx.proto, enum Version); 25 to 28 are those of
2 and 6 bits, which older releases of the package do not name."""


def lowered(model: onnx.ModelProto, release: Release) -> tuple[onnx.ModelProto, list[str]]:
    """Return ``model`` in the form that ``release`` loads, and what was changed.

    Args:
        model: with one opset import a domain; it may be changed.
        release: to lower to; a model that is older stays as it is.

    Raises:
        ModelError: an operator or a type is newer than the release; names it. No retry.
    """
    notes = []
    versions = {opset.domain: opset.version for opset in model.opset_import}
    _check_ml(model, versions.get("ai.onnx.ml", 0), release)
    if model.ir_version > release.ir_max:
        _check_types(model, release)
    if versions[""] > release.opset_max:
        model = _with_opset(model, versions[""], release)
        notes.append(f"opset {versions['']} is lowered to {release.opset_max}")
    if model.ir_version > release.ir_max:
        notes.append(f"IR version {model.ir_version} is lowered to {release.ir_max}")
        _lower_ir(model, release)
    return model, [f"{note}, for Triton {release.tag}" for note in notes]


def newer_nodes(
    model: onnx.ModelProto, domain: str, version: int, known: int
) -> Iterator[onnx.NodeProto]:
    """Yield the nodes whose operators got their meaning in ``version`` after ``known``."""
    for graph in graphs(model.graph):
        for node in graph.node:
            if ("" if node.domain == "ai.onnx" else node.domain) != domain:
                continue
            try:
                since = onnx.defs.get_schema(node.op_type, version, domain).since_version
            except onnx.defs.SchemaError:
                continue
            if since > known:
                yield node


def _check_ml(model: onnx.ModelProto, version: int, release: Release) -> None:
    known = release.ml_opset_max
    if version <= known:
        return
    for node in newer_nodes(model, "ai.onnx.ml", version, known):
        raise ModelError(
            f"node {title(node)} is of ai.onnx.ml {version}, Triton {release.tag} knows up to "
            f"{known}; export the model again with a lower target opset"
        )
    for opset in model.opset_import:
        if opset.domain == "ai.onnx.ml":
            opset.version = known


def _with_opset(model: onnx.ModelProto, version: int, release: Release) -> onnx.ModelProto:
    newer = list(newer_nodes(model, "", version, release.opset_max))
    if not newer:
        for opset in model.opset_import:
            if opset.domain == "":
                opset.version = release.opset_max
        return model
    try:
        return version_converter.convert_version(model, release.opset_max)
    except Exception as error:  # its errors have no common base
        blamed = ", ".join(dict.fromkeys(title(node) for node in newer[:3]))
        raise ModelError(
            f"the graph uses opset {version}, Triton {release.tag} knows up to "
            f"{release.opset_max}, and {blamed} cannot be lowered ({first_line(error)}); export "
            f"the model again with opset {min(20, release.opset_max)}, or for a newer Triton "
            "(--triton)"
        ) from error


def _check_types(model: onnx.ModelProto, release: Release) -> None:
    for tensor in tensors(model.graph):
        _check_type(tensor.data_type, f"tensor {tensor.name!r}", release)
    for graph in graphs(model.graph):
        for port in (*graph.input, *graph.output):
            _check_type(port.type.tensor_type.elem_type, f"tensor {port.name!r}", release)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name == "to":
                    _check_type(attribute.i, f"node {title(node)}", release)


def _lower_ir(model: onnx.ModelProto, release: Release) -> None:
    """Remove, in place, hints for several devices, which came with IR 11, and set the version."""
    for graph in graphs(model.graph):
        for node in graph.node:
            if "device_configurations" in node.DESCRIPTOR.fields_by_name:
                node.ClearField("device_configurations")
    if "configuration" in model.DESCRIPTOR.fields_by_name:
        model.ClearField("configuration")
    model.ir_version = release.ir_max


def _check_type(data_type: int, what: str, release: Release) -> None:
    if _IR_OF_TYPE.get(data_type, 0) > release.ir_max:
        name = TensorProto.DataType.Name(data_type)
        raise ModelError(
            f"{what} has element type {name}, which came with IR version {_IR_OF_TYPE[data_type]}; "
            f"Triton {release.tag} knows up to {release.ir_max}, so export the model without it or "
            "for a newer Triton (--triton)"
        )
