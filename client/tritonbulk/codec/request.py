"""Rows → the bytes of one ``ModelInferRequest`` (KServe v2 ``inference`` protocol).

Everything but the data depends only on the shapes, so it is serialized once per shape and kept; a
request is that header followed by field 7 (``raw_input_contents``) once per input, in the order of
the inputs. Protobuf allows fields in any order, so the header needs no knowledge of what follows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from tritonclient.grpc import service_pb2

from tritonbulk.codec.text import encode_texts
from tritonbulk.codec.wire import RAW_INPUT_TAG, varint
from tritonbulk.contract import InputTensor, OutputTensor, gather, gather_texts

Shapes = tuple[tuple[int, ...], ...]


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
        self._headers: dict[Shapes, bytes] = {}

    def encode(self, rows: pa.RecordBatch) -> bytes:
        """Return the request that scores ``rows`` (at least one).

        Raises:
            InputError: a value cannot be fed; a retry does not help.
        """
        shapes: list[tuple[int, ...]] = []
        pieces: list[bytes | memoryview] = []
        for tensor in self._inputs:
            shape, raw = _raw(rows, tensor)
            shapes.append(shape)
            pieces += [RAW_INPUT_TAG, varint(len(raw)), raw]
        return b"".join([self._header(tuple(shapes)), *pieces])

    def _header(self, shapes: Shapes) -> bytes:
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


def _raw(rows: pa.RecordBatch, tensor: InputTensor) -> tuple[tuple[int, ...], memoryview]:
    """Return the tensor's shape and wire bytes."""
    if tensor.datatype.name == "BYTES":
        shape, columns = gather_texts(rows, tensor)
        return shape, memoryview(encode_texts(columns))
    dense = gather(rows, tensor)
    # Through uint8, because memoryview cannot cast an empty array or float16.
    return dense.shape, dense.reshape(-1).view(np.uint8).data
