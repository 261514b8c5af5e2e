"""Test doubles that are part of the product: a server and a store, with scripted faults.

Use them to test code that is built on tritonbulk. Where the server's behaviour itself matters, use
`EmbeddedTriton`, which is the real one.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2
from tritonclient.utils import (
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

from tritonbulk.codec import Reply, Request
from tritonbulk.dispatch import Failure
from tritonbulk.job.protocol import Put
from tritonbulk.job.stores.base import UnsureError
from tritonbulk.transport import AttemptFailedError

Tensors = Mapping[str, npt.NDArray[np.generic]]


class ScriptedTransport:
    """A transport whose model is a function, and whose first answers may be failures.

    Args:
        model: input tensors by name → output tensors by name, or the `Failure` of this request.
        faults: what happens to the first attempts, in the order in which they arrive: a `Failure`
            is what they fail with, None lets the model answer. Later attempts are answered.
        delay_s: seconds that every answer takes.
        address: what it calls its endpoint.

    Attributes:
        address: the same.
        requests: every request that arrived, decoded.
        in_flight_max: most requests under way at one moment.
        laid_out_s: see `tritonbulk.transport.Transport.laid_out_s`; none is laid out here.
    """

    def __init__(
        self,
        model: Callable[[Tensors], Tensors | Failure],
        faults: Sequence[Failure | None] = (),
        delay_s: float = 0.0,
        address: str = "scripted:8001",
    ) -> None:
        self.address = address
        self._model = model
        self._faults = list(faults)
        self._delay_s = delay_s
        self._in_flight = 0
        self.laid_out_s = 0.0
        self.requests: list[service_pb2.ModelInferRequest] = []
        self.in_flight_max = 0

    @property
    def name(self) -> str:
        """See `tritonbulk.transport.Transport.name`."""
        return "unary"

    async def infer(self, request: Request, timeout_s: float) -> Reply:
        """See `tritonbulk.transport.Transport.infer`."""
        message = service_pb2.ModelInferRequest.FromString(request.to_bytes())
        self.requests.append(message)
        fault = self._faults.pop(0) if self._faults else None
        self._in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self._in_flight)
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.sleep(self._delay_s)
        except TimeoutError:
            raise AttemptFailedError(Failure(4, "DEADLINE_EXCEEDED", "Deadline Exceeded")) from None
        finally:
            self._in_flight -= 1
        if fault is not None:
            raise AttemptFailedError(fault)
        answer = self._model(decode_tensors(message))
        if isinstance(answer, Failure):
            raise AttemptFailedError(answer)
        return Reply(encode_answer(message.model_version, answer))


class StoreFault(enum.Enum):
    """What may happen to one request to a `MemoryStore`."""

    REQUEST_LOST = enum.auto()
    REPLY_LOST = enum.auto()


class MemoryStore:
    """A store in memory; see `tritonbulk.job.stores.base.Store`.

    Args:
        objects: what stands there, by name; several stores may share it, as clients of one place.
        fault: asked before each request what happens to it: (operation, name) → None for nothing.
            It may raise, as a process dies, before anything has happened.

    Attributes:
        objects: the same.
    """

    name = "memory://"

    def __init__(
        self,
        objects: dict[str, bytes] | None = None,
        fault: Callable[[str, str], StoreFault | None] = lambda *_: None,
    ) -> None:
        self.objects = {} if objects is None else objects
        self._fault = fault

    def prepare(self) -> None:
        """See `Store.prepare`."""

    def create(self, name: str, data: bytes) -> Put:
        """See `Store.create`."""
        fault = self._fault("create", name)
        if fault is StoreFault.REQUEST_LOST:
            return Put.UNKNOWN
        outcome = Put.EXISTS if name in self.objects else Put.CREATED
        self.objects.setdefault(name, bytes(data))
        return Put.UNKNOWN if fault is StoreFault.REPLY_LOST else outcome

    def read(self, name: str) -> bytes | None:
        """See `Store.read`."""
        self._ask("read", name)
        return self.objects.get(name)

    def names(self, folder: str) -> list[str]:
        """See `Store.names`."""
        return list(self.sizes(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Store.sizes`."""
        self._ask("sizes", folder)
        front = f"{folder}/" if folder else ""
        inside = {
            name[len(front) :]: len(data)
            for name, data in self.objects.items()
            if name.startswith(front)
        }
        return {name: inside[name] for name in sorted(inside) if "/" not in name}

    def set_aside(self, name: str, aside: str, damaged: bytes) -> None:
        """See `Store.set_aside`."""
        if self.objects.get(name) == damaged:
            self.objects[aside] = self.objects.pop(name)

    def tidy(self) -> None:
        """See `Store.tidy`."""

    def _ask(self, operation: str, name: str) -> None:
        if self._fault(operation, name) is not None:
            raise UnsureError(f"{self.name}{name} did not answer")


def decode_tensors(request: service_pb2.ModelInferRequest) -> dict[str, npt.NDArray[np.generic]]:
    """Return the input tensors of a request by name; text as arrays of bytes objects."""
    return {
        tensor.name: _decode(raw, tensor.datatype).reshape(tensor.shape)
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }


def _decode(raw: bytes, datatype: str) -> npt.NDArray[np.generic]:
    if datatype == "BYTES":
        return np.asarray(deserialize_bytes_tensor(raw))
    return np.frombuffer(raw, triton_to_np_dtype(datatype))


def encode_answer(version: str, outputs: Tensors) -> bytes:
    """Return the serialized answer that carries ``outputs``, as tritonserver would."""
    response = service_pb2.ModelInferResponse(model_version=version)
    for name, tensor in outputs.items():
        response.outputs.add(
            name=name, datatype=np_to_triton_dtype(tensor.dtype), shape=tensor.shape
        )
        raw = serialize_byte_tensor(tensor).item() if tensor.dtype == object else tensor.tobytes()
        response.raw_output_contents.append(raw)
    return bytes(response.SerializeToString())
