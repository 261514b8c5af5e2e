"""One conformance suite for all transports, against the real server; what differs stands last."""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tritonclient.grpc import service_pb2

from tritonbulk import score
from tritonbulk.codec import RequestEncoder, ResponseDecoder
from tritonbulk.contract import Column
from tritonbulk.options import ScoreOptions
from tritonbulk.server import guard
from tritonbulk.server.embedded import EmbeddedTriton
from tritonbulk.session import connect, serve
from tritonbulk.transport import (
    AttemptFailedError,
    Endpoint,
    Transport,
    choose_carriage,
    open_transports,
)

pytestmark = pytest.mark.live

KINDS = ("unary", "stream", "shm")
TIMEOUT_S = 20.0

TWO_MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

def answer(request):
    x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
    n = pb_utils.get_input_tensor_by_name(request, "n").as_numpy()
    if (n == -1).any():
        error = pb_utils.TritonError("minus one is bad", pb_utils.TritonError.INVALID_ARG)
        return pb_utils.InferenceResponse([], error=error)
    if (n == -2).any():
        time.sleep(0.6)
    outputs = [pb_utils.Tensor("y", x * np.float32(2)), pb_utils.Tensor("m", n + 1)]
    return pb_utils.InferenceResponse(outputs)

class TritonPythonModel:
    def execute(self, requests):
        return [answer(request) for request in requests]
"""
TWO_CONFIG = """
backend: "python"
max_batch_size: 64
input { name: "x" data_type: TYPE_FP32 dims: 8 }
input { name: "n" data_type: TYPE_INT64 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 8 }
output { name: "m" data_type: TYPE_INT64 dims: 1 }
instance_group { count: 2 kind: KIND_CPU }
"""
SAME_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        inputs = [request.inputs()[0] for request in requests]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", tensor.as_numpy())])
            for tensor in inputs
        ]
"""
SAME_CONFIG = """
backend: "python"
max_batch_size: 64
input {{ name: "x" data_type: {0} dims: {1} }}
output {{ name: "y" data_type: {0} dims: {1} }}
instance_group {{ count: 1 kind: KIND_CPU }}
"""
WIDE = 1_048_576


@pytest.fixture(scope="module")
def models(tmp_path_factory, write_python):
    """A repository whose models answer what they were asked, so that a mix-up shows."""
    folder = tmp_path_factory.mktemp("models")
    write_python(folder / "two", TWO_MODEL, TWO_CONFIG)
    write_python(folder / "text", SAME_MODEL, SAME_CONFIG.format("TYPE_STRING", 1))
    write_python(folder / "wide", SAME_MODEL, SAME_CONFIG.format("TYPE_FP32", WIDE))
    write_python(folder / "free", SAME_MODEL, SAME_CONFIG.format("TYPE_FP32", -1))
    return folder


@contextlib.contextmanager
def open_server(repository, **options):
    """Start a server that lets everyone on this machine share memory with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tritonbulk.server.flags.RESTRICTED", "model-repository,trace,logging")
        server = EmbeddedTriton(repository, stop_deadline_s=0, **options).start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def server(models):
    with open_server(models) as server:
        yield server


@dataclass
class Wire:
    """An open transport with a codec for one model."""

    transport: Transport
    encoder: RequestEncoder
    decoder: ResponseDecoder
    said: list[str]
    prefix: str

    async def ask(self, rows, timeout_s=TIMEOUT_S):
        """Return copies of the answers to ``rows``, the reply's memory given back."""
        request = self.encoder.encode(self.encoder.prepare(rows), 0, len(rows))
        reply = await self.transport.infer(request, timeout_s)
        answers = self.decoder.decode(reply, len(rows))
        await asyncio.sleep(0.002)  # as in scoring, others are served before this is looked at
        kept = [each.copy() if isinstance(each, np.ndarray) else each.values for each in answers]
        reply.release()
        return kept

    def slots_used(self):
        """Return how many slots of shared memory were used so far, and how many are now."""
        region = self.transport._region
        slots = region.size_bytes // region.slot_bytes
        return len(region._reserved), slots - len(region._free)


@contextlib.asynccontextmanager
async def opened(kind, address, model="two", version="1", slots=None):
    """Open a transport as scoring does."""
    options = ScoreOptions(
        inputs=("-",), model=model, out=Path("-"), endpoints=(address,), trust_shared_memory=True
    )
    said = []
    async with (
        serve(options, said.append) as servers,
        connect(servers, options, said.append) as (endpoints, served),
    ):
        inputs = [replace(t, columns=(Column(t.name),)) for t in served.inputs]
        rows = 16 if model == "wide" else 64
        carriage = choose_carriage(
            kind, servers.addresses, inputs, served.outputs, rows, may_share=True
        )
        carriage = replace(carriage, slots=slots or carriage.slots)
        async with open_transports(
            carriage, endpoints, servers.shared_memory, said.append
        ) as transports:
            yield Wire(
                transports[0],
                RequestEncoder(model, version, inputs, served.outputs),
                ResponseDecoder(served.outputs, version),
                said,
                servers.shared_memory.prefix,
            )


