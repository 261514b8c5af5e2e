"""Requests whose data lie in shared memory; a stream carries what refers to them.

The rule that keeps answers apart: a slot is used again only when its request was answered, because
until then the server may write to it. So the slot of a request that was given up stays out of use
until its late reply, and for ever if the stream breaks.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from tritonbulk.codec import Reply, Request
from tritonbulk.codec.placement import place, refer
from tritonbulk.codec.wire import StreamReply
from tritonbulk.transport.region import Region
from tritonbulk.transport.stream import StreamTransport

_HEADERS_MAX = 1024
"""Headers that are kept: one for each shape and slot, and few shapes occur."""


class SharedMemoryTransport:
    """A `Transport` over a region that the server has mapped.

    A request that does not fit into a slot, or finds none free, travels in the stream; so does the
    data of an output whose size only the answer tells.

    Args:
        stream: to the server.
        region: registered there.
        say: told once, in one sentence, if the server loses the region.
    """

    def __init__(self, stream: StreamTransport, region: Region, say: Callable[[str], None]) -> None:
        self._stream = stream
        self._region = region
        self._say = say
        self._lost = False
        self._laid_out_s = 0.0
        self._headers: dict[tuple[bytes, int, tuple[int, ...]], bytes] = {}

    @property
    def name(self) -> str:
        """See `Transport.name`."""
        return self._stream.name if self._lost or self._stream.broken else "shm"

    @property
    def address(self) -> str:
        """See `Transport.address`."""
        return self._stream.address

    @property
    def laid_out_s(self) -> float:
        """See `Transport.laid_out_s`."""
        return self._laid_out_s + self._stream.laid_out_s

    async def infer(self, request: Request, timeout_s: float) -> Reply:
        """See `Transport.infer`."""
        inputs = tuple(tensor.size_bytes for tensor in request.inputs)
        offsets, room = place((*inputs, *request.output_bytes))
        slot = self._take(room)
        if slot is None:
            return await self._stream.infer(request, timeout_s)
        began_s = time.perf_counter()
        for tensor, offset, size in zip(request.inputs, offsets, inputs, strict=False):
            tensor.write_to(self._region.view(slot, offset, size))
        self._laid_out_s += time.perf_counter() - began_s
        until_s = asyncio.get_running_loop().time() + timeout_s
        sent = self._stream.send(replace(request, header=self._refer(request, slot), inputs=()))
        try:
            reply = await self._stream.reply(sent, until_s)
        except BaseException:
            sent.add_done_callback(lambda late: self._answered(late.result(), slot))
            raise
        if reply is not None and not reply.error:
            outputs = zip(request.output_bytes, offsets[len(inputs) :], strict=True)
            placed = tuple(
                None if size is None else self._region.view(slot, offset, size).data
                for size, offset in outputs
            )
            return Reply(reply.response, placed, lambda: self._region.give_back(slot))
        self._answered(reply, slot)
        return await self._stream.settle(reply, request, until_s)

    def _take(self, room: int) -> int | None:
        if self._lost or self._stream.broken or room > self._region.slot_bytes:
            return None
        return self._region.take()

    def _answered(self, reply: StreamReply | None, slot: int) -> None:
        """Free the slot of a request that brings no data, if the server is done with it."""
        if reply is None:
            return
        self._region.give_back(slot)
        if "shared memory" in reply.error and not self._lost:
            self._lost = True
            self._say(
                f"{self._stream.endpoint.address} cannot use the shared memory any more "
                f"({reply.error}); the data go in the stream from here on"
            )

    def _refer(self, request: Request, slot: int) -> bytes:
        inputs = tuple(tensor.size_bytes for tensor in request.inputs)
        key = request.header, slot, inputs
        header = self._headers.get(key)
        if header is None:
            if len(self._headers) >= _HEADERS_MAX:
                self._headers.clear()
            header = self._headers[key] = refer(
                request.header,
                self._region.name,
                inputs,
                request.output_bytes,
                slot * self._region.slot_bytes,
            )
        return header
