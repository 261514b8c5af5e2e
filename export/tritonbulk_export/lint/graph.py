"""An ONNX model as lint sees it: parsed, never run, and its external data only measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk_export.lint.rules import Finding, found
from tritonbulk_export.targets import Release

_TYPES: dict[int, int] = {
    onnx.TensorProto.BOOL: pb.TYPE_BOOL,
    onnx.TensorProto.UINT8: pb.TYPE_UINT8,
    onnx.TensorProto.UINT16: pb.TYPE_UINT16,
    onnx.TensorProto.UINT32: pb.TYPE_UINT32,
    onnx.TensorProto.UINT64: pb.TYPE_UINT64,
    onnx.TensorProto.INT8: pb.TYPE_INT8,
    onnx.TensorProto.INT16: pb.TYPE_INT16,
    onnx.TensorProto.INT32: pb.TYPE_INT32,
    onnx.TensorProto.INT64: pb.TYPE_INT64,
    onnx.TensorProto.FLOAT16: pb.TYPE_FP16,
    onnx.TensorProto.FLOAT: pb.TYPE_FP32,
    onnx.TensorProto.DOUBLE: pb.TYPE_FP64,
    onnx.TensorProto.STRING: pb.TYPE_STRING,
}

_BF16 = onnx.TensorProto.BFLOAT16
_BF16_FREE = frozenset(
    {"Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Shape", "Size"}
)


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a graph; ``shape`` with the batch, -1 where a size is open."""

    name: str
    data_type: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a graph takes and gives; ``optional`` are initializers that a caller may override."""

    inputs: tuple[Tensor, ...]
    optional: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]

    @property
    def is_batchable(self) -> bool:
        """Whether every input and output begins with an open dimension."""
        return all(tensor.shape[:1] == (-1,) for tensor in (*self.inputs, *self.outputs))


def read_graph(path: Path) -> onnx.ModelProto | str:
    """Return the model in ``path``, or why it cannot be read; a folder holds a ``model.onnx``."""
    if path.is_dir():
        path /= "model.onnx"
    if not path.is_file():
        return "it is no file"
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError, ValueError, RecursionError) as error:
        return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return model if model.graph.node or model.graph.output else "it has no graph"


def check_graph(
    model: onnx.ModelProto, path: Path, place: str, target: Release
) -> Iterator[Finding]:
    """Yield why ONNX Runtime would not load the model, whatever the configuration says."""
    if model.ir_version > target.ir_max:
        yield found("O502", place, f"IR {model.ir_version} of at most {target.ir_max}")
    for opset in model.opset_import:
        most = {
            "": target.opset_max,
            "ai.onnx": target.opset_max,
            "ai.onnx.ml": target.ml_opset_max,
        }
        if opset.version > most.get(opset.domain, opset.version):
            detail = f"{opset.domain or 'ai.onnx'} {opset.version} of at most {most[opset.domain]}"
            yield found("O502", place, detail)
    for port in (*model.graph.input, *model.graph.output):
        kind = port.type.WhichOneof("value")
        if kind not in (None, "tensor_type"):
            yield found("O508", f"{place} {port.name!r}", f"a {kind}".removesuffix("_type"))
        elif kind is not None and port.type.tensor_type.elem_type not in _TYPES:
            element = port.type.tensor_type.elem_type
            name = onnx.TensorProto.DataType.Name(element) if element else "no datatype"
            yield found("O508", f"{place} {port.name!r}", name)
    broken = list(_check_external(model, path, place))
    yield from broken
    if not broken and (why := _checker(model, path)):
        yield found("O501", place, why)


def _checker(model: onnx.ModelProto, path: Path) -> str:
    """Return what the ONNX checker says against the model; "" if nothing."""
    known = {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"}
    if {opset.domain for opset in model.opset_import} - known or model.ir_version < 3:
        return ""  # operators that the checker does not know
    if model.ir_version > onnx.IR_VERSION or any(
        opset.version > onnx.defs.onnx_opset_version()
        for opset in model.opset_import
        if opset.domain in ("", "ai.onnx")
    ):
        return ""
    file = path / "model.onnx" if path.is_dir() else path
    try:
        onnx.checker.check_model(str(file))
    except (onnx.checker.ValidationError, ValueError) as error:
        return str(error).splitlines()[0][:200]
    return ""


def _check_external(model: onnx.ModelProto, path: Path, place: str) -> Iterator[Finding]:
    folder = (path if path.is_dir() else path.parent).resolve()
    for tensor in external_tensors(model):
        fields = {entry.key: entry.value for entry in tensor.external_data}
        location = fields.get("location", "")
        file = folder / location
        at = f"{place} {tensor.name!r}"
        if not location or Path(location).is_absolute() or ".." in Path(location).parts:
            yield found("O509", at, f"location {location!r}")
        elif not file.is_file():
            yield found("O509", at, f"{location!r} is missing")
        elif file.is_symlink() or file.stat().st_nlink > 1:
            yield found("O509", at, f"{location!r} is a link")
        elif _end(fields) > file.stat().st_size:
            yield found("O509", at, f"{location!r} ends before byte {_end(fields)}")


def _end(fields: dict[str, str]) -> int:
    try:
        return int(fields.get("offset", "0")) + int(fields.get("length", "0"))
    except ValueError:
        return 2**63


def computes_bf16(model: onnx.ModelProto) -> bool:
    """Return whether a node computes with BF16; to hold it, to shape it and to cast it is free."""
    return _computes_bf16(model.graph, set())


def _computes_bf16(graph: onnx.GraphProto, held: set[str]) -> bool:
    held |= {tensor.name for tensor in graph.initializer if tensor.data_type == _BF16}
    for node in graph.node:
        takes = not held.isdisjoint(node.input)
        if takes and node.op_type not in _BF16_FREE:
            return True
        fields = {each.name: each for each in node.attribute}
        if node.op_type == "Cast":
            takes = fields["to"].i == _BF16 if "to" in fields else False
        elif node.op_type == "Constant":
            takes = "value" in fields and fields["value"].t.data_type == _BF16
        if takes and node.op_type not in ("Shape", "Size"):
            held |= set(node.output)
        for each in node.attribute:
            inner = [*([each.g] if each.HasField("g") else []), *each.graphs]
            if any(_computes_bf16(one, held) for one in inner):
                return True
    return False


def external_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors of a model whose data is in other files, subgraphs included."""
    stack = [model.graph]
    while stack:
        graph = stack.pop()
        attributes = [a for node in graph.node for a in node.attribute]
        tensors = [*graph.initializer, *(a.t for a in attributes)]
        tensors += [tensor for a in attributes for tensor in a.tensors]
        yield from (t for t in tensors if t.data_location == onnx.TensorProto.EXTERNAL)
        stack += [a.g for a in attributes if a.g.node]
        stack += [each for a in attributes for each in a.graphs]


def signature_of(model: onnx.ModelProto) -> Signature:
    """Return what the model takes and gives; tensors alone."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in constants]
    optional = [port for port in model.graph.input if port.name in constants]
    return Signature(
        tuple(map(_tensor, inputs)),
        tuple(map(_tensor, optional)) if model.ir_version >= 4 else (),
        tuple(map(_tensor, model.graph.output)),
    )


def _tensor(port: onnx.ValueInfoProto) -> Tensor:
    tensor = port.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.WhichOneof("value") == "dim_value" else -1 for dim in tensor.shape.dim
    )
    return Tensor(port.name, _TYPES.get(tensor.elem_type, pb.TYPE_INVALID), shape)
