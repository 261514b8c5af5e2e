"""Declared shapes: the first dimension is the batch, and outputs have the shapes that were seen."""

from __future__ import annotations

from collections.abc import Mapping

import onnx
from onnx import helper

from tritonbulk.errors import ModelError
from tritonbulk_export.names import first_line

BATCH = "batch"
"""Name of the batch dimension in every repaired graph."""


def declare_batch(port: onnx.ValueInfoProto) -> str | None:
    """Make the first dimension of ``port`` the batch, in place; return what was mended, if any.

    Raises:
        ModelError: it is a scalar and has no first dimension; no retry.
    """
    tensor = port.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    if not tensor.shape.dim:
        raise ModelError(
            f"tensor {port.name!r} is a scalar and has no batch dimension; export the model so "
            "that the first dimension of all inputs and outputs is rows"
        )
    first = tensor.shape.dim[0]
    fixed = first.dim_value
    first.Clear()
    first.dim_param = BATCH
    return f"{port.name!r} was declared for {fixed} rows; now for any number" if fixed else None


def with_output_shapes(
    graph: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[onnx.ModelProto, list[str]]:
    """Return ``graph`` with output shapes declared as they were observed, and what was mended.

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
    notes = []
    for port in declared.graph.output:
        observed = shapes[port.name]
        if _contradicts(port, observed):
            notes.append(
                f"output {port.name!r} was declared {_shown(port)}; it is "
                f"[{', '.join([BATCH, *map(str, observed)])}]"
            )
        dims = [BATCH, *(None if size == -1 else size for size in observed)]
        element = port.type.tensor_type.elem_type
        port.CopyFrom(helper.make_tensor_value_info(port.name, element, dims))
    try:
        onnx.checker.check_model(declared)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ModelError(
            f"the ONNX checker refuses the graph ({first_line(error)}); export the model again "
            "with another exporter or opset"
        ) from error
    return declared, notes


def _contradicts(port: onnx.ValueInfoProto, observed: tuple[int, ...]) -> bool:
    tensor = port.type.tensor_type
    if not tensor.HasField("shape"):
        return False
    sizes = [dim.dim_value for dim in tensor.shape.dim[1:]]
    return len(sizes) != len(observed) or any(
        fixed not in (0, seen) for fixed, seen in zip(sizes, observed, strict=True)
    )


def _shown(port: onnx.ValueInfoProto) -> str:
    dims = port.type.tensor_type.shape.dim
    return "[" + ", ".join(dim.dim_param or str(dim.dim_value or "?") for dim in dims) + "]"
