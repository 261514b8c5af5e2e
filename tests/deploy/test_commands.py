"""What Compose and the pods of Kubernetes run is run here, against the embedded server."""

import os
import re
import shlex
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
import tritonclient.grpc as grpc_client
import yaml

from examples.flights.data import read_flights
from tests.deploy.files import (
    KUBERNETES,
    PROJECT,
    containers,
    default,
    documents,
    manifests,
    pod_of,
    services,
)
from tests.deploy.serving import started_by_the_script
from tritonbulk.server.embedded import EmbeddedTriton

pytestmark = [
    pytest.mark.ci,
    pytest.mark.live,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not os.environ.get("TRITONBULK_DEPLOY_TOOLS"), reason="belongs to `make test-deploy`"
    ),
]
FILES, ROWS = 8, 1_000


@pytest.fixture(scope="module")
def server():
    """The repository of this project, served."""
    with EmbeddedTriton(PROJECT / "model_repository", stop_deadline_s=0) as triton:
        yield triton


def write(folder, *numbers):
    """Write files of flights."""
    flights = read_flights()
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        pq.write_table(flights.slice(number * ROWS, ROWS), folder / f"{number}.parquet")


def run(container, folder, server, **variables):
    """Run a container's command line, its folders and addresses being those of this machine."""
    words = [
        re.sub(r"(?<![a-z])/(data|out)\b", rf"{folder}/\1", word)
        .replace("dns:///triton:8001", f"dns:///127.0.0.1:{server.grpc.rpartition(':')[2]}")
        .replace("triton:8001", server.grpc)
        .replace("--metrics-port=9464", "--metrics-port=0")
        .replace("--metrics-address=0.0.0.0", "--metrics-address=127.0.0.1")
        for word in container["args"]
    ]
    return subprocess.run(
        [sys.executable, "-m", "tritonbulk", *words], env={**os.environ, **variables},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def pod(name):
    """Return the containers of a manifest's pod."""
    (found,) = (each for each in manifests() if each["metadata"]["name"] == name and pod_of(each))
    return found, containers(pod_of(found))


def test_the_pods_of_a_job_score_and_commit_it(server, tmp_path):
    write(tmp_path / "data" / "in", *range(FILES))
    job, (scorer,) = pod("score")
    _, (commit, status) = pod("commit")
    assert run(commit, tmp_path, server).returncode == 2, "there is no job yet"
    shards = range(job["spec"]["completions"])
    for index in (*shards[1:], shards[-1]):
        done = run(scorer, tmp_path, server, JOB_COMPLETION_INDEX=str(index))
        assert done.returncode == 0, done.stderr
    early = run(commit, tmp_path, server)
    assert early.returncode == 3, early.stderr
    assert run(scorer, tmp_path, server, JOB_COMPLETION_INDEX="0").returncode == 0
    assert run(commit, tmp_path, server).returncode == 0
    told = run(status, tmp_path, server)
    assert told.returncode == 0, told.stderr
    assert pq.read_table(tmp_path / "data" / "scored").num_rows == FILES * ROWS


def test_the_pod_of_every_night_scores_what_is_new(server, tmp_path):
    _, (scorer, status) = pod("nightly")
    for night, files in enumerate([(0, 1), (2,), ()]):
        write(tmp_path / "data" / "in", *files)
        done = run(scorer, tmp_path, server)
        assert done.returncode == 0, (night, done.stderr)
        assert run(status, tmp_path, server).returncode == 0
    assert pq.read_table(tmp_path / "data" / "scored").num_rows == 3 * ROWS


def test_a_night_loads_its_model_and_unloads_it(monkeypatch, tmp_path):
    (overlay,) = documents(KUBERNETES / "load-and-unload" / "kustomization.yaml")
    (patch,) = (each["patch"] for each in overlay["patches"] if each["target"]["kind"] == "CronJob")
    added = [each["value"] for each in yaml.safe_load(patch) if "/args/" in each["path"]]
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    words = [word.replace("/run/triton-admin/secret", str(secret)) for word in added]
    assert any(str(secret) in word for word in words)
    write(tmp_path / "data" / "in", 0)
    _, (scorer, _) = pod("nightly")
    started_by_the_script(monkeypatch, tmp_path, MODEL_CONTROL="explicit", ADMIN_SECRET_FILE=secret)
    with (
        EmbeddedTriton(PROJECT / "model_repository", models=(), model_control="explicit") as server,
        grpc_client.InferenceServerClient(server.grpc) as client,
    ):
        done = run({"args": [*scorer["args"], *words]}, tmp_path, server)
        assert done.returncode == 0, done.stderr
        assert not client.is_model_ready("flight_delay")
    assert pq.read_table(tmp_path / "data" / "scored").num_rows == ROWS


@pytest.fixture
def flights(tmp_path):
    """The folders of Compose, with a file of flights."""
    write(tmp_path / "data", 0)
    (tmp_path / "data" / "0.parquet").rename(tmp_path / "data" / "flights.parquet")
    (tmp_path / "out").mkdir()


@pytest.mark.usefixtures("flights")
def test_what_the_documents_tell_to_type_scores(server, tmp_path):
    text = (PROJECT / "docs" / "deploy.md").read_text()
    inside = re.findall(r"^docker compose .* run --rm scorer (.+)$", text, re.MULTILINE)
    outside = re.findall(r"^tritonbulk (.+ --endpoint 127\.0\.0\.1:8001)$", text, re.MULTILINE)
    assert len(inside) >= 3
    assert outside
    for line in inside:
        done = run({"args": shlex.split(line)}, tmp_path, server)
        assert done.returncode == 0, (line, done.stderr)
    for line in outside:
        words = shlex.split(line.replace("127.0.0.1:8001", server.grpc))
        subprocess.run([sys.executable, "-m", "tritonbulk", *words], cwd=tmp_path, check=True)
    for name in ("mine", "outside"):
        assert pq.read_table(tmp_path / "out" / name).num_rows == ROWS


@pytest.mark.usefixtures("flights")
def test_the_scorer_of_compose_scores(server, tmp_path):
    words = [default(word) for word in services()["scorer"]["command"]]
    done = run({"args": words}, tmp_path, server)
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "out" / "flights").num_rows == ROWS
