"""The bytes of one ``ModelInferResponse`` → checked tensors.

Nothing is believed: version, names, datatypes, shapes, rows and byte counts are compared with what
the model promised. A Python-based model can answer OK with too few rows, another datatype or no
data at all, and a wrong answer must never reach a part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from tritonbulk.codec.text import decode_texts
from tritonbulk.codec.wire import split_response
from tritonbulk.contract import OutputTensor
from tritonbulk.contract.gather import Tensor
from tritonbulk.errors import AnswerError


@dataclass(frozen=True, slots=True)
class Texts:
    """A BYTES tensor: its shape, and its elements in row-major order as a binary array."""

    shape: tuple[int, ...]
    values: pa.Array


Answer = Tensor | Texts


def head(answer: Answer, rows: int) -> Answer:
    """Return the first rows of an answer."""
    if isinstance(answer, Texts):
        count = rows * math.prod(answer.shape[1:])
        return Texts((rows, *answer.shape[1:]), answer.values.slice(0, count))
    return answer[:rows]


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Reply:
    """What a transport brought back for one request.

    Attributes:
        response: the serialized ``ModelInferResponse``.
        placed: for each output asked for, its data if they lie outside of the response, else None;
            () if none do.
        release: gives back the memory in which they lie; called once, when nothing views it.
    """

    response: bytes | memoryview
    placed: tuple[memoryview | None, ...] = ()
    release: Callable[[], None] = _nothing


class ResponseDecoder:
    """Decodes and checks the answers of one version of one model.

    Args:
        outputs: what the model promised; -1 in a shape takes any size.
        version: model version that answers must name; "" takes any.
        model: name of the model that answers must name, if they name any; "" takes any.
    """

    def __init__(self, outputs: Sequence[OutputTensor], version: str, model: str = "") -> None:
        self._outputs = tuple(outputs)
        self._model = model
        self._version = version
        # What a server says besides the data is the same for all answers of one size.
        self._checked: dict[tuple[bytes, int], list[tuple[int, tuple[int, ...]]]] = {}

    def decode(self, reply: Reply, rows: int) -> tuple[Answer, ...]:
        """Return the output tensors, each with ``rows`` rows, in the order of the outputs.

        Numeric tensors are views of the reply, valid until it is released.

        Args:
            reply: what came back.
            rows: rows of the request.

        Raises:
            AnswerError: the answer is not what was promised. A retry may help where the server is
                sick.
        """
        head, raw = split_response(reply.response)
        places = self._checked.get((head, rows))
        if places is None:
            places = self._check(head, rows)
            # A server that puts something new into every answer must not fill the memory.
            if len(self._checked) < _CHECKED_MAX:
                self._checked[head, rows] = places
        placed = reply.placed or (None,) * len(self._outputs)
        answers = []
        for output, (index, shape), outside in zip(self._outputs, places, placed, strict=True):
            data = raw[index] if index < len(raw) else None
            # Whoever was told where to put an output, and did, leaves its place here empty.
            if outside is not None and not data:
                data = outside
            if data is None:
                raise AnswerError(f"the server's answer lacks the data of output {output.name!r}")
            answers.append(_view(data, output, shape))
        return tuple(answers)

    def _check(self, head: bytes, rows: int) -> list[tuple[int, tuple[int, ...]]]:
        """Return for each output its place among the raw outputs, and its shape."""
        try:
            response = service_pb2.ModelInferResponse.FromString(head)
        except DecodeError as error:
            raise AnswerError(f"the server's answer cannot be parsed ({error})") from error
        if self._version and response.model_version != self._version:
            raise AnswerError(
                f"the server answered with version {response.model_version!r} of the model instead "
                f"of {self._version!r}; do not replace a model while it scores"
            )
        if self._model and response.model_name not in ("", self._model):
            raise AnswerError(
                f"the server answered for model {response.model_name!r} instead of {self._model!r}"
            )
        position = {tensor.name: index for index, tensor in enumerate(response.outputs)}
        if len(position) != len(response.outputs):
            raise AnswerError("the server's answer has two outputs of one name")
        places = []
        for output in self._outputs:
            if output.name not in position:
                raise AnswerError(f"the server's answer lacks output {output.name!r}")
            index = position[output.name]
            places.append((index, _checked_shape(response.outputs[index], output, rows)))
        return places


_CHECKED_MAX = 256


def _checked_shape(
    described: service_pb2.ModelInferResponse.InferOutputTensor, output: OutputTensor, rows: int
) -> tuple[int, ...]:
    shape = tuple(described.shape)
    if described.datatype != output.datatype.name:
        raise AnswerError(
            f"output {output.name!r} came as {described.datatype}, the model promised "
            f"{output.datatype.name}"
        )
    promised = (rows, *output.shape)
    if len(shape) != len(promised) or any(
        have < 0 or want not in (-1, have) for have, want in zip(shape, promised, strict=True)
    ):
        raise AnswerError(
            f"output {output.name!r} came with shape {list(shape)} for {rows} rows, the model "
            f"promised {list(promised)}"
        )
    return shape


def _view(raw: memoryview, output: OutputTensor, shape: tuple[int, ...]) -> Answer:
    count = math.prod(shape)
    if output.datatype.name == "BYTES":
        return Texts(shape, decode_texts(raw, output.name, count))
    if len(raw) != count * output.datatype.item_bytes:
        raise AnswerError(
            f"output {output.name!r} came with {len(raw)} bytes where shape {list(shape)} needs "
            f"{count * output.datatype.item_bytes}"
            + ("" if raw else " (Triton's Python backend answers so under numpy 2)")
        )
    return np.frombuffer(raw, dtype=output.datatype.numpy).reshape(shape)
