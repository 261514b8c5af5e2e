"""Repair: any exporter's ONNX → a graph that the target's Triton loads and can batch.

Each step mends one known defect of an exporter; none changes what the graph computes, and the
proofs of batch and parity check that afterwards. The bytes that come out depend on the model alone:
random graph names, source paths and stack traces that exporters leave behind are taken out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import onnx
from google.protobuf.message import Message
from onnx import TensorProto, helper, inliner

from tritonbulk.errors import ModelError
from tritonbulk_export.graph.lowering import lowered
from tritonbulk_export.graph.modes import check_modes
from tritonbulk_export.graph.shapes import declare_batch
from tritonbulk_export.graph.walk import graphs
from tritonbulk_export.names import first_line
from tritonbulk_export.targets import DEFAULT_RELEASE, Release

_ONNX_DOMAINS = ("", "ai.onnx")
_EXPORTER_NOTES = ("doc_string", "metadata_props")


@dataclass(frozen=True, slots=True)
class Repaired:
    """A graph that can be published, and what was done to it.

    Attributes:
        graph: the mended copy.
        notes: one sentence a repair, for people.
    """

    graph: onnx.ModelProto
    notes: tuple[str, ...]


def repair(model: onnx.ModelProto, release: Release = DEFAULT_RELEASE) -> Repaired:
    """Return a copy of ``model`` in the form that export publishes.

    - ZipMap outputs are tensors; initializers are no inputs; there is one opset import a domain;
      local functions are inlined.
    - Opset, IR version and ``ai.onnx.ml`` are at most those of ``release``.
    - The first dimension of all inputs and outputs is the batch; shapes declared inside are gone,
      because runtimes believe them.
    - Names of exporters, documentation and metadata are gone.

    Raises:
        ModelError: a step is impossible; says why. A retry does not help.
        ParityError: a node is in training mode; no retry.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    _check_names(graph.graph)
    check_modes(graph)
    notes = [*_merge_opsets(graph), *without_zipmap(graph), *_drop_initializer_inputs(graph)]
    if graph.functions:
        notes.append(f"{len(graph.functions)} local functions are inlined")
        graph = _inlined(graph)
    graph, changes = lowered(graph, release)
    notes += changes
    _check_ports(graph.graph)
    mended = [declare_batch(port) for port in (*graph.graph.input, *graph.graph.output)]
    notes += [note for note in mended if note]
    for part in graphs(graph.graph):
        del part.value_info[:]
    if count := sign(graph):
        notes.append(f"{count} notes of the exporter (paths, stack traces) are removed")
    return Repaired(graph, tuple(notes))


def sign(model: onnx.ModelProto) -> int:
    """Remove, in place, all that tells who made ``model`` and where, and say that we did.

    Returns:
        How many notes of an exporter there were.
    """
    count = _strip(model)
    model.graph.name = "model"
    model.producer_name = "tritonbulk"
    for field in ("producer_version", "domain", "model_version", "training_info"):
        model.ClearField(field)
    return count


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """Return a copy of ``model`` with values renamed, old name → new name, in subgraphs too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for graph in graphs(copy.graph):
        for port in (*graph.input, *graph.output, *graph.value_info):
            port.name = names.get(port.name, port.name)
        for constant in graph.initializer:
            constant.name = names.get(constant.name, constant.name)
        for node in graph.node:
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [names.get(name, name) for name in node.output]
    return copy


def dropped(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of ``model`` without ``outputs`` and the nodes that only they needed.

    Raises:
        ModelError: one of them is no output, or none would be left; no retry.
    """
    names = [port.name for port in model.graph.output]
    for name in outputs:
        if name not in names:
            raise ModelError(
                f"--drop-output {name!r} is no output of the model; it has {', '.join(names)}"
            )
    kept = [port for port in model.graph.output if port.name not in outputs]
    if not kept:
        raise ModelError("--drop-output leaves the model without an output; keep one")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(kept)
    needed = {port.name for port in kept}
    nodes = []
    for node in reversed(copy.graph.node):
        if needed.isdisjoint(node.output):
            continue
        nodes.append(node)
        needed.update(node.input)
        for attribute in node.attribute:
            for child in (attribute.g, *attribute.graphs):
                for graph in graphs(child):
                    needed.update(name for inner in graph.node for name in inner.input)
                    needed.update(port.name for port in graph.output)
    constants = [tensor for tensor in copy.graph.initializer if tensor.name in needed]
    for field, left in (("node", reversed(nodes)), ("initializer", constants)):
        kept_parts = list(left)
        copy.graph.ClearField(field)
        getattr(copy.graph, field).extend(kept_parts)
    return copy


