"""P7: outages are ridden out: no row lost, doubled or blamed, and goodput is back soon. Live."""

import asyncio
import os
import signal
import time

import pytest
from tritonclient.grpc import service_pb2

from tests.faults.conftest import check_output, write_rows
from tritonbulk.events import RequestEnded
from tritonbulk.options import ScoreOptions
from tritonbulk.running import Observer
from tritonbulk.scoring import run_score
from tritonbulk.transport import Endpoint

pytestmark = [pytest.mark.live, pytest.mark.ci]

FULL = bool(os.environ.get("TRITONBULK_TEST_FULL"))
ROWS = 16_000
BACK_S_MAX = 2.0
_BUSY_BACK_S_MAX = 15.0  # on a machine with more to do than it can


class Run:
    """One run of 16,000 rows, 16 a request of 5 ms, with what happened when."""

    def __init__(self, tmp_path, *addresses, model="slow", rows=ROWS):
        self.out, self.rows = tmp_path / "out", rows
        path = write_rows(tmp_path / "rows.parquet", rows)
        self.options = ScoreOptions(
            inputs=(str(path),),
            model=model,
            out=self.out,
            endpoints=addresses,
            input_map={"x": ("x",)},
            segment_rows=1024,
            max_outage_s=120.0,
            request_timeout_s=20.0,
        )
        self.ended, self.said = [], []
        self.ready_s = None

    async def against(self, nemesis):
        """Run while ``nemesis`` does what it does, and check every row."""
        scoring = asyncio.create_task(
            run_score(self.options, Observer(self.said.append, note=self.note))
        )
        while not any(each.outcome == "ok" for _, each in self.ended):
            await asyncio.sleep(0.01)
            assert not scoring.done() or not scoring.exception(), scoring.exception()
        await nemesis()
        result = await scoring
        check_output(self.out, self.rows)
        assert result.rows_failed == 0
        return result

    def note(self, event):
        if isinstance(event, RequestEnded):
            self.ended.append((time.monotonic(), event))

    def back_s(self):
        """Return how long after the server was ready the first request succeeded."""
        later = [at for at, each in self.ended if each.outcome == "ok" and at >= self.ready_s]
        return later[0] - self.ready_s if later else 0.0

    def check_back(self):
        is_busy = os.getloadavg()[0] > 1.5 * (os.cpu_count() or 1)
        assert self.back_s() <= (_BUSY_BACK_S_MAX if is_busy else BACK_S_MAX)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("times", [1, 2, 97] if FULL else [1, 2])
def test_a_server_that_ends_and_starts_again(three_servers, tmp_path, number, times, capsys):
    server = three_servers[0]
    run = Run(tmp_path, server.grpc, rows=max(ROWS, 3200 * times))

    async def nemesis():
        for _ in range(times):
            await asyncio.sleep(0.5)
            os.kill(server.pid, number)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.restart)
            run.ready_s = time.monotonic()

    asyncio.run(run.against(nemesis))
    run.check_back()
    with capsys.disabled():
        print(f"\nP7: back {run.back_s():.2f} s after the server was ready again")


def test_one_of_three_that_is_away_and_comes_back(three_servers, tmp_path):
    run = Run(tmp_path, *(server.grpc for server in three_servers), rows=3 * ROWS)

    async def nemesis():
        os.kill(three_servers[1].pid, signal.SIGKILL)
        await asyncio.sleep(1.5)
        await asyncio.to_thread(three_servers[1].restart)

    asyncio.run(run.against(nemesis))
    assert {each.endpoint for _, each in run.ended} == {each.grpc for each in three_servers}


@pytest.mark.parametrize("stopped_s", [0.5, 3.0])
def test_a_server_that_stands_still(three_servers, tmp_path, stopped_s):
    run = Run(tmp_path, *(server.grpc for server in three_servers[:2]))

    async def nemesis():
        os.kill(three_servers[0].pid, signal.SIGSTOP)
        await asyncio.sleep(stopped_s)
        os.kill(three_servers[0].pid, signal.SIGCONT)

    asyncio.run(run.against(nemesis))


@pytest.mark.parametrize("places", [1, 2, 4, 8])
def test_a_short_queue_is_no_storm(echo_server, tmp_path, places, capsys):
    rows = 10**6 if FULL and places == 4 else ROWS // 2

    async def nothing():
        pass

    run = Run(tmp_path, echo_server.grpc, model=f"queue{places}", rows=rows)
    result = asyncio.run(run.against(nothing))
    refused = sum(each.outcome == "busy" for _, each in run.ended)
    with capsys.disabled():
        print(f"\nP7: a queue of {places}: {refused} of {result.requests} requests refused")
    # `full_queue_is_no_storm` holds it to 1 % in virtual time; here a machine has its own moods.
    assert refused <= 0.05 * result.requests + 15


def test_a_model_that_is_unloaded_and_loaded_again(echo_server, tmp_path):
    run = Run(tmp_path, echo_server.grpc)

    async def nemesis():
        async with Endpoint(echo_server.grpc) as endpoint:
            for _ in range(2):
                for call in ("Unload", "Load"):
                    question = getattr(service_pb2, f"RepositoryModel{call}Request")(
                        model_name="slow"
                    )
                    await endpoint.ask(
                        f"RepositoryModel{call}", question, echo_server.admin_headers, 60.0
                    )
                    await asyncio.sleep(0.7)

    asyncio.run(run.against(nemesis))


class BytePipe:
    """Forwards bytes while its mode is "pass"; in a "hole" they wait."""

    def __init__(self, port):
        self.port, self.mode, self._open = port, "pass", set()

    async def start(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader, writer):
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.close()
            return
        self._open |= {writer, up_writer}
        await asyncio.gather(self._copy(reader, up_writer), self._copy(up_reader, writer))

    async def _copy(self, reader, writer):
        try:
            while data := await reader.read(65536):
                while self.mode == "hole":
                    await asyncio.sleep(0.05)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    def cut(self):
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()


@pytest.mark.parametrize("fault", ["hole", "cut", "cuts"])
def test_a_network_that_fails(three_servers, tmp_path, fault):
    async def run_it():
        pipe = BytePipe(int(three_servers[0].grpc.rpartition(":")[2]))
        run = Run(tmp_path, await pipe.start(), three_servers[1].grpc)

        async def nemesis():
            if fault == "hole":
                pipe.mode = "hole"
                await asyncio.sleep(6.0)
                pipe.mode = "pass"
            for _ in range({"hole": 0, "cut": 1, "cuts": 8}[fault]):
                pipe.cut()
                await asyncio.sleep(0.3)

        await run.against(nemesis)
        pipe.server.close()

    asyncio.run(run_it())