def numbered(first, count, special=None):
    """Return rows for `two` that carry their numbers."""
    n = np.arange(first, first + count)
    x = np.repeat(n[:, None], 8, axis=1).astype(np.float32) + np.arange(8, dtype=np.float32) / 16
    if special is not None:
        n[-1] = special
    lists = pa.FixedSizeListArray.from_arrays(pa.array(x.reshape(-1)), 8)
    return pa.record_batch({"x": lists, "n": pa.array(n)})


def is_answer(answers, first, count):
    y, m = answers
    n = np.arange(first, first + count)
    x = np.repeat(n[:, None], 8, axis=1).astype(np.float32) + np.arange(8, dtype=np.float32) / 16
    return np.array_equal(y, x * 2) and np.array_equal(m, n[:, None] + 1)


async def ask_many(wire, requests, workers, seed=7):
    """Ask for batches of random size from many tasks at once; return how many are right."""
    sizes = random.Random(seed)
    plan = iter([(number * 100, sizes.randint(1, 64)) for number in range(requests)])
    right = 0

    async def work():
        nonlocal right
        for first, count in plan:
            answers = await wire.ask(numbered(first, count))
            right += is_answer(answers, first, count)

    await asyncio.gather(*(work() for _ in range(workers)))
    return right


def left_of(prefix, server):
    """Return the regions that the server knows, and the files of one run."""

    async def ask():
        async with Endpoint(server.grpc) as endpoint:
            question = service_pb2.SystemSharedMemoryStatusRequest()
            return list((await endpoint.ask("SystemSharedMemoryStatus", question)).regions)

    token = prefix.removesuffix("_")
    return asyncio.run(ask()), [path.name for path in guard.SHARED_MEMORY.glob(f"{token}*")]


@pytest.mark.parametrize("kind", KINDS)
def test_two_thousand_requests_of_random_size_get_their_own_answers(kind, server):
    async def main():
        async with opened(kind, server.grpc, slots=12) as wire:
            # More tasks than slots: some requests must do without.
            assert await ask_many(wire, 2_000, workers=24) == 2_000
            assert wire.transport.name == kind
            assert wire.said == []
            if kind == "shm":
                assert wire.slots_used() == (12, 0)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_is_scored_whole_with_a_short_last_batch_and_a_bad_row(kind, server, tmp_path):
    rows = pa.concat_batches([numbered(0, 501, special=-1), numbered(501, 500)])
    pq.write_table(pa.Table.from_batches([rows]), tmp_path / "rows.parquet")
    result = score(
        tmp_path / "rows.parquet", model="two", out=tmp_path / "out", endpoints=[server.grpc],
        input_map=["x=x", "n=n"], transport=kind, trust_shared_memory=True, segment_rows=300,
        keep=(),
    )  # fmt: skip
    assert result.transport == kind
    assert (result.rows_ok, result.rows_failed) == (1_000, 1)
    table = pq.read_table(tmp_path / "out").to_pydict()
    assert table["m"] == [None if row == 500 else row + 1 for row in range(1_001)]
    assert [None if y is None else y[0] for y in table["y"]] == [
        None if row == 500 else 2.0 * row for row in range(1_001)
    ]
    assert table["_tritonbulk_status"][500] == 3
    assert table["_tritonbulk_error"][500] == "minus one is bad"


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_has_the_servers_status_and_touches_no_other_request(kind, server):
    async def main():
        async with opened(kind, server.grpc) as wire, opened(kind, server.grpc, version="9") as old:
            good = asyncio.create_task(wire.ask(numbered(0, 10)))
            with pytest.raises(AttemptFailedError) as bad:
                await wire.ask(numbered(0, 10, special=-1))
            assert (bad.value.failure.status, bad.value.failure.code) == ("INVALID_ARGUMENT", 3)
            assert bad.value.failure.text == "minus one is bad"
            with pytest.raises(AttemptFailedError) as unknown:
                await old.ask(numbered(0, 10))
            assert unknown.value.failure.status == "NOT_FOUND"
            assert "version 9 is not found" in unknown.value.failure.text
            assert is_answer(await good, 0, 10)
            assert wire.transport.name == old.transport.name == kind

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_deadline_holds_and_a_late_answer_harms_nobody(kind, server):
    async def main():
        async with opened(kind, server.grpc, slots=4) as wire:
            for first in range(3):
                with pytest.raises(AttemptFailedError) as late:
                    await wire.ask(numbered(first, 5, special=-2), timeout_s=0.1)
                assert late.value.failure.status == "DEADLINE_EXCEEDED"
            if kind == "shm":
                assert wire.slots_used()[1] >= 1, "the server may still write to them"
            assert await ask_many(wire, 50, workers=8) == 50
            if kind == "shm":
                async with asyncio.timeout(5):
                    while wire.slots_used() != (4, 0):  # late replies give the slots back
                        await asyncio.sleep(0.05)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_is_cancelled_in_the_middle_leaves_nothing(kind, server):
    async def main():
        async with opened(kind, server.grpc) as wire:
            asked = [
                asyncio.create_task(wire.ask(numbered(0, 5, special=-2 if i == 0 else None)))
                for i in range(20)
            ]
            await asyncio.sleep(0.05)
            for task in asked:
                task.cancel()
            await asyncio.wait(asked)
        assert len(asyncio.all_tasks()) == 1
        return wire.prefix

    assert left_of(asyncio.run(main()), server) == ([], [])


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_leaves_nothing(kind, server):
    async def main():
        async with opened(kind, server.grpc) as wire:
            await wire.ask(numbered(0, 5))
            raise KeyError(wire.prefix)

    with pytest.raises(KeyError) as raised:
        asyncio.run(main())
    assert left_of(raised.value.args[0], server) == ([], [])


