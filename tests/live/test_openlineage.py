"""Lineage events of real runs, as a receiver gets them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from tritonbulk.cli.score import command
from tritonbulk.errors import InputError, OptionError

pytest.importorskip("openlineage.client")
pytestmark = pytest.mark.live
KEY = "canary-lineage-key"
PARENT = "0195b3f0-0000-7000-8000-000000000001"


@pytest.fixture
def receiver(monkeypatch):
    """A receiver on this machine, to which the environment points; its events and headers."""
    events = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            events.append((self.path, self.headers["Authorization"], body.decode()))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OPENLINEAGE_API_KEY", KEY)
    monkeypatch.setenv("OPENLINEAGE_NAMESPACE", "nightly")
    monkeypatch.setenv("OPENLINEAGE_PARENT_ID", f"airflow/dag.task/{PARENT}")
    yield events
    server.shutdown()
    server.server_close()


def run(triton, tmp_path, *more, columns="a,b,c,d"):
    path = tmp_path / "rows.parquet"
    if not path.exists():
        column = pa.array([1.0, 2.0, 3.0], pa.float32())
        pq.write_table(pa.table(dict.fromkeys("abcd", column)), path)
    words = [
        str(path), "--model", "double", "--endpoint", triton.grpc, "--out", str(tmp_path / "out"),
        "--input-map", f"x={columns}", "--openlineage", "--header-env", "x-token=TOKEN", *more,
    ]  # fmt: skip
    return CliRunner(env={"TOKEN": "canary-token"}).invoke(command, words, standalone_mode=False)


def test_a_run_is_told_from_start_to_complete(triton, tmp_path, receiver):
    done = run(triton, tmp_path, "--data-interval", "2026-11-30/2026-12-01")
    assert (done.return_value, done.exception) == (0, None)
    assert [(path, key) for path, key, _ in receiver] == [("/api/v1/lineage", f"Bearer {KEY}")] * 2
    start, complete = (json.loads(body) for *_, body in receiver)
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert start["job"] == complete["job"] | {"facets": start["job"]["facets"]}
    assert (start["job"]["namespace"], start["job"]["name"]) == (
        "nightly",
        "tritonbulk.score.double",
    )
    facets = complete["run"]["facets"]
    assert facets["nominalTime"]["nominalStartTime"] == "2026-11-30T00:00:00Z"
    assert facets["parent"]["run"]["runId"] == PARENT
    manifest = json.loads((tmp_path / "out" / "_tritonbulk" / "manifest.json").read_text())
    assert facets["tritonbulk"]["jobFingerprint"] == manifest["fingerprint"]
    assert facets["tritonbulk"]["model"] == manifest["model"]
    (source,) = complete["inputs"]
    assert (source["namespace"], source["name"]) == ("file", str(tmp_path / "rows.parquet"))
    assert source["facets"]["version"]["datasetVersion"] == manifest["inputs"][0]["sha256"]
    (output,) = complete["outputs"]
    assert output["name"] == str(tmp_path / "out")
    assert output["outputFacets"]["outputStatistics"]["rowCount"] == 3
    assert "y" in [field["name"] for field in output["facets"]["schema"]["fields"]]
    told = "".join(body for *_, body in receiver)
    assert not any(secret in told for secret in (KEY, "canary-token"))


def test_a_run_that_fails_is_told_with_its_error_and_no_secret(triton, tmp_path, receiver):
    done = run(triton, tmp_path, columns="a,b,c,canary-token")
    assert isinstance(done.exception, InputError)
    failed = json.loads(receiver[-1][2])
    assert failed["eventType"] == "FAIL"
    assert "no column" in failed["run"]["facets"]["errorMessage"]["message"]
    assert "canary-token" not in receiver[-1][2]


def test_events_go_to_a_file_and_a_receiver_that_is_gone_stops_nothing(
    triton, tmp_path, monkeypatch
):
    with pytest.raises(OptionError, match="set OPENLINEAGE_URL"):
        raise run(triton, tmp_path).exception
    file = tmp_path / "events.jsonl"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__TYPE", "file")
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(file))
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__APPEND", "true")
    assert run(triton, tmp_path, "--shard", "0/2").return_value == 0
    events = [json.loads(line) for line in file.read_text().splitlines()]
    assert [each["eventType"] for each in events] == ["START", "COMPLETE"]
    assert events[1]["run"]["facets"]["tritonbulk"]["shard"] == "0/2"
    monkeypatch.setenv("OPENLINEAGE__TRANSPORT__LOG_FILE_PATH", str(tmp_path / "none" / "e.jsonl"))
    done = run(triton, tmp_path, "--shard", "1/2")
    assert done.return_value == 0
    assert "lineage event START was not sent" in done.stderr
