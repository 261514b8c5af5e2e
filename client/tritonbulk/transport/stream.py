"""One bidirectional ``ModelStreamInfer`` for all requests to one endpoint.

What tritonserver 2.51 does, as far as this rests on it: a request that fails is answered in the
stream with its id and a text, but without a status, and the stream goes on; only the loss of the
connection ends it. So replies are matched by id; the status of a failure is asked for over a unary
call; and when the stream breaks, whatever is under way and all that follows goes by unary calls.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import grpc.aio

from tritonbulk.codec import Reply, Request
from tritonbulk.codec.wire import StreamReply, split_stream_reply
from tritonbulk.dispatch import Failure, refusal
from tritonbulk.errors import AnswerError
from tritonbulk.text import said
from tritonbulk.transport.base import AttemptFailedError
from tritonbulk.transport.endpoint import Endpoint

DRAIN_S = 2.0
"""How long requests in flight may take when the stream is closed."""

_LATE = Failure(grpc.StatusCode.DEADLINE_EXCEEDED.value[0], "DEADLINE_EXCEEDED", "no reply in time")


class StreamTransport:
    """A `Transport` over one stream; an async context manager.

    Args:
        endpoint: where to; carries what the stream cannot.
        say: told once, in one sentence, if the stream breaks.
    """

    def __init__(self, endpoint: Endpoint, say: Callable[[str], None]) -> None:
        self.endpoint = endpoint
        self._say = say
        self._call = endpoint.open_stream()
        self._outbox: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[StreamReply | None]] = {}
        self._ids = itertools.count(1)
        self._laid_out_s = 0.0
        self.broken = False

    async def __aenter__(self) -> Self:
        self._writer = asyncio.create_task(self._write())
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._drain()
        if not self._waiting:
            self.broken = True  # by us: nobody needs to be told
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.done_writing()
            await asyncio.wait({self._reader}, timeout=DRAIN_S)
        self._end()
        await asyncio.wait({self._reader, self._writer})

    @property
    def name(self) -> str:
        """See `Transport.name`."""
        return self.endpoint.name if self.broken else "stream"

    @property
    def address(self) -> str:
        """See `Transport.address`."""
        return self.endpoint.address

    @property
    def laid_out_s(self) -> float:
        """See `Transport.laid_out_s`."""
        return self._laid_out_s + self.endpoint.laid_out_s

    async def infer(self, request: Request, timeout_s: float) -> Reply:
        """See `Transport.infer`."""
        until_s = self._now_s() + timeout_s
        return await self.settle(await self.reply(self.send(request), until_s), request, until_s)

    def send(self, request: Request) -> asyncio.Future[StreamReply | None]:
        """Send a request; the result is its reply, however late, or None if the stream breaks."""
        reply: asyncio.Future[StreamReply | None] = asyncio.get_running_loop().create_future()
        if self.broken:
            reply.set_result(None)
        else:
            name = str(next(self._ids))
            self._waiting[name] = reply
            began_s = time.perf_counter()
            message = request.to_bytes(name)
            self._laid_out_s += time.perf_counter() - began_s
            self._outbox.put_nowait((name, message))
        return reply

    async def reply(
        self, sent: asyncio.Future[StreamReply | None], until_s: float
    ) -> StreamReply | None:
        """Wait for what was sent, which stays under way if the wait is given up.

        Raises:
            AttemptFailedError: there is no reply by ``until_s`` of the loop's clock.
        """
        await asyncio.wait({sent}, timeout=until_s - self._now_s())
        if not sent.done():
            raise AttemptFailedError(_LATE)
        return sent.result()

    async def settle(self, reply: StreamReply | None, request: Request, until_s: float) -> Reply:
        """Return what a reply brought; else what a unary call brings by ``until_s``.

        Raises:
            AttemptFailedError: the request failed.
        """
        if reply is not None and not reply.error:
            return Reply(reply.response)
        if reply is not None and (failure := refusal(said(reply.error))) is not None:
            raise AttemptFailedError(failure)
        left_s = until_s - self._now_s()
        if left_s <= 0:
            raise AttemptFailedError(_LATE)
        return await self.endpoint.infer(request, left_s)

    async def _write(self) -> None:
        # gRPC takes one message at a time, and to cancel a write would cancel the whole stream.
        try:
            while True:
                _, message = await self._outbox.get()
                await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            return  # the reader knows why

    async def _read(self) -> None:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                reply = split_stream_reply(message)
                waiting = self._waiting.pop(reply.id, None)
                if waiting is None:
                    raise AnswerError(f"a reply with the unknown id {reply.id!r}")  # noqa: TRY301
                if not waiting.done():
                    waiting.set_result(reply)
            why = "the server ended it"
        except (grpc.aio.AioRpcError, AnswerError) as error:
            why = said(
                (error.details() or "") if isinstance(error, grpc.aio.AioRpcError) else str(error)
            )
        except asyncio.CancelledError:
            why = ""  # everything is cancelled: nobody wants to know
        if not self.broken:
            self._end()
            if why:
                self._say(
                    f"the stream to {self.endpoint.address} broke ({said(why)}); its requests go "
                    "by unary calls from here on"
                )

    async def _drain(self) -> None:
        """Send no more, and let the server finish what it works on, for up to `DRAIN_S`.

        tritonserver 2.51 sometimes never lets go of a request whose stream was cancelled; it can
        then neither unload the model nor end by itself.
        """
        while not self._outbox.empty():
            name, _ = self._outbox.get_nowait()
            if unsent := self._waiting.pop(name, None):
                unsent.set_result(None)
        if self._waiting:
            await asyncio.wait(list(self._waiting.values()), timeout=DRAIN_S)

    def _end(self) -> None:
        """Give up the stream; whoever waits for a reply learns that there is none."""
        self.broken = True
        self._call.cancel()
        for task in (self._writer, self._reader):
            if task is not asyncio.current_task():
                task.cancel()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()
