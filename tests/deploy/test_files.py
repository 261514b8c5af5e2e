"""Containers and manifests agree with each other, with our commands and with what they promise."""

import json
import re
import shlex
import tomllib

import click
import pytest
import yaml
from packaging.requirements import Requirement

from tests.deploy.files import (
    ALERTS,
    DASHBOARD,
    DOCKER,
    DOCKERFILES,
    KUSTOMIZATIONS,
    PROJECT,
    SERVE,
    YAML_FILES,
    containers,
    default,
    documents,
    manifests,
    pod_of,
    services,
)
from tritonbulk.cli.main import command as tritonbulk

TRITON = "nvcr.io/nvidia/tritonserver"
PODS = [(each, pod) for each in manifests() if (pod := pod_of(each)) is not None]
named_pods = pytest.mark.parametrize(
    ("manifest", "pod"), PODS, ids=[each["metadata"]["name"] for each, _ in PODS]
)
named_services = pytest.mark.parametrize("name", list(services()))


def texts():
    """Yield whatever a user may copy from."""
    for pattern in ("docker/**/*", "kubernetes/**/*", "docs/**/*.md", "README.md"):
        for path in PROJECT.glob(pattern):
            if path.suffix in {".md", ".sh", ".yaml"} or path.name == "Dockerfile":
                yield path, path.read_text()


def understood(words):
    """Parse a command line of ours; raise what it would complain of."""
    group, context = tritonbulk, click.Context(tritonbulk)
    while isinstance(group, click.Group):
        name, group, words = group.resolve_command(context, list(words))
        context = click.Context(group, context, name)
    group.make_context(name, list(words), context)


@pytest.mark.parametrize("path", YAML_FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_every_yaml_file_loads(path):
    assert documents(path)


def test_triton_is_named_by_one_version_without_known_vulnerabilities():
    found = {
        (int(year), int(month))
        for _, text in texts()
        for year, month in re.findall(rf"{TRITON}:(\d\d)\.(\d\d)", text)
    }
    (kustomization,) = documents(PROJECT / "kubernetes" / "triton" / "kustomization.yaml")
    (image,) = kustomization["images"]
    assert image["name"] == TRITON
    assert found == {tuple(map(int, image["newTag"].removesuffix("-py3").split(".")))}
    assert min(found) >= (26, 7)


def test_every_image_has_a_version():
    for path, text in texts():
        assert ":latest" not in text, path
    ours = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    tags = {}
    for each in services().values():
        name, _, tag = default(each["image"]).partition(":")
        assert re.search(r"\d", tag), name
        tags[name] = tag
    assert tags["tritonbulk/scorer"] == tags["tritonbulk/export"] == ours
    for folder in KUSTOMIZATIONS:
        for image in documents(folder / "kustomization.yaml")[0].get("images", []):
            assert image["newTag"] == tags[image["name"]], folder


@named_services
def test_a_service_has_no_more_rights_than_it_needs(name):
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert int(default(service["user"]).split(":")[0]) > 0
    assert not {"privileged", "cap_add", "pid", "ipc"} & service.keys()
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    for volume in service["volumes"]:
        writes = {"/out", "/kit"} | ({"/models"} if name == "export" else set())
        if isinstance(volume, dict) and volume["target"] not in writes:
            assert volume.get("read_only") is True, volume["target"]


def test_what_serves_in_compose_is_healthy_before_it_is_used():
    for name in ("triton", "triton-gpu", "prometheus", "grafana"):
        assert "healthcheck" in services()[name]
    for name in ("triton", "triton-gpu"):
        service = services()[name]
        assert "shm_size" in service
        grace_s = int(service["stop_grace_period"].removesuffix("s"))
        assert grace_s > int(service["environment"]["EXIT_TIMEOUT_SECS"])


def test_the_tensorrt_kit_is_built_in_the_image_that_serves():
    build = services()["tensorrt"]
    assert default(build["image"]) == default(services()["triton"]["image"])
    script = (DOCKER / "tensorrt" / "build.sh").read_text()
    assert "python3 /kit/build_plan.py /kit" in script
    assert build["entrypoint"] == ["python3", "/kit/build_plan.py", "/kit"]


@named_pods
def test_a_pod_passes_the_restricted_standard(manifest, pod):
    spec = pod["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    assert all(volume.keys().isdisjoint({"hostPath"}) for volume in spec["volumes"])
    volumes = {volume["name"] for volume in spec["volumes"]}
    for each in containers(pod):
        rights = each["securityContext"]
        assert rights["allowPrivilegeEscalation"] is False
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert rights["readOnlyRootFilesystem"] is True
        assert {"requests", "limits"} <= each["resources"].keys()
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes


def test_names_agree_in_kubernetes():
    by_kind = {}
    for each in manifests():
        by_kind.setdefault(each["kind"], []).append(each)
    labels = [pod["metadata"]["labels"] for _, pod in PODS]
    (deployment,), (service,) = by_kind["Deployment"], by_kind["Service"]
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        *(each["spec"]["selector"]["matchLabels"] for each in by_kind["PodDisruptionBudget"]),
        *(each["spec"]["podSelector"]["matchLabels"] for each in by_kind["NetworkPolicy"]),
    ]
    for selector in selectors:
        assert any(selector.items() <= each.items() for each in labels), selector
    assert service["spec"]["clusterIP"] == "None"
    claims = {each["metadata"]["name"] for each in by_kind["PersistentVolumeClaim"]}
    for _, pod in PODS:
        for volume in pod["spec"]["volumes"]:
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "data") in claims
    ports = {
        each["name"]: each["containerPort"] for each in containers(pod_of(deployment))[0]["ports"]
    }
    for port in service["spec"]["ports"]:
        assert ports[port["targetPort"]] == port["port"]
    flags = SERVE.read_text()
    assert f"--grpc-port={ports['grpc']} " in flags
    assert f"--metrics-port={ports['metrics']} " in flags