def test_requests_to_a_server_that_is_killed_fail_soon_on_every_transport(models):
    async def ask(wire):
        try:
            await wire.ask(numbered(0, 5, special=-2))
        except AttemptFailedError as error:
            return error.failure.status
        return "OK"

    async def main(server):
        async with contextlib.AsyncExitStack() as stack:
            wires = [await stack.enter_async_context(opened(k, server.grpc)) for k in KINDS]
            asked = [asyncio.create_task(ask(wire)) for wire in wires for _ in range(4)]
            await asyncio.sleep(0.3)
            os.kill(server.pid, signal.SIGKILL)
            async with asyncio.timeout(10):
                assert set(await asyncio.gather(*asked)) <= {"UNAVAILABLE", "OK"}
                assert {await ask(wire) for wire in wires} == {"UNAVAILABLE"}
            assert [wire.transport.name for wire in wires] == ["unary"] * 3
            assert ["broke" in " ".join(wire.said) for wire in wires] == [False, True, True]

    with open_server(models, models=["two"]) as server:
        asyncio.run(main(server))


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_of_64_mebibytes_goes_there_and_back(kind, server):
    values = np.arange(16 * WIDE, dtype=np.float32)
    rows = pa.record_batch({"x": pa.FixedSizeListArray.from_arrays(pa.array(values), WIDE)})

    async def main():
        async with opened(kind, server.grpc, model="wide", slots=1) as wire:
            (answer,) = await wire.ask(rows)
            assert np.array_equal(answer.reshape(-1), values)
            assert wire.transport.name == kind
            assert wire.transport.laid_out_s > 0.001, "no memory takes 64 MiB faster"
            if kind == "shm":
                assert wire.slots_used() == (1, 0)

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_text_and_free_dimensions_go_there_and_back(kind, server):
    words = ["", "a", "grün" * 9, "x" * 100_000, "日本"]

    async def main():
        async with opened(kind, server.grpc, model="text") as wire:
            (answer,) = await wire.ask(pa.record_batch({"x": pa.array(words)}))
            assert [text.decode() for text in answer.to_pylist()] == words
            for count in (1, 2, 5):
                (answer,) = await wire.ask(pa.record_batch({"x": pa.array(words[:count])}))
                assert [text.decode() for text in answer.to_pylist()] == words[:count]
        async with opened(kind, server.grpc, model="free") as wire:
            for width in (1, 3, 70_000):
                values = pa.array(np.arange(2 * width, dtype=np.float32))
                lists = pa.FixedSizeListArray.from_arrays(values, width)
                (answer,) = await wire.ask(pa.record_batch({"x": lists}))
                assert answer.tolist() == [lists[0].as_py(), lists[1].as_py()]

    asyncio.run(main())


