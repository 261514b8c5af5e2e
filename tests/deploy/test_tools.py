"""The tools of the field judge what is shipped; skipped without those of `make test-deploy`."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.deploy.files import (
    ALERTS,
    DASHBOARD,
    DOCKER,
    DOCKERFILES,
    KUSTOMIZATIONS,
    PROJECT,
    SCRIPTS,
    documents,
    services,
)
from tritonbulk.server.ports import free_ports

TOOLS = os.environ.get("TRITONBULK_DEPLOY_TOOLS", "")
PATH = f"{TOOLS}:{os.environ['PATH']}"
pytestmark = [
    pytest.mark.ci,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not TOOLS, reason="needs the tools of `make test-deploy`"),
]


def run(tool, *words, **more):
    """Run a tool over the project; skip where it is not there."""
    found = shutil.which(tool, path=PATH)
    if found is None:
        pytest.skip(f"no {tool} here")
    done = subprocess.run(
        [found, *map(str, words)], cwd=PROJECT, capture_output=True, text=True, check=False, **more
    )
    assert done.returncode == 0, f"{tool}: {done.stdout}{done.stderr}"
    return done.stdout


def test_hadolint_finds_nothing():
    assert run("hadolint", *DOCKERFILES) == ""


def test_shellcheck_finds_nothing():
    assert run("shellcheck", *SCRIPTS) == ""


def test_yamllint_finds_nothing():
    run("yamllint", "--strict", "docker", "kubernetes", ".hadolint.yaml", ".yamllint.yaml")


def test_the_compose_file_keeps_to_its_schema_and_to_good_practice():
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml")
    run("compose-lint", "check", "--fail-on", "high", DOCKER / "compose.yaml")


@pytest.mark.parametrize("profile", ["cpu", "gpu", "score", "export", "tensorrt", "watch", "*"])
def test_compose_itself_reads_every_profile(profile):
    config = json.loads(
        run("docker-compose", "--file", DOCKER / "compose.yaml", "--profile", profile, "config",
            "--format", "json")
    )  # fmt: skip
    expected = {name for name, each in services().items() if profile in {"*", *each["profiles"]}}
    assert set(config["services"]) == expected
    for name in expected & {"triton", "triton-gpu"}:
        assert config["services"][name]["networks"]["scoring"]["aliases"] == ["triton"]


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_kustomize_builds_what_kubernetes_knows(folder, tmp_path):
    built = run("kubectl", "kustomize", folder)
    path = tmp_path / "built.yaml"
    path.write_text(built)
    run("kubernetes-validate", "--strict", path)
    objects = documents(path)
    assert {each["metadata"].get("namespace", "tritonbulk") for each in objects} == {"tritonbulk"}
    images = re.findall(r"image: (\S+)", built)
    assert all(re.search(r":\d", image) for image in images), images
    if folder.name in {"triton", "gpu"}:
        maps = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
        (deployment,) = (each for each in objects if each["kind"] == "Deployment")
        pod = deployment["spec"]["template"]["spec"]
        mounted = {each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each}
        assert mounted == maps, "the script's name follows its content"
        limits = pod["containers"][0]["resources"]["limits"]
        assert ("nvidia.com/gpu" in limits) == (folder.name == "gpu")


def test_promtool_accepts_configuration_and_alerts():
    run("promtool", "check", "config", DOCKER / "prometheus" / "prometheus.yaml")
    run("promtool", "check", "rules", ALERTS)


def test_alerts_fire_when_they_should_and_only_then():
    run("promtool", "test", "rules", DOCKER / "prometheus" / "alerts.test.yaml")


@pytest.fixture
def prometheus(triton, tmp_path):
    """A real Prometheus under our configuration, with addresses for the names of Compose."""
    program = shutil.which("prometheus", path=PATH)
    if program is None:
        pytest.skip("no prometheus here")
    listens, scorer = free_ports(2)
    (config,) = documents(DOCKER / "prometheus" / "prometheus.yaml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(ALERTS)]
    targets = {"triton": triton.metrics, "tritonbulk": f"127.0.0.1:{scorer}"}
    for job in config["scrape_configs"]:
        job.pop("dns_sd_configs", None)
        job["static_configs"] = [{"targets": [targets[job["job_name"]]]}]
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [program, f"--config.file={tmp_path}/prometheus.yaml",
             f"--storage.tsdb.path={tmp_path}/db", f"--web.listen-address=127.0.0.1:{listens}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    yield f"http://127.0.0.1:{listens}", scorer
    process.terminate()
    process.wait(60)


def ask(prometheus, path):
    """Return the data of an answer of Prometheus; None while it is not up."""
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/{path}", timeout=60) as answer:
            return json.load(answer)["data"]
    except OSError:
        return None


def series(prometheus, expression):
    """Return the series that an expression gives."""
    data = ask(prometheus, "query?" + urllib.parse.urlencode({"query": expression}))
    return [] if data is None else data["result"]


@pytest.mark.live
def test_prometheus_answers_every_panel_from_a_server_and_a_run(triton, prometheus, tmp_path):
    address, port = prometheus
    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.table({name: np.arange(60_000, dtype=np.float32) for name in "abcd"}), rows)
    words = [
        sys.executable, "-m", "tritonbulk", "score", str(rows), "--model", "wide", "--out",
        str(tmp_path / "out"), "--endpoint", triton.grpc, "--input-map", "x=a,b,c,d",
        "--batch-rows", "2", "--max-in-flight", "2", "--metrics-port", str(port),
    ]  # fmt: skip
    board = json.loads(DASHBOARD.read_text())
    questions = {
        f"{panel['title']}: {target['expr']}": re.sub(
            r"\$(run|model)", ".*", target["expr"].replace("$__rate_interval", "5s")
        )
        for panel in board["panels"] for target in panel.get("targets", [])
        if not re.search(r"nv_gpu_|tritonbulk_failed_rows|request_failure", target["expr"])
    }  # fmt: skip
    answered = set()
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as scoring:
        while scoring.poll() is None and questions.keys() - answered:
            answered |= {
                name for name in questions.keys() - answered if series(address, questions[name])
            }
            time.sleep(0.2)
        scoring.kill()
        told, _ = scoring.communicate()
    assert not questions.keys() - answered, told
    up = {
        each["metric"]["job"]: each["value"][1] for each in series(address, "max_over_time(up[5m])")
    }
    assert up == {"triton": "1", "tritonbulk": "1"}
    groups = ask(address, "rules")["groups"]
    states = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert set(states.values()) == {"ok"}
