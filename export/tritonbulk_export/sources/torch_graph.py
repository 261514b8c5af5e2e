"""PyTorch → ONNX: by torch.export with a batch that may have any size, or by tracing (legacy).

``Dim.DYNAMIC`` makes torch refuse a module that fixes its batch; a named ``Dim`` would fix it in
silence.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch

from tritonbulk.contract import InputTensor
from tritonbulk.errors import ModelError
from tritonbulk_export.names import first_line

OPSET = 20
_LOGGERS = ("torch", "torch.onnx", "torch.export", "onnxscript", "onnx_ir")
_FIXED = re.compile(r"(?:specialized it to be a constant \(|inferred a static shape of )(\d+)")


def module_graph(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: Sequence[InputTensor],
    *,
    exporter: str,
) -> onnx.ModelProto:
    """Return the graph of a module that takes the tensors of ``example`` in order.

    Args:
        module: in evaluation mode; returns a tuple of tensors.
        example: rows to trace it with.
        inputs: that ``example`` was made for; dimensions of -1 stay open, as the batch does.
        exporter: ``dynamo`` or ``legacy``.

    Raises:
        ModelError: torch cannot export it so; a retry does not help.
    """
    open_axes = [
        [0, *(axis for axis, size in enumerate(tensor.shape, 1) if size == -1)] for tensor in inputs
    ]
    if exporter == "legacy":
        return _traced(module, example, open_axes)
    shapes = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in open_axes)
    try:
        with quiet():
            program = torch.export.export(module, example, dynamic_shapes=(shapes,))
    except Exception as error:  # torch raises a dozen classes here
        raise ModelError(_why(error)) from error
    return program_graph(program)


def program_graph(program: Any) -> onnx.ModelProto:
    """Return the graph of a program that torch.export made.

    Raises:
        ModelError: the program fixes its batch, or has an operator without an ONNX form; no retry.
    """
    _check_open(program)
    try:
        with quiet():
            made = torch.onnx.export(
                program, dynamo=True, verbose=False, opset_version=OPSET, optimize=True
            )
        assert made is not None
        graph: onnx.ModelProto = made.model_proto
    except Exception as error:
        raise ModelError(_why(error)) from error
    return graph


def _check_open(program: Any) -> None:
    """Check that the first dimension of every input is one of any size."""
    for node in program.graph.nodes:
        if node.op != "placeholder" or node.name not in program.graph_signature.user_inputs:
            continue
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor) and value.ndim and isinstance(value.shape[0], int):
            raise ModelError(
                f"input {node.name!r} of the program has a fixed batch of {value.shape[0]}; make "
                "it again with torch.export.export(…, dynamic_shapes={…: {0: Dim.DYNAMIC}})"
            )


def _traced(
    module: torch.nn.Module, example: tuple[torch.Tensor, ...], open_axes: Sequence[list[int]]
) -> onnx.ModelProto:
    names = [f"input_{position}" for position in range(len(example))]
    with torch.inference_mode():
        outputs = [f"output_{position}" for position in range(len(module(*example)))]
    axes = dict(zip(names, open_axes, strict=True)) | {name: [0] for name in outputs}
    file = io.BytesIO()
    try:
        with quiet():
            torch.onnx.export(
                module, example, file, dynamo=False, opset_version=17, input_names=names,
                output_names=outputs, dynamic_axes=axes,
            )  # fmt: skip
    except Exception as error:
        raise ModelError(
            f"torch's legacy exporter fails ({first_line(error)}); mend the module, or leave out "
            "--exporter legacy"
        ) from error
    return onnx.load_from_string(file.getvalue())


def _why(error: Exception) -> str:
    text = str(error)
    fixed = _FIXED.search(text)
    if fixed:
        return (
            f"the module fixes its batch to {fixed[1]} rows (it takes a size as a number, or "
            "has a buffer with a batch of its own), so Triton could not batch it; let it use "
            "x.shape[0] as it is, and give buffers a first dimension of 1"
        )
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    return (
        f"torch cannot export the module ({type(cause).__name__}: {first_line(cause)}); mend what "
        "it names, or try --exporter legacy, which traces one call"
    )


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' advice to their developers off the user's screen."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
