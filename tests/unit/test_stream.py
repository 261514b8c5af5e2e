"""The stream transport against a small gRPC server that answers in ways tritonserver does not."""

import asyncio
import contextlib

import grpc
import grpc.aio
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tritonbulk.codec import RawTensor, Request
from tritonbulk.transport import AttemptFailedError, Endpoint
from tritonbulk.transport.stream import StreamTransport

TIMEOUT_S = 10.0


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Answers with the number that a request carries; `stream` says how in the stream.

    It is called with the requests and yields replies.
    """

    def __init__(self, stream, unary_status=None):
        self.stream = stream
        self.unary_status = unary_status
        self.by_unary = []

    def answer(self, request):
        raw = request.raw_input_contents[0]
        return service_pb2.ModelInferResponse(id=request.id, raw_output_contents=[raw])

    async def ModelInfer(self, request, context):  # noqa: N802
        self.by_unary.append(number_in(request.raw_input_contents[0]))
        if self.unary_status is not None:
            await context.abort(self.unary_status, "the unary call says why")
        return self.answer(request)

    async def ModelStreamInfer(self, requests, context):  # noqa: N802
        async for reply in self.stream(self, requests):
            yield reply


def reply_to(server, request, error=""):
    return service_pb2.ModelStreamInferResponse(
        error_message=error, infer_response=server.answer(request)
    )


def number_in(raw):
    return int(np.frombuffer(raw, np.int64)[0])


@contextlib.asynccontextmanager
async def running(servicer):
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    said = []
    try:
        async with (
            Endpoint(f"127.0.0.1:{port}") as endpoint,
            StreamTransport(endpoint, said.append) as transport,
        ):
            yield transport, said
    finally:
        await server.stop(None)


async def ask(transport, number, timeout_s=TIMEOUT_S):
    tensor = RawTensor((np.array([number], np.int64),))
    header = service_pb2.ModelInferRequest(model_name="m").SerializeToString()
    reply = await transport.infer(Request(header, (tensor,), (8,)), timeout_s)
    response = service_pb2.ModelInferResponse.FromString(bytes(reply.response))
    return number_in(response.raw_output_contents[0])


async def ask_all(transport, count):
    return await asyncio.gather(*(ask(transport, number) for number in range(count)))


def test_replies_in_another_order_go_to_those_who_asked():
    async def backwards(server, requests):
        while True:
            taken = [await anext(requests) for _ in range(5)]
            for request in reversed(taken):
                yield reply_to(server, request)

    async def main():
        server = Server(backwards)
        async with running(server) as (transport, said):
            assert await ask_all(transport, 5) == [0, 1, 2, 3, 4]
            assert transport.name == "stream"
        assert server.by_unary == said == []

    asyncio.run(main())


async def fail_odd(server, requests):
    async for request in requests:
        is_odd = number_in(request.raw_input_contents[0]) % 2
        yield reply_to(server, request, "odd" if is_odd else "")


def test_the_status_of_a_failure_is_asked_for_by_a_unary_call():
    async def main():
        server = Server(fail_odd, grpc.StatusCode.INTERNAL)
        async with running(server) as (transport, said):
            assert await ask(transport, 2) == 2
            with pytest.raises(AttemptFailedError) as failed:
                await ask(transport, 3)
            assert failed.value.failure.status == "INTERNAL"
            assert failed.value.failure.text == "the unary call says why"
            assert await ask(transport, 4) == 4
            assert transport.name == "stream"
        assert (server.by_unary, said) == ([3], [])

    asyncio.run(main())


def test_a_failure_that_the_unary_call_does_not_see_is_none():
    async def main():
        server = Server(fail_odd)
        async with running(server) as (transport, _):
            assert await ask_all(transport, 4) == [0, 1, 2, 3]
        assert sorted(server.by_unary) == [1, 3]

    asyncio.run(main())


def test_a_full_queue_is_not_asked_again():
    async def full(server, requests):
        async for request in requests:
            yield reply_to(server, request, "[request id: 1] Exceeds maximum queue size")

    async def main():
        server = Server(full)
        async with running(server) as (transport, _):
            with pytest.raises(AttemptFailedError) as failed:
                await ask(transport, 1)
            assert failed.value.failure.status == "UNAVAILABLE"
        assert server.by_unary == []

    asyncio.run(main())


async def unknown_id(server, requests):
    yield reply_to(server, await anext(requests))
    yield service_pb2.ModelStreamInferResponse(error_message="of whom?")
    await asyncio.sleep(TIMEOUT_S)


async def end(server, requests):
    yield reply_to(server, await anext(requests))


async def garbage(server, requests):
    yield reply_to(server, await anext(requests))
    response = service_pb2.ModelInferResponse(id="1")
    yield service_pb2.ModelStreamInferResponse(infer_response=response)
    await asyncio.sleep(TIMEOUT_S)


@pytest.mark.parametrize("stream", [unknown_id, end, garbage])
def test_a_stream_that_cannot_be_followed_gives_way_to_unary_calls(stream):
    async def main():
        server = Server(stream)
        async with running(server) as (transport, said):
            assert await ask_all(transport, 4) == [0, 1, 2, 3]
            assert transport.name == "unary"
            assert await ask(transport, 9) == 9
        assert sorted(server.by_unary) == [1, 2, 3, 9]
        assert len(said) == 1
        assert "go by unary calls from here on" in said[0]

    asyncio.run(main())


def test_a_server_without_streams_is_asked_by_unary_calls():
    class Plain(Server):
        async def ModelStreamInfer(self, requests, context):  # noqa: N802
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "what is a stream?")

    async def main():
        async with running(Plain(None)) as (transport, said):
            assert await ask_all(transport, 3) == [0, 1, 2]
            assert transport.name == "unary"
        assert len(said) == 1

    asyncio.run(main())


def test_a_reply_after_the_deadline_is_dropped():
    async def slow(server, requests):
        request = await anext(requests)
        await asyncio.sleep(0.3)
        yield reply_to(server, request)
        async for request in requests:
            yield reply_to(server, request)

    async def main():
        async with running(Server(slow)) as (transport, said):
            with pytest.raises(AttemptFailedError) as failed:
                await ask(transport, 1, timeout_s=0.05)
            assert failed.value.failure.status == "DEADLINE_EXCEEDED"
            assert await ask(transport, 2) == 2
            assert transport.name == "stream"
        assert said == []

    asyncio.run(main())


def test_a_transport_that_is_closed_while_someone_waits_leaves_no_task():
    async def silent(server, requests):
        async for _ in requests:
            pass
        yield service_pb2.ModelStreamInferResponse()

    async def main():
        async with running(Server(silent)) as (transport, said):
            waiting = asyncio.create_task(ask(transport, 1))
            await asyncio.sleep(0.05)
            waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, TIMEOUT_S)
        assert len(asyncio.all_tasks()) <= 2, "the test, and the server that stops"
        assert said == []

    asyncio.run(main())
