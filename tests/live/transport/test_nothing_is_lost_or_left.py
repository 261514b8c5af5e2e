"""Whatever is cancelled, cut or killed, requests end soon and nothing is left behind."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.live.transport.wire import (
    KINDS,
    ask_many,
    left_of,
    numbered,
    open_server,
    opened,
)
from tritonbulk.server import guard
from tritonbulk.transport import (
    AttemptFailedError,
)

pytestmark = pytest.mark.live


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


CLIENT = """
import asyncio, sys
from pathlib import Path
from tritonbulk.options import ScoreOptions
from tritonbulk.session import connect, serve
from tritonbulk.transport.region import Region, registered

async def main():
    options = ScoreOptions(
        inputs=("-",), model="two", out=Path("-"), endpoints=(sys.argv[1],),
        trust_shared_memory=True,
    )
    async with serve(options, str) as servers, connect(servers, options, str) as (endpoints, _):
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
        "--input-map", "x=a,b,c,d", "--batch-rows", "1", "--transport", "shm", "--stop-grace", "1",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while "serving double" not in process.stderr.readline():
            assert process.poll() is None
        assert traces.wait_until(lambda: list((tmp_path / "out").glob("*")), deadline_s=5)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert "no memory is shared" not in said
    assert traces.wait_until(lambda: traces.look() == [], deadline_s=5)
