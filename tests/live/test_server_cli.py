"""`tritonbulk serve` and `tritonbulk server` as their users meet them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.live.conftest import Traces

pytestmark = pytest.mark.live

Serve = Callable[..., "subprocess.Popen[str]"]
COMMAND = "from tritonbulk.cli.main import main; main()"


@pytest.fixture
def serve(traces: Traces) -> Iterator[Serve]:
    """Give a function that runs `tritonbulk serve` with some arguments."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", COMMAND, "serve", *map(str, arguments)]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True))
        return processes[-1]

    yield start
    for each in processes:
        each.kill()
        each.communicate()


def endpoints(process: subprocess.Popen[str]) -> dict[str, str]:
    assert process.stdout is not None
    found = json.loads(process.stdout.readline())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_prints_endpoints_and_stops_cleanly_when_told(
    number: signal.Signals, serve: Serve, double_repository: Path, traces: Traces
) -> None:
    process = serve(double_repository, "--json")
    assert endpoints(process)["grpc"].startswith("127.0.0.1:")
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert not traces.look()


def test_serve_told_to_stop_before_it_is_ready_says_so_by_its_exit_code(
    serve: Serve, slow_repository: Path, traces: Traces
) -> None:
    process = serve(slow_repository)
    assert traces.wait_until(traces.stubs, 30)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert not traces.look()


def test_serve_ends_with_a_sentence_when_a_stub_dies(
    serve: Serve, double_repository: Path, traces: Traces
) -> None:
    process = serve(double_repository, "--json")
    endpoints(process)
    os.kill(traces.stubs()[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert "A process that runs a model for the embedded server died" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["no-such-folder"], 2, "not a model repository"),
        (["--model", "nope"], 2, "has no model 'nope'; it has double"),
    ],
)
def test_a_mistake_ends_with_a_sentence(
    arguments: list[str], code: int, words: str, serve: Serve, double_repository: Path
) -> None:
    folder = [] if "no-such-folder" in arguments else [double_repository]
    process = serve(*folder, *arguments)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert words in errors
    assert "Traceback" not in errors


def test_serve_uses_exactly_the_given_ports(serve: Serve, double_repository: Path) -> None:
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind(("127.0.0.1", 0))
        grpc, http = one.getsockname()[1], two.getsockname()[1]
    process = serve(double_repository, "--grpc-port", grpc, "--http-port", http, "--json")
    found = endpoints(process)
    assert (found["grpc"], found["http"]) == (f"127.0.0.1:{grpc}", f"127.0.0.1:{http}")