class Proxy:
    """Passes bytes on to a server until it is told to cut every connection."""

    def __init__(self, address):
        self._host, _, self._port = address.rpartition(":")
        self._writers = []

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.cut()

    def cut(self):
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader, writer):
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, far_writer]
        await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))

    @staticmethod
    async def _pass(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()


async def ask_again(wire, rows):
    """Ask until there is a connection, as the dispatcher does."""
    while True:
        try:
            return await wire.ask(rows)
        except AttemptFailedError as error:
            if error.failure.status != "UNAVAILABLE":
                raise
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", ["stream", "shm"])
def test_when_the_stream_breaks_everything_goes_on_by_unary_calls(kind, server):
    async def main():
        async with Proxy(server.grpc) as proxy, opened(kind, proxy.address) as wire:
            assert await ask_many(wire, 20, workers=4) == 20
            assert wire.transport.name == kind
            slow = [asyncio.create_task(ask_again(wire, numbered(i, 5, -2))) for i in range(2)]
            await asyncio.sleep(0.1)
            proxy.cut()
            for first, task in enumerate(slow):
                y, _ = await task
                assert np.array_equal(y[:, 0], 2 * np.arange(first, first + 5, dtype=np.float32))
            assert wire.transport.name == "unary"
            assert len(wire.said) == 1
            assert "broke" in wire.said[0]
            assert await ask_many(wire, 50, workers=8) == 50

    asyncio.run(main())


def test_a_server_that_shares_no_memory_is_given_a_stream(triton):
    async def main():
        async with opened("shm", triton.grpc, model="double") as wire:
            assert wire.transport.name == "stream"
            assert "no memory is shared" in wire.said[0]
            assert "restricted" in wire.said[0]

    asyncio.run(main())


def test_large_rows_go_through_shared_memory_to_the_embedded_server(models, tmp_path):
    values = pa.array(np.arange(200 * 300, dtype=np.float32))
    rows = pa.table({"x": pa.FixedSizeListArray.from_arrays(values, 300)})
    pq.write_table(rows, tmp_path / "rows.parquet")
    result = score(
        tmp_path / "rows.parquet", model="free", out=tmp_path / "out", repository=models,
        input_map=["x=x"], keep=(), segment_rows=100,
    )  # fmt: skip
    assert result.transport == "shm"
    assert pq.read_table(tmp_path / "out")["y"].to_pylist() == rows["x"].to_pylist()


CLIENT = """
import asyncio, sys
from pathlib import Path
from tritonbulk.options import ScoreOptions
from tritonbulk.session import connect, serve
from tritonbulk.transport.region import Region, registered

async def main():
    options = ScoreOptions(
        ("-",), "two", Path("-"), endpoints=(sys.argv[1],), trust_shared_memory=True
    )
    async with serve(options, print) as servers, connect(servers, options, print) as (endpoints, _):
        access = servers.shared_memory
        async with registered(endpoints[0], access, 2, 4096):
            region = Region(access.prefix + "not-yet-registered", 2, 4096)
            print(access.prefix, flush=True)
            await asyncio.sleep(60)

asyncio.run(main())
"""


def test_what_a_killed_client_left_is_cleared_away_by_the_next_one(server):
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, server.grpc], stdout=subprocess.PIPE, text=True
    )
    prefix = client.stdout.readline().strip()
    client.kill()
    client.communicate()
    regions, files = left_of(prefix, server)
    assert [name.startswith(prefix) for name in regions] == [True]
    assert len(files) == 2, "a lock, and the file that was not registered yet"
    modes = [(guard.SHARED_MEMORY / name).stat().st_mode & 0o777 for name in files]
    assert modes == [0o600, 0o600]

    async def main():
        async with opened("shm", server.grpc) as wire:
            assert wire.transport.name == "shm"
            return left_of_now(wire)

    def left_of_now(wire):
        return [path.name for path in guard.SHARED_MEMORY.glob(f"{wire.prefix}*")]

    assert asyncio.run(main()) == [], "a region has no name once it is registered"
    assert left_of(prefix, server) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_client_that_dies_takes_its_server_and_the_shared_memory_along(
    number, repository, tmp_path, traces
):
    path = tmp_path / "many.parquet"
    pq.write_table(pa.table(dict.fromkeys("abcd", np.ones(1_000_000, np.float32))), path)
    command = [
        sys.executable, "-m", "tritonbulk.cli.main", "score", str(path), "--model", "double",
        "--repository", str(repository), "--out", str(tmp_path / "out"),
        "--input-map", "x=a,b,c,d", "--batch-rows", "1", "--transport", "shm",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while "serving double" not in process.stderr.readline():
            assert process.poll() is None
        assert traces.wait_until(lambda: list((tmp_path / "out").glob("*")), deadline_s=5)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert "no memory is shared" not in said
    assert traces.wait_until(lambda: traces.look() == [], deadline_s=5)