def test_triton_drains_before_kubernetes_kills_it():
    (deployment,) = (each for each in manifests() if each["kind"] == "Deployment")
    pod = pod_of(deployment)
    (container,) = containers(pod)
    pause_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    exit_s = int(
        {each["name"]: each.get("value") for each in container["env"]}["EXIT_TIMEOUT_SECS"]
    )
    assert pod["spec"]["terminationGracePeriodSeconds"] > pause_s + exit_s
    assert container["readinessProbe"]["grpc"]["port"] == 8001
    assert container["livenessProbe"]["httpGet"]["port"] == "metrics"


@pytest.mark.parametrize("folder", KUSTOMIZATIONS, ids=lambda path: path.name)
def test_a_kustomization_has_every_file_of_its_folder(folder):
    (kustomization,) = documents(folder / "kustomization.yaml")
    named = set(kustomization["resources"]) | set(kustomization.get("components", []))
    here = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    assert here <= named
    for each in named:
        assert (folder / each).exists(), each


def scorer_commands():
    """Yield the command line of every container that runs the client."""
    yield pytest.param([default(word) for word in services()["scorer"]["command"]], id="compose")
    for manifest, pod in PODS:
        for each in containers(pod):
            if each["image"] == "tritonbulk/scorer":
                name = f"{manifest['metadata']['name']}-{each['name']}"
                yield pytest.param(each["args"], id=name)


