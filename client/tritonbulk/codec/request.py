"""Rows → one ``ModelInferRequest`` (KServe v2 ``inference`` protocol), not yet in one piece.

Everything but the data depends only on the shapes, so it is serialized once per shape and kept. The
data stay in the columns they come from until the transport says where they are wanted: behind the
header in one message, or in shared memory. Either way they are copied once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from tritonclient.grpc import service_pb2

from tritonbulk.codec.text import encode_texts
from tritonbulk.codec.wire import RAW_INPUT_TAG, REQUEST_ID_TAG, Octets, filled_bytes, varint
from tritonbulk.contract import InputTensor, OutputTensor, gather_numbers, gather_texts
from tritonbulk.contract.gather import Tensor, fitted_shape, plain_views

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class RawTensor:
    """The data of one input tensor, still in the columns that it comes from.

    Attributes:
        columns: one one-dimensional array with all elements in row-major order, or several of one
            dtype, each ``[rows, width]``, that stand side by side in the last dimension.
    """

    columns: tuple[Tensor, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes that the tensor takes on the wire."""
        return sum(column.nbytes for column in self.columns)

    def write_to(self, target: Octets) -> None:
        """Write the tensor's wire bytes into ``target``, which has exactly `size_bytes`."""
        if len(self.columns) == 1:
            target[:] = self.columns[0].view(np.uint8)
            return
        dense = target.view(self.columns[0].dtype).reshape(len(self.columns[0]), -1)
        end = 0
        for column in self.columns:
            begin, end = end, end + column.shape[1]
            dense[:, begin:end] = column


@dataclass(frozen=True, slots=True)
class Request:
    """One request to one version of one model. It views the rows that it was made of.

    Attributes:
        header: the serialized ``ModelInferRequest`` without id and data.
        inputs: the data, in the order in which the header names the inputs; without any, the header
            says where they are.
        output_bytes: for each output asked for, the bytes of its answer; None where only the answer
            tells.
    """

    header: bytes
    inputs: tuple[RawTensor, ...]
    output_bytes: tuple[int | None, ...]

    def to_bytes(self, request_id: str = "") -> bytes:
        """Return the whole message.

        Protobuf allows fields in any order, so the header stands first, then field 7
        (``raw_input_contents``) once per input.

        Args:
            request_id: what the answer will name; "" leaves it out.
        """
        head = self.header
        if request_id:
            head += REQUEST_ID_TAG + varint(len(request_id)) + request_id.encode()
        tags = [RAW_INPUT_TAG + varint(tensor.size_bytes) for tensor in self.inputs]
        size = len(head) + sum(map(len, tags)) + sum(tensor.size_bytes for tensor in self.inputs)

        def fill(target: Octets) -> None:
            position = _put(target, 0, head)
            for tag, tensor in zip(tags, self.inputs, strict=True):
                begin = _put(target, position, tag)
                position = begin + tensor.size_bytes
                tensor.write_to(target[begin:position])

        return filled_bytes(size, fill)


@dataclass(frozen=True, slots=True)
class EncodableRows:
    """Rows with what can be said of them once for all runs of theirs.

    Attributes:
        rows: the rows.
        views: for each input tensor the views of `plain_views`; None where each run is gathered.
    """

    rows: pa.RecordBatch
    views: tuple[tuple[Tensor, ...] | None, ...]


class RequestEncoder:
    """Encodes rows as requests to one version of one model.

    Args:
        model: the model's name.
        version: the version that every request pins; "" lets the server choose.
        inputs: with the columns that feed them and the shape they have on the wire.
        outputs: the outputs to ask for.
        priority: in the model's queue, 1 is served first; 0 leaves it to the server.
    """

    def __init__(
        self,
        model: str,
        version: str,
        inputs: Sequence[InputTensor],
        outputs: Sequence[OutputTensor],
        priority: int = 0,
    ) -> None:
        self._priority = priority
        self._model = model
        self._version = version
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._headers: dict[Shapes, bytes] = {}

    def prepare(self, rows: pa.RecordBatch) -> EncodableRows:
        """Return ``rows`` ready for being encoded run by run."""
        views = [plain_views(rows, tensor) if len(rows) else None for tensor in self._inputs]
        return EncodableRows(rows, tuple(views))

    def encode(self, prepared: EncodableRows, begin: int, rows: int) -> Request:
        """Return the request that scores a run of ``rows`` rows (at least one) from ``begin`` on.

        Raises:
            InputError: a value cannot be fed; names its row, counted from 0 within the run. A retry
                does not help.
        """
        encoded = [
            _gathered(prepared.rows.slice(begin, rows), tensor)
            if views is None
            else _viewed([view[begin : begin + rows] for view in views], tensor)
            for tensor, views in zip(self._inputs, prepared.views, strict=True)
        ]
        return Request(
            header=self._header(tuple(shape for shape, _ in encoded)),
            inputs=tuple(raw for _, raw in encoded),
            output_bytes=tuple(answer_bytes(output, rows) for output in self._outputs),
        )

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
            if self._priority:
                # The schedule policy extension of the protocol.
                request.parameters["priority"].uint64_param = self._priority
            header = self._headers[shapes] = request.SerializeToString()
        return header


def _viewed(views: list[Tensor], tensor: InputTensor) -> tuple[tuple[int, ...], RawTensor]:
    shape = fitted_shape(sum(view.size for view in views), len(views[0]), tensor)
    return shape, RawTensor(tuple(views) if len(views) > 1 else (views[0].reshape(-1),))


def _gathered(rows: pa.RecordBatch, tensor: InputTensor) -> tuple[tuple[int, ...], RawTensor]:
    if tensor.datatype.name == "BYTES":
        shape, texts = gather_texts(rows, tensor)
        return shape, RawTensor((np.frombuffer(encode_texts(texts), np.uint8),))
    shape, numbers = gather_numbers(rows, tensor)
    return shape, RawTensor(tuple(numbers))


def answer_bytes(output: OutputTensor, rows: int) -> int | None:
    """Return the bytes that ``rows`` rows of an output take; None where only the answer tells."""
    if output.datatype.name == "BYTES" or -1 in output.shape:
        return None
    return rows * math.prod(output.shape) * output.datatype.item_bytes


def _put(target: Octets, begin: int, data: bytes) -> int:
    """Copy ``data`` to ``begin`` and return where it ends."""
    end = begin + len(data)
    target[begin:end] = np.frombuffer(data, np.uint8)
    return end
