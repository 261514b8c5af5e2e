"""Any server of the Open Inference Protocol: no ModelConfig, no statistics, not even its name."""

import asyncio

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tritonclient.grpc import service_pb2

import tritonbulk
from tritonbulk.errors import AuthError, ModelError
from tritonbulk.options import ScoreOptions
from tritonbulk.polite import parse_yield_to
from tritonbulk.running import Observer
from tritonbulk.scoring import run_score
from tritonbulk.testing import decode_tensors, encode_answer

ROWS = 300
GOOD_ROWS = 290
SERVICE = "/inference.GRPCInferenceService/"


class SmallServer(grpc.GenericRpcHandler):
    """What the protocol asks for and nothing else: readiness, the model's metadata, inference.

    It knows one model, ``double``, of these ``versions``. ``secret`` is the authorization that it
    wants, ``words`` are what it says of rows that it does not like.
    """

    def __init__(self, secret=None, words=None, versions=()):
        self._versions = versions
        self._secret = secret
        self._words = words
        self.asked = []

    def service(self, details):
        name = details.method.removeprefix(SERVICE)
        answer = getattr(self, f"_{name}", None)
        if answer is None:
            return None  # gRPC answers UNIMPLEMENTED

        async def unary(data, context):
            self.asked.append(name)
            given = dict(context.invocation_metadata())
            if self._secret is not None and given.get("authorization") != self._secret:
                sent = given.get("authorization")
                await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"no entry for {sent!r}")
            return await answer(data, context)

        return grpc.unary_unary_rpc_method_handler(unary)

    async def _ServerReady(self, data, context):  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=True).SerializeToString()

    async def _ModelReady(self, data, context):  # noqa: N802
        name = service_pb2.ModelReadyRequest.FromString(data).name
        return service_pb2.ModelReadyResponse(ready=name == "double").SerializeToString()

    async def _ModelMetadata(self, data, context):  # noqa: N802
        if service_pb2.ModelMetadataRequest.FromString(data).name != "double":
            await context.abort(grpc.StatusCode.NOT_FOUND, "Model not found")
        metadata = service_pb2.ModelMetadataResponse(
            name="double", platform="small", versions=self._versions
        )
        metadata.inputs.add(name="x", datatype="FP32", shape=[-1, 1])
        metadata.outputs.add(name="y", datatype="FP32", shape=[-1, 1])
        return metadata.SerializeToString()

    async def _ModelInfer(self, data, context):  # noqa: N802
        x = decode_tensors(service_pb2.ModelInferRequest.FromString(data))["x"]
        if self._words is not None and x.max() >= GOOD_ROWS:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, self._words)
        return encode_answer("", {"y": x * 2})


def run(handler, folder, said=None, others=(), **more):
    """Score with a server, or several, that live as long."""
    path = folder / "rows.parquet"
    if not path.exists():
        pq.write_table(pa.table({"x": np.arange(ROWS, dtype=np.float32)}), path)

    async def go():
        servers, addresses = [], []
        for each in (handler, *others):
            server = grpc.aio.server()
            server.add_generic_rpc_handlers((each,))
            addresses.append(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
            await server.start()
            servers.append(server)
        given = {"model": "double", "out": folder / "out", "batch_rows": 16, **more}
        options = ScoreOptions(inputs=(str(path),), endpoints=tuple(addresses), **given)
        try:
            return await run_score(options, Observer(said.append if said is not None else print))
        finally:
            for server in servers:
                await server.stop(None)

    return asyncio.run(go())


@pytest.mark.parametrize("transport", ["auto", "unary", "stream"])
def test_rows_are_scored_by_a_server_that_knows_no_more_than_it_must(transport, tmp_path):
    handler, said = SmallServer(), []
    result = run(handler, tmp_path, said, transport=transport)
    assert (result.rows_ok, result.model_version) == (ROWS, "")
    assert result.bottleneck is not None
    y = pq.read_table(tmp_path / "out")["y"].to_pylist()
    assert y == [2.0 * row for row in range(ROWS)]
    assert not [text for text in said if "warning" in text]
    handler.asked.clear()
    assert run(handler, tmp_path).rows_in == 0
    assert "ModelInfer" not in handler.asked


def test_its_model_is_asked_for_by_name_and_version(tmp_path):
    with pytest.raises(ModelError, match="does not serve model 'other'"):
        run(SmallServer(), tmp_path, model="other", max_outage_s=20)
    with pytest.raises(ModelError, match="tritonbulk rollback serves an earlier version"):
        run(SmallServer(), tmp_path, model="other", model_version="7", max_outage_s=20)


def test_a_fleet_of_two_versions_is_refused_with_who_serves_which(tmp_path):
    new, old = SmallServer(versions=("1", "2")), SmallServer(versions=("1",))
    words = r"version 2 at 127.*:\d+, 127.*:\d+; version 1 at 127.*; give one with --model-version"
    with pytest.raises(ModelError, match=words):
        run(new, tmp_path, others=(old, new))


def test_what_it_does_not_tell_is_said(tmp_path):
    with pytest.raises(ModelError, match="does not tell its statistics"):
        run(SmallServer(), tmp_path, yield_to=parse_yield_to("p99=50ms"))
    said = []
    run(SmallServer(), tmp_path, said, priority=2)
    assert any("does not tell whether model 'double' has priority levels" in text for text in said)


def test_a_secret_that_it_repeats_is_not(tmp_path):
    right = tritonbulk.Access(headers={"authorization": "canary-right"})
    assert run(SmallServer("canary-right"), tmp_path, access=right).rows_ok == ROWS
    wrong = tritonbulk.Access(headers={"authorization": "canary-wrong"})
    (tmp_path / "b").mkdir()
    with pytest.raises(AuthError, match=r"no entry for '\*\*\*'.*check the credentials"):
        run(SmallServer("canary-right"), tmp_path / "b", access=wrong)


def test_its_words_are_escaped_and_cut_where_they_are_kept(tmp_path):
    words = "\x1b[31mred\x00 " + "x" * 5_000
    handler = SmallServer(words=words)
    run(handler, tmp_path, failed_fraction_max=1.0)
    errors = pq.read_table(tmp_path / "out")["_tritonbulk_error"].to_pylist()[GOOD_ROWS:]
    assert all(len(each) <= 500 and each.isprintable() for each in errors)
    assert all("red" in each for each in errors)
