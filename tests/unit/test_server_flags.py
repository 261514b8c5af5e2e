from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tritonbulk.server.flags import Ports, ServerOptions, command_line

RESTRICTED = "model-repository,shared-memory,trace,logging"
OPTIONS = ServerOptions(
    binary=Path("/env/tritonserver"),
    repository=Path("/models"),
    backends=Path("/run/backends"),
    caches=Path("/env/caches"),
    prefix="tritonbulk_1_",
    secret="s3cret",
)


def test_the_command_line_is_the_golden_one() -> None:
    assert command_line(OPTIONS, Ports(grpc=8001, metrics=8002)) == [
        "/env/tritonserver",
        "--model-repository=/models",
        "--backend-directory=/run/backends",
        "--cache-directory=/env/caches",
        "--grpc-address=127.0.0.1",
        "--grpc-port=8001",
        f"--grpc-restricted-protocol={RESTRICTED}:tritonbulk-admin=s3cret",
        "--metrics-address=127.0.0.1",
        "--metrics-port=8002",
        "--http-address=127.0.0.1",
        "--allow-http=false",
        "--backend-config=python,shm-region-prefix-name=tritonbulk_1_",
        "--exit-timeout-secs=30",
        "--model-control-mode=none",
    ]


def test_http_is_restricted_like_grpc_and_asks_for_the_same_header() -> None:
    argv = command_line(OPTIONS, Ports(grpc=8001, metrics=8002, http=8000))
    assert "--http-port=8000" in argv
    header = "triton-grpc-protocol-tritonbulk-admin"
    assert f"--http-restricted-api={RESTRICTED}:{header}=s3cret" in argv
    assert "--allow-http=false" not in argv


def test_explicit_control_loads_what_was_named_else_all() -> None:
    explicit = replace(OPTIONS, model_control="explicit")
    named = replace(explicit, models=("a", "b"))
    none = replace(explicit, models=())
    loads = [
        [flag for flag in command_line(each, Ports(1, 2)) if flag.startswith("--load-model=")]
        for each in (explicit, named, none)
    ]
    assert loads == [["--load-model=*"], ["--load-model=a", "--load-model=b"], []]


def test_the_secret_is_not_in_what_options_print() -> None:
    assert "s3cret" not in repr(OPTIONS)
