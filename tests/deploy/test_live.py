"""The embedded server under the script, and with the metrics, that containers have."""

import os
import re
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from tests.deploy.files import ALERTS, DASHBOARD, HISTOGRAM_SUFFIX, METRIC, SERVE
from tests.deploy.serving import started_by_the_script
from tritonbulk import score
from tritonbulk.metrics import METRICS
from tritonbulk.server.embedded import EmbeddedTriton

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

GPU_METRICS = {
    "nv_gpu_memory_total_bytes",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_power_usage",
    "nv_gpu_utilization",
}
"""What only GPU servers show: docs/user_guide/metrics.md of triton-inference-server/server."""


def test_every_metric_that_is_looked_at_is_shown_by_somebody(triton):
    with urllib.request.urlopen(f"http://{triton.metrics}/metrics", timeout=60) as answer:
        served = set(re.findall(r"^# TYPE (\S+)", answer.read().decode(), re.MULTILINE))
    ours = {metric.exposed_name for metric in METRICS}
    looked_at = {
        name if name in served | ours else HISTOGRAM_SUFFIX.sub("", name)
        for path in (ALERTS, DASHBOARD)
        for name in METRIC.findall(path.read_text())
    }
    assert looked_at - served - ours == GPU_METRICS
    assert ours <= looked_at, "a metric that nobody looks at"
    assert not GPU_METRICS & served


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({name: np.arange(1_000, dtype=np.float32) for name in "abcd"}), path)
    return path


def health(endpoint):
    """Ask as the probes of Kubernetes do; 1 is SERVING."""
    with grpc.insecure_channel(endpoint) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        return check(b"", timeout=60)


SERVING = b"\x08\x01"  # HealthCheckResponse { status: SERVING }


def test_the_script_of_the_containers_starts_a_server_that_scores(
    repository, rows, monkeypatch, tmp_path
):
    started_by_the_script(monkeypatch, tmp_path)
    with EmbeddedTriton(repository, models=["wide"]) as server:
        # It serves the whole repository: which models is what MODEL_CONTROL=none leaves to it.
        assert health(server.grpc) == SERVING
        result = score(
            rows, model="wide", out=tmp_path / "out", endpoints=[server.grpc],
            input_map={"x": list("abcd")},
        )  # fmt: skip
        assert (result.rows_ok, result.rows_failed) == (1_000, 0)
        assert pq.read_table(tmp_path / "out").num_rows == 1_000
        with (
            grpc_client.InferenceServerClient(server.grpc) as client,
            pytest.raises(InferenceServerException, match="restricted"),
        ):
            client.unload_model("wide")
        argv = Path(f"/proc/{server.pid}/cmdline").read_bytes().decode().split("\0")
        assert "--allow-http=false" in argv
        os.kill(server.pid, signal.SIGTERM)
        assert server._server.ended.wait(60)
        assert server._server.exit_code == 0, "it drains"


def test_models_are_loaded_and_unloaded_by_whoever_has_the_secret(
    repository, monkeypatch, tmp_path
):
    secret = tmp_path / "secret"
    secret.write_text("s3cret_-")
    started_by_the_script(monkeypatch, tmp_path, MODEL_CONTROL="explicit", ADMIN_SECRET_FILE=secret)
    with (
        EmbeddedTriton(repository, models=(), model_control="explicit") as server,
        grpc_client.InferenceServerClient(server.grpc) as client,
    ):
        assert health(server.grpc) == SERVING, "ready, though it serves nothing yet"
        assert not client.is_model_ready("wide")
        with pytest.raises(InferenceServerException, match="restricted"):
            client.load_model("wide")
        header = {"triton-grpc-protocol-admin": "s3cret_-"}
        client.load_model("wide", headers=header)
        assert client.is_model_ready("wide")
        client.unload_model("wide", headers=header)
        # Not ready while it unloads, so that probes must be patient.
        give_up_at = time.monotonic() + 60
        while health(server.grpc) != SERVING:
            assert time.monotonic() < give_up_at
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("secret", "said"),
    [
        (None, "needs ADMIN_SECRET_FILE"),
        ("", "must hold"),
        ("a b", "must hold"),
        ("a:b", "must hold"),
    ],
)
def test_the_script_refuses_a_secret_that_triton_would_cut(secret, said, tmp_path):
    path = tmp_path / "secret"
    variables = {"PATH": os.environ["PATH"], "MODEL_CONTROL": "explicit"}
    if secret is not None:
        path.write_text(secret)
        variables["ADMIN_SECRET_FILE"] = str(path)
    done = subprocess.run(
        ["/bin/sh", str(SERVE)], env=variables, capture_output=True, text=True, check=False
    )
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
