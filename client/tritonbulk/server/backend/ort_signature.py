"""What an ONNX model takes and gives, in Triton's words.

Pure: the functions read a session's descriptions (``name``, ``type``, ``shape``) and nothing else,
so they can be tested without ONNX Runtime and without Triton.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

#: ONNX Runtime's element type → Triton's. What is missing here has no Triton type that the official
#: backend serves either (bfloat16, the 8-bit floats, 4-bit integers, complex numbers).
DATA_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(uint16)": "TYPE_UINT16",
    "tensor(uint32)": "TYPE_UINT32",
    "tensor(uint64)": "TYPE_UINT64",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int16)": "TYPE_INT16",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(string)": "TYPE_STRING",
}

_NOT_TENSORS = {
    "seq(": "ONNX_TYPE_SEQUENCE",
    "map(": "ONNX_TYPE_MAP",
    "sparse_tensor(": "ONNX_TYPE_SPARSETENSOR",
    "optional(": "ONNX_TYPE_OPTIONAL",
}


class LoadError(Exception):
    """The model cannot be served as configured; the text is what Triton reports."""


class NodeArg(Protocol):
    """ONNX Runtime's description of one input or output."""

    name: str
    type: str
    shape: Sequence[int | str | None]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of the ONNX graph.

    Attributes:
        name: the graph's name of it.
        data_type: Triton's type, such as ``TYPE_FP32``.
        shape: every dimension, batch included; -1 for one that may vary. ``()`` is a scalar.
    """

    name: str
    data_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """All inputs and outputs of an ONNX graph.

    Attributes:
        inputs: what a caller must give.
        optional_inputs: initializers that a caller may override (ONNX IR 4 and later).
        outputs: what the graph gives.
    """

    inputs: tuple[TensorInfo, ...]
    optional_inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]

    @property
    def batchable(self) -> bool:
        """True if every input and output begins with a dimension that may vary.

        The rule of the official backend (``AutoCompleteMaxBatch``).
        """
        return all(info.shape[:1] == (-1,) for info in (*self.inputs, *self.outputs))


def read_signature(
    inputs: Iterable[NodeArg], optional_inputs: Iterable[NodeArg], outputs: Iterable[NodeArg]
) -> Signature:
    """The signature that a session's descriptions amount to.

    Raises:
        LoadError: an input or output is no tensor, or of a type that Triton's ONNX Runtime backend
            does not serve.
    """
    return Signature(
        inputs=tuple(map(_tensor_info, inputs)),
        optional_inputs=tuple(map(_tensor_info, optional_inputs)),
        outputs=tuple(map(_tensor_info, outputs)),
    )


def _tensor_info(node: NodeArg) -> TensorInfo:
    for prefix, onnx_type in _NOT_TENSORS.items():
        if node.type.startswith(prefix):
            raise LoadError(
                f"Unsupported ONNX Type '{onnx_type}' for I/O '{node.name}', "
                "expected 'ONNX_TYPE_TENSOR'."
            )
    if node.type not in DATA_TYPES:
        raise LoadError(
            f"unsupported datatype {node.type} for I/O '{node.name}': the ONNX Runtime backend of "
            "Triton has no such tensors; cast to FP32 or FP16 inside the graph"
        )
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorInfo(node.name, DATA_TYPES[node.type], shape)
