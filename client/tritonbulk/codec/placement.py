"""Tensors in shared memory: where they lie in a slot, and the request that says so.

A request refers to data in a *region* (a file in shared memory that the server has mapped) by the
parameters ``shared_memory_region``, ``_offset`` and ``_byte_size`` of its inputs and outputs
(KServe v2, extension ``system_shared_memory``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tritonclient.grpc import service_pb2

ALIGNMENT_BYTES = 64
"""Tensors begin at multiples of this: a line of the processor's cache."""


def place(sizes: Sequence[int | None]) -> tuple[list[int], int]:
    """Return where tensors of these sizes begin, one behind the other, and the room they take.

    Args:
        sizes: in bytes; None takes no room.
    """
    offsets, end = [], 0
    for size in sizes:
        offsets.append(end)
        end += -(-(size or 0) // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return offsets, end


def refer(
    header: bytes, region: str, inputs: Sequence[int], outputs: Sequence[int | None], begin: int
) -> bytes:
    """Return ``header`` with references to a slot of ``region`` instead of data.

    Args:
        header: a serialized ``ModelInferRequest`` without data.
        region: the name under which the server knows the region.
        inputs: bytes of each input; they lie as `place` says, the outputs behind them.
        outputs: bytes of each output; None leaves it in the response.
        begin: where the slot begins in the region.
    """
    request = service_pb2.ModelInferRequest.FromString(header)
    sizes = (*inputs, *outputs)
    for tensor, size, offset in zip(_tensors(request), sizes, place(sizes)[0], strict=True):
        if size is not None:
            tensor.parameters["shared_memory_region"].string_param = region
            tensor.parameters["shared_memory_byte_size"].int64_param = size
            tensor.parameters["shared_memory_offset"].int64_param = begin + offset
    return bytes(request.SerializeToString(deterministic=True))


def _tensors(
    request: service_pb2.ModelInferRequest,
) -> Iterator[
    service_pb2.ModelInferRequest.InferInputTensor
    | service_pb2.ModelInferRequest.InferRequestedOutputTensor
]:
    yield from request.inputs
    yield from request.outputs
