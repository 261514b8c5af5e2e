"""What is shipped for containers and Kubernetes, read as data."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).parents[2]
DOCKER = PROJECT / "docker"
KUBERNETES = PROJECT / "kubernetes"
SERVE = DOCKER / "triton" / "serve.sh"
ALERTS = DOCKER / "prometheus" / "alerts.yaml"
DASHBOARD = DOCKER / "grafana" / "dashboards" / "bulk-scoring.json"
DOCKERFILES = sorted(DOCKER.glob("*/Dockerfile"))
YAML_FILES = sorted([*DOCKER.rglob("*.yaml"), *KUBERNETES.rglob("*.yaml")])
SCRIPTS = sorted([*DOCKER.rglob("*.sh"), *(PROJECT / "requirements").glob("*.sh")])
KUSTOMIZATIONS = sorted(path.parent for path in KUBERNETES.rglob("kustomization.yaml"))

METRIC = re.compile(r"\b(?:nv|tritonbulk)_[a-z0-9_]+\b")
HISTOGRAM_SUFFIX = re.compile(r"_(bucket|count|sum)$")


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return [each for each in yaml.safe_load_all(path.read_text()) if each is not None]


def manifests() -> Iterator[dict[str, Any]]:
    """Yield every Kubernetes object that stands in a file."""
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        if path.name != "kustomization.yaml":
            yield from documents(path)


def pod_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """Return the pod's template that an object has, if it has one."""
    spec = manifest.get("spec", {})
    return spec.get("jobTemplate", {}).get("spec", spec).get("template")


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all containers of a pod's template."""
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def services() -> dict[str, dict[str, Any]]:
    """Return the services of the Compose file."""
    (compose,) = documents(DOCKER / "compose.yaml")
    return compose["services"]


def default(value: str) -> str:
    """Return a value of the Compose file where no variable is set."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value)
