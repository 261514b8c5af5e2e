"""The bytes of one ``ModelInferResponse`` → checked tensors.

Nothing is believed: version, names, datatypes, shapes, rows and byte counts are compared with what
the model promised. A Python-based model can answer OK with too few rows, another datatype or no
data at all, and a wrong answer must never reach a part.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from tritonbulk.contract import OutputTensor
from tritonbulk.contract.gather import Tensor
from tritonbulk.errors import AnswerError


def decode_response(
    data: bytes, outputs: Sequence[OutputTensor], rows: int, version: str
) -> tuple[Tensor, ...]:
    """Return the output tensors, each of shape ``[rows, …]``, in the order of ``outputs``.

    Numeric tensors are read-only views of the message; ``BYTES`` are object arrays of bytes.

    Args:
        data: the serialized response.
        outputs: what the model promised; -1 in a shape takes any size.
        rows: rows of the request.
        version: model version asked for; "" takes any.

    Raises:
        AnswerError: the answer is not what was promised. A retry may help where the server is sick.
    """
    try:
        response = service_pb2.ModelInferResponse.FromString(data)
    except DecodeError as error:
        raise AnswerError(f"the server's answer cannot be parsed ({error})") from error
    if version and response.model_version != version:
        raise AnswerError(
            f"the server answered with version {response.model_version!r} of the model instead of "
            f"{version!r}; do not replace a model while it scores"
        )
    position = {tensor.name: index for index, tensor in enumerate(response.outputs)}
    tensors: list[Tensor] = []
    for output in outputs:
        index = position.get(output.name)
        if index is None or index >= len(response.raw_output_contents):
            raise AnswerError(f"the server's answer lacks output {output.name!r}")
        described = response.outputs[index]
        shape = tuple(described.shape)
        if described.datatype != output.datatype.name:
            raise AnswerError(
                f"output {output.name!r} came as {described.datatype}, the model promised "
                f"{output.datatype.name}"
            )
        if not _fits(shape, (rows, *output.shape)):
            raise AnswerError(
                f"output {output.name!r} came with shape {list(shape)} for {rows} rows, the model "
                f"promised {[rows, *output.shape]}"
            )
        tensors.append(_view(response.raw_output_contents[index], output, shape))
    return tuple(tensors)


def _fits(shape: tuple[int, ...], promised: tuple[int, ...]) -> bool:
    return len(shape) == len(promised) and all(
        want in (-1, have) for have, want in zip(shape, promised, strict=True)
    )


def _view(raw: bytes, output: OutputTensor, shape: tuple[int, ...]) -> Tensor:
    count = 1
    for size in shape:
        count *= size
    if output.datatype.name == "BYTES":
        return _deserialize_bytes(raw, output.name, count).reshape(shape)
    if len(raw) != count * output.datatype.item_bytes:
        raise AnswerError(
            f"output {output.name!r} came with {len(raw)} bytes where shape {list(shape)} needs "
            f"{count * output.datatype.item_bytes}"
        )
    return np.frombuffer(raw, dtype=output.datatype.numpy).reshape(shape)


def _deserialize_bytes(raw: bytes, name: str, count: int) -> Tensor:
    items = np.empty(count, dtype=object)
    begin = 0
    for index in range(count):
        end = begin + 4
        length = int.from_bytes(raw[begin:end], "little")
        if end > len(raw) or end + length > len(raw):
            raise AnswerError(f"output {name!r} ends in the middle of element {index} of {count}")
        items[index] = raw[end : end + length]
        begin = end + length
    if begin != len(raw):
        raise AnswerError(f"output {name!r} has {len(raw) - begin} bytes after its last element")
    return items
