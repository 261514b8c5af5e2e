"""A run that loads its model into a server and takes it out again."""

import asyncio
import socket

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tritonclient.grpc import service_pb2

import tritonbulk
from tests.conftest import write_double_entry
from tritonbulk import model_control
from tritonbulk.access import Access
from tritonbulk.errors import InputError, ModelError, OptionError, OutageError
from tritonbulk.server.embedded import EmbeddedTriton
from tritonbulk.transport import Endpoint

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    repository = tmp_path_factory.mktemp("control")
    write_double_entry(repository / "double")
    options = {"models": (), "model_control": "explicit", "stop_deadline_s": 0}
    with EmbeddedTriton(repository, **options) as running:
        yield running


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({name: pa.array([1.0, 2.0], pa.float32()) for name in "abcd"}), path)
    return path


def is_loaded(server):
    async def ask():
        async with Endpoint(server.grpc) as endpoint:
            question = service_pb2.ModelReadyRequest(name="double")
            return (await endpoint.ask("ModelReady", question)).ready

    return asyncio.run(ask())


def score(server, rows, out, columns="abcd", **more):
    given = {"load_model": True, "access": Access(headers=server.admin_headers), **more}
    return tritonbulk.score(
        rows, model="double", out=out, endpoints=[server.grpc],
        input_map={"x": list(columns)}, **given,
    )  # fmt: skip


def test_a_model_is_loaded_scored_and_unloaded(server, rows, tmp_path):
    assert not is_loaded(server)
    assert score(server, rows, tmp_path / "out", unload_model=True).rows_ok == 2
    assert not is_loaded(server)
    score(server, rows, tmp_path / "kept")
    assert is_loaded(server)
    # Unloaded whatever ends the run, also where it was loaded before it.
    with pytest.raises(InputError):
        score(server, rows, tmp_path / "failed", "abcx", unload_model=True)
    assert not is_loaded(server)


def test_a_server_that_does_not_load_is_told_of_with_the_way_out(server, rows, tmp_path):
    with pytest.raises(ModelError, match="give the header that opens"):
        score(server, rows, tmp_path / "out", access=Access())
    with pytest.raises(ModelError, match="does not load model 'none'"):
        tritonbulk.score(
            rows, model="none", out=tmp_path / "out", endpoints=[server.grpc], load_model=True,
            access=Access(headers=server.admin_headers),
        )  # fmt: skip


def test_of_several_servers_those_that_answer_load_it(server, rows, tmp_path):
    with socket.socket() as taken:  # listens to nobody
        taken.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{taken.getsockname()[1]}"
        result = tritonbulk.score(
            rows, model="double", out=tmp_path / "out", endpoints=[nobody, server.grpc],
            input_map={"x": list("abcd")}, load_model=True,
            access=Access(headers=server.admin_headers),
        )  # fmt: skip
    assert result.rows_ok == 2


def test_a_server_that_is_lost_while_it_loads_is_an_outage():
    async def load():
        async with Endpoint("127.0.0.1:9") as endpoint:
            await model_control._load(endpoint, "double")

    with pytest.raises(OutageError, match="was lost while it loaded model 'double'"):
        asyncio.run(load())


def test_the_embedded_server_needs_no_control(rows, tmp_path):
    with pytest.raises(OptionError, match="are for servers at --endpoint"):
        tritonbulk.score(rows, model="double", out=tmp_path / "out", unload_model=True)
