"""Tensors → the bytes of one ``ModelInferRequest`` (KServe v2 ``inference`` protocol).

Everything but the data depends only on the number of rows, so it is serialized once per size and
kept; a request is that header followed by field 7 (``raw_input_contents``) once per input, in the
order of the inputs. Protobuf allows fields in any order, so the header needs no knowledge of what
follows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from tritonclient.grpc import service_pb2

from tritonbulk.contract import InputTensor, OutputTensor, gather
from tritonbulk.contract.gather import Tensor
from tritonbulk.errors import InputError

_RAW_INPUT_TAG = b"\x3a"  # field 7, length-delimited
_LENGTH = np.dtype("<u4")  # BYTES elements: little-endian 4-byte length, then the bytes


class RequestEncoder:
    """Encodes rows as requests to one version of one model.

    Args:
        model: the model's name.
        version: the version that every request pins; "" lets the server choose.
        inputs: with the columns that feed them and the shape they have on the wire.
        outputs: the outputs to ask for.
    """

    def __init__(
        self,
        model: str,
        version: str,
        inputs: Sequence[InputTensor],
        outputs: Sequence[OutputTensor],
    ) -> None:
        self._model = model
        self._version = version
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._headers: dict[tuple[tuple[int, ...], ...], bytes] = {}

    def encode(self, rows: pa.RecordBatch) -> bytes:
        """Return the request that scores ``rows`` (at least one).

        Raises:
            InputError: a value cannot be fed; a retry does not help.
        """
        tensors = [gather(rows, tensor) for tensor in self._inputs]
        parts: list[bytes | memoryview] = [self._header(tuple(t.shape for t in tensors))]
        for tensor in tensors:
            raw = _serialize_bytes(tensor) if tensor.dtype == object else _view(tensor)
            parts += (_RAW_INPUT_TAG, _varint(len(raw)), raw)
        return b"".join(parts)

    def _header(self, shapes: tuple[tuple[int, ...], ...]) -> bytes:
        header = self._headers.get(shapes)
        if header is None:
            request = service_pb2.ModelInferRequest(
                model_name=self._model, model_version=self._version
            )
            for tensor, shape in zip(self._inputs, shapes, strict=True):
                request.inputs.add(name=tensor.name, datatype=tensor.datatype.name, shape=shape)
            for output in self._outputs:
                request.outputs.add(name=output.name)
            header = self._headers[shapes] = request.SerializeToString()
        return header


def _view(tensor: Tensor) -> memoryview:
    # Through uint8, because memoryview cannot cast an empty array or float16.
    return tensor.reshape(-1).view(np.uint8).data


def _serialize_bytes(tensor: Tensor) -> bytes:
    pieces: list[bytes] = []
    items: list[bytes] = tensor.ravel().tolist()
    for item in items:
        if len(item) >= 2**32:
            raise InputError("a text is 4 GiB or longer, more than the protocol can carry; cut it")
        pieces += (np.array(len(item), dtype=_LENGTH).tobytes(), item)
    return b"".join(pieces)


def _varint(value: int) -> bytes:
    """Return ``value`` as a protobuf base-128 varint (protobuf encoding guide)."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