@pytest.mark.parametrize("words", list(scorer_commands()))
def test_every_command_line_is_understood(words, monkeypatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    understood(words)


def test_what_the_documents_run_in_the_scorer_is_understood():
    lines = [
        line
        for path, text in texts()
        if path.suffix == ".md"
        for line in text.splitlines()
        if line.startswith("docker compose")
    ]
    for line in lines:
        found = re.search(r" run --rm (?:--use-aliases )?(?P<service>scorer|export) (.+)$", line)
        if found:
            export = ["export"] if found["service"] == "export" else []
            understood([*export, *shlex.split(found[2])])
    assert any(" scorer score " in line for line in lines)


def test_an_indexed_job_has_as_many_pods_as_shards():
    (job,) = (each for each in manifests() if each["metadata"]["name"] == "score")
    shards = re.search(r"--shard=auto/(\d+)", " ".join(containers(pod_of(job))[0]["args"]))
    assert int(shards[1]) == job["spec"]["completions"]
    assert job["spec"]["completionMode"] == "Indexed"


def test_exit_code_1_is_a_success_only_where_something_looks_after_it():
    """Python itself ends with 1 where it cannot even begin, which must not pass for a job done."""
    finishing = [pod for each, pod in PODS if each["metadata"]["name"] in {"commit", "nightly"}]
    assert len(finishing) == 2
    for pod in finishing:
        first, last = containers(pod)
        assert first["command"] == ["tini", "-e", "1", "--", "tritonbulk"]
        assert "command" not in last
        assert last["args"][0] == "status"


@named_pods
def test_a_scorer_may_finish_what_it_has_in_memory(manifest, pod):
    for each in containers(pod):
        words = " ".join(each.get("args", []))
        if grace := re.search(r"--stop-grace=(\d+)", words):
            assert pod["spec"]["terminationGracePeriodSeconds"] > int(grace[1])


def test_an_image_installs_what_the_project_asks_for():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "scorer": [*project["dependencies"], *extras["s3"], *extras["otel"]],
        "export": [*project["dependencies"], *extras["export-sklearn"], *extras["export-onnx"],
                   *extras["export-lightgbm"], *extras["export-transformers"]],
    }  # fmt: skip
    for image, requirements in wanted.items():
        lines = (DOCKER / image / "requirements.txt").read_text()
        pins = dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", lines, re.MULTILINE))
        assert lines.count("--hash=sha256:") >= len(pins)
        for each in map(Requirement, requirements):
            if each.name != "tritonbulk":
                assert each.specifier.contains(pins[each.name.replace("_", "-")]), (image, each)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.parent.name)
def test_an_image_is_built_of_what_the_context_holds(path):
    stages = path.read_text().split("\nFROM ")[1:]
    assert len(stages) == 2, "what builds is not what runs"
    assert re.search(r"^USER 1000:1000$", stages[-1], re.MULTILINE)
    assert "COPY --from=build" in stages[-1]
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    for words in re.findall(r"^COPY (?!--from)(.+)$", path.read_text(), re.MULTILINE):
        for source in shlex.split(words)[:-1]:
            assert (PROJECT / source).exists(), source
            assert f"!{source}" in ignored


def test_the_dashboard_asks_the_data_source_that_is_provided():
    board = json.loads(DASHBOARD.read_text())
    provided = DOCKER / "grafana" / "provisioning" / "datasources" / "prometheus.yaml"
    (source,) = documents(provided)[0]["datasources"]
    variables = {each["name"]: each for each in board["templating"]["list"]}
    assert variables["datasource"]["current"]["value"] == source["uid"]
    identities = [each["id"] for each in board["panels"]]
    assert len(identities) == len(set(identities))
    for panel in board["panels"]:
        assert panel["type"] == "row" or panel["targets"]
        for target in panel.get("targets", []):
            assert set(re.findall(r"\$(\w+)", target["expr"])) <= {*variables, "__rate_interval"}


def test_prometheus_looks_where_something_is():
    (config,) = documents(DOCKER / "prometheus" / "prometheus.yaml")
    places = {
        (name, found["port"])
        for job in config["scrape_configs"]
        for found in job.get("dns_sd_configs", [])
        for name in found["names"]
    }
    # By DNS a server that is gone would be no target, and none that is down.
    triton = next(job for job in config["scrape_configs"] if job["job_name"] == "triton")
    (target,) = (each for found in triton["static_configs"] for each in found["targets"])
    name, port = target.split(":")
    places.add((name, int(port)))
    command = " ".join(services()["scorer"]["command"])
    assert places == {
        ("triton", int(re.search(r"--metrics-port=(\d+)", SERVE.read_text())[1])),
        ("scorer", int(re.search(r"--metrics-port=(\d+)", command)[1])),
    }
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert set(re.findall(r'job="(\w+)"', ALERTS.read_text())) <= jobs


def test_every_alert_has_a_test_and_a_word_in_the_documents():
    rules = [rule for group in documents(ALERTS)[0]["groups"] for rule in group["rules"]]
    tested = yaml.safe_load(ALERTS.with_name("alerts.test.yaml").read_text())["tests"]
    names = {each["alertname"] for test in tested for each in test.get("alert_rule_test", [])}
    assert {rule["alert"] for rule in rules} == names
    documented = (PROJECT / "docs" / "deploy.md").read_text()
    for name in names:
        assert f"`{name}`" in documented