def without_zipmap(model: onnx.ModelProto) -> list[str]:
    """Make tensors, in place, of outputs that ZipMap made sequences of maps: Triton has none.

    Returns:
        What was done, a sentence an output.
    """
    notes = []
    ports = {port.name: port for port in model.graph.output}
    for node in model.graph.node:
        if node.op_type == "ZipMap" and node.output[0] in ports:
            port = ports[node.output[0]]
            port.CopyFrom(helper.make_tensor_value_info(port.name, TensorProto.FLOAT, [None, None]))
            node.op_type, node.domain = "Identity", ""
            del node.attribute[:]
            notes.append(f"output {port.name!r} is a tensor; ZipMap made maps of it")
    return notes


def _check_names(graph: onnx.GraphProto) -> None:
    """Check that each value has one origin and that there is something to compute."""
    if not graph.node:
        raise ModelError("the ONNX graph has no nodes; export a model that computes something")
    if not graph.output:
        raise ModelError("the ONNX graph has no outputs; export a model that answers something")
    _check_once((port.name for port in graph.input), "input")
    _check_once((port.name for port in graph.output), "output")
    _check_once((tensor.name for tensor in graph.initializer), "initializer")
    _check_once((name for node in graph.node for name in node.output if name), "value")


def _check_once(names: Iterable[str], kind: str) -> None:
    for name, count in Counter(names).items():
        if not name:
            raise ModelError(f"an {kind} of the ONNX graph has no name; export the model again")
        if count > 1:
            raise ModelError(
                f"the ONNX graph has {count} {kind}s named {name!r}; export it with names that "
                "differ"
            )


def _check_ports(graph: onnx.GraphProto) -> None:
    for kind, ports in (("input", graph.input), ("output", graph.output)):
        for port in ports:
            found = port.type.WhichOneof("value")
            if found not in (None, "tensor_type"):
                raise ModelError(
                    f"{kind} {port.name!r} is of {found.replace('_', ' ')}, and Triton knows "
                    "tensors alone; export the model so that it takes and gives plain tensors"
                )
    for port in graph.input:
        if not port.type.tensor_type.HasField("shape"):
            raise ModelError(f"input {port.name!r} has no declared shape; export it with one")


def _merge_opsets(model: onnx.ModelProto) -> list[str]:
    versions: dict[str, int] = {}
    for opset in model.opset_import:
        domain = "" if opset.domain in _ONNX_DOMAINS else opset.domain
        versions[domain] = max(opset.version, versions.get(domain, 0))
    doubled = len(model.opset_import) - len(versions)
    # A graph of ai.onnx.ml nodes alone may leave it out; the Identity of a mended ZipMap needs it.
    versions.setdefault("", 15)
    del model.opset_import[:]
    model.opset_import.extend(helper.make_opsetid(*pair) for pair in sorted(versions.items()))
    return ["opset imports of one domain are merged"] if doubled else []


def _drop_initializer_inputs(model: onnx.ModelProto) -> list[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [port for port in model.graph.input if port.name not in constants]
    count = len(model.graph.input) - len(inputs)
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    if not inputs:
        raise ModelError("the ONNX graph has no inputs; export a model that takes rows")
    # Inputs that are initializers too were how IR 3 wrote constants.
    model.ir_version = max(model.ir_version, 4)
    return [f"{count} inputs are constants now, as they have values in the file"] if count else []


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:  # its errors have no common base
        raise ModelError(
            f"the graph's local functions cannot be inlined ({first_line(error)}); export the "
            "model without them"
        ) from error


def _strip(message: Message) -> int:
    """Remove what exporters write for people: paths, stack traces, random names.

    Returns:
        How many notes there were.
    """
    count = 0
    for note in _EXPORTER_NOTES:
        if note in message.DESCRIPTOR.fields_by_name and getattr(message, note):
            message.ClearField(note)
            count += 1
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in [value] if isinstance(value, Message) else value:
            count += _strip(child)
    return count
