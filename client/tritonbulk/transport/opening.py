"""From a chosen transport to open ones, and what is used instead where one cannot be had."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from tritonbulk.transport.base import AttemptFailedError, Transport
from tritonbulk.transport.choice import Carriage
from tritonbulk.transport.endpoint import Endpoint
from tritonbulk.transport.region import SharedMemoryAccess, registered
from tritonbulk.transport.shared_memory import SharedMemoryTransport
from tritonbulk.transport.stream import StreamTransport


@contextlib.asynccontextmanager
async def open_transports(
    carriage: Carriage,
    endpoints: Sequence[Endpoint],
    access: SharedMemoryAccess | None,
    say: Callable[[str], None],
) -> AsyncIterator[list[Transport]]:
    """Give a transport to each endpoint, in their order; nothing of them is left at the end.

    Where shared memory cannot be had the stream takes its place, and ``say`` is told.
    """
    async with contextlib.AsyncExitStack() as stack:
        yield [await open_transport(carriage, each, access, say, stack) for each in endpoints]


async def open_transport(
    carriage: Carriage,
    endpoint: Endpoint,
    access: SharedMemoryAccess | None,
    say: Callable[[str], None],
    stack: contextlib.AsyncExitStack,
) -> Transport:
    """Return a transport to one endpoint, closed with the stack; see `open_transports`."""
    if carriage.kind == "unary":
        return endpoint
    region = None
    if carriage.kind == "shm":
        try:
            if access is None:
                raise OSError("this machine has none")  # noqa: TRY301
            region = await stack.enter_async_context(
                registered(endpoint, access, carriage.slots, carriage.slot_bytes)
            )
        except (OSError, AttemptFailedError) as error:
            say(f"no memory is shared with {endpoint.address} ({error}); the data go in a stream")
    # After the region, so that it ends before: what refers to a region must not outlive it.
    stream = await stack.enter_async_context(StreamTransport(endpoint, say))
    return stream if region is None else SharedMemoryTransport(stream, region, say)
