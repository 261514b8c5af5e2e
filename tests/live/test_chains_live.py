"""Chains on the real server: they answer as the whole, and stages work at the same time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.unit.test_export_chains import export, named, tower
from tritonbulk import score
from tritonbulk.server.embedded import EmbeddedTriton
from tritonbulk_export.chains.joining import export_pipeline
from tritonbulk_export.runtime import open_session
from tritonbulk_export.serving import Serving

pytestmark = pytest.mark.live

STAGES, EXECUTION_MS, REQUESTS, IN_FLIGHT = 3, 60, 16, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chains")
    random = np.random.default_rng(5)
    columns = {f"f{n}": random.normal(size=500).astype(np.float32) for n in range(4)}
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    slow = folder / "slow.toml"
    slow.write_text(f'[parameters]\nsimulate_ms = "{EXECUTION_MS},0"\n')
    export(
        folder, "deep", tower(), stages=STAGES, serving=Serving(overrides=slow), max_batch_size=16
    )
    export(folder, "scale", named(tower((4, 4)), {"y": "t"}))
    export(folder, "model", named(tower((4, 3, 1)), {"x": "t"}))
    export_pipeline("both", ["scale", "model"], repository=folder / "r")
    return folder


@pytest.fixture(scope="module")
def server(folder) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(folder / "r", stop_deadline_s=0) as triton:
        yield triton


@pytest.mark.parametrize("name", ["deep", "both"])
def test_a_chain_scores_a_file_as_the_whole_does(folder, server, name, tmp_path):
    score(folder / "rows.parquet", model=name, out=tmp_path / "out", endpoints=[server.grpc])
    scored = pq.read_table(tmp_path / "out")
    rows = np.stack([scored[f"f{n}"].to_numpy() for n in range(4)], axis=1)
    if name == "deep":
        expected = open_session(tower()).run({"x": rows})["y"]
    else:
        between = open_session(tower((4, 4))).run({"x": rows})["y"]
        expected = open_session(tower((4, 3, 1))).run({"x": between})["y"]
    assert np.allclose(scored["y"].to_numpy(), expected[:, 0], atol=1e-5)


def test_stages_work_at_the_same_time(server):
    rows = np.ones((16, 4), np.float32)
    request = service_pb2.ModelInferRequest(model_name="deep", raw_input_contents=[rows.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=rows.shape)
    with (
        grpc.insecure_channel(server.grpc) as channel,
        ThreadPoolExecutor(IN_FLIGHT) as threads,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.ModelInfer(request)
        before = busy_s(stub)
        began = time.monotonic()
        list(threads.map(lambda _: stub.ModelInfer(request), range(REQUESTS)))
        elapsed_s = time.monotonic() - began
        busy = wait_for_busy_s(stub, before + STAGES * REQUESTS * EXECUTION_MS / 1000) - before
    # One after the other they would be busy for no longer than the whole takes.
    assert busy / elapsed_s > 1.4
    assert elapsed_s < STAGES * REQUESTS * EXECUTION_MS / 1000


def busy_s(stub):
    """Return how long all stages have computed, in seconds."""
    answer = stub.ModelStatistics(service_pb2.ModelStatisticsRequest())
    return sum(
        model.inference_stats.compute_infer.ns / 1e9
        for model in answer.model_stats
        if model.name.startswith("deep.stage")
    )


def wait_for_busy_s(stub, at_least_s):
    """Return the same once the last requests count, which is after their answers left."""
    give_up_at = time.monotonic() + 10
    while (found := busy_s(stub)) < at_least_s * 0.98 and time.monotonic() < give_up_at:
        time.sleep(0.05)
    return found
