"""A run that is watched: metrics over HTTP, JSON on stderr, traces and metrics by OTLP."""

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tritonbulk.metrics import METRICS

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]

ROWS = 6_000


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({name: np.arange(ROWS, dtype=np.float32) for name in "abcd"}), path)
    return path


@pytest.fixture
def collector():
    """What an OpenTelemetry collector was sent, by path."""
    sent = {"/v1/traces": [], "/v1/metrics": []}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            sent[self.path].append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()


def start(rows, endpoint, *flags, **variables):
    words = [
        sys.executable, "-m", "tritonbulk.cli.main", "score", str(rows), "--model", "wide",
        "--out", str(rows.parent / "out"), "--endpoint", endpoint, "--input-map", "x=a,b,c,d",
        "--batch-rows", "2", "--max-in-flight", "2", "--log-format", "json", *flags,
    ]  # fmt: skip
    return subprocess.Popen(
        words,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_is_seen_by_machines_while_it_lasts(triton, rows, collector):
    address, sent = collector
    with start(
        rows, triton.grpc, "--metrics-port", "0", "--otel", OTEL_EXPORTER_OTLP_ENDPOINT=address
    ) as run:
        first = json.loads(run.stderr.readline())
        where = re.search(r"http://\S+", first["text"])[0]
        seen = ""
        while run.poll() is None and "tritonbulk_requests_total{" not in seen:
            with urllib.request.urlopen(where, timeout=60) as answer:
                seen = answer.read().decode()
        _, told = run.communicate(timeout=200)
    assert run.returncode == 0, told
    label = f'endpoint="{triton.grpc}"'
    assert f'tritonbulk_requests_total{{{label},outcome="ok"}}' in seen
    assert f"tritonbulk_request_duration_seconds_bucket{{{label}" in seen
    assert f"tritonbulk_expected_rows {float(ROWS)}" in seen
    assert "tritonbulk_window_requests 2.0" in seen

    records = [json.loads(line) for line in told.splitlines()]
    assert {"time", "level", "logger", "event"} <= set.intersection(*map(set, records))
    assert {"begun"} <= {record["event"] for record in records}

    spans = [
        span
        for data in sent["/v1/traces"]
        for resource in ExportTraceServiceRequest.FromString(data).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert [span.name for span in spans].count("tritonbulk.score") == 1
    requests = [span for span in spans if span.name == "tritonbulk.request"]
    assert requests
    root = next(span for span in spans if span.name == "tritonbulk.score")
    assert {span.parent_span_id for span in requests} == {root.span_id}
    names = {
        (metric.name, metric.unit)
        for data in sent["/v1/metrics"]
        for resource in ExportMetricsServiceRequest.FromString(data).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert ("tritonbulk_rows", "rows") in names
    assert names <= {(metric.name, metric.unit) for metric in METRICS}


def test_a_run_that_fails_says_so_in_json(triton, rows):
    with start(rows, triton.grpc, "--input-map", "z=a") as run:
        _, told = run.communicate(timeout=200)
    last = json.loads(told.splitlines()[-1])
    assert (last["event"], last["level"], last["exit_code"]) == ("failed", "error", 2)
    assert run.returncode == 2
    assert "'z'" in last["text"]
