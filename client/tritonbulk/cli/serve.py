"""``tritonbulk serve``: run the embedded Triton until it is told to stop."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from tritonbulk.server.embedded import EmbeddedTriton

CHECK_EVERY_S = 1.0


class _StopSignal(BaseException):
    """SIGINT or SIGTERM; not an Exception, so that nobody on the way takes it for an error."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@click.command(
    "serve",
    epilog="""\b
Example:
  tritonbulk serve model_repository --grpc-port 8001

It serves on the loopback address alone. Exit codes: 0 stopped by Ctrl-C or SIGTERM while serving,
130 or 143 stopped before it was ready, 2 wrong use, 3 the server did not start or died.""",
)
@click.argument(
    "repository", type=click.Path(path_type=Path), default=Path("model_repository"), required=False
)
@click.option("--grpc-port", type=click.IntRange(1, 65535), help="Exactly this port for gRPC.")
@click.option("--http-port", type=click.IntRange(1, 65535), help="Speak HTTP too, on this port.")
@click.option("--instances", type=click.IntRange(1), help="Instances of each model.")
@click.option("--cpu", is_flag=True, help="Serve models that are configured for GPUs on the CPU.")
@click.option("--model", "models", multiple=True, help="Serve this model only (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="Print the endpoints as one JSON line.")
def command(
    repository: Path,
    grpc_port: int | None,
    http_port: int | None,
    instances: int | None,
    cpu: bool,
    models: tuple[str, ...],
    as_json: bool,
) -> None:
    """Serve a model repository (default: ./model_repository) with a real Triton server.

    The server runs in an environment of its own, made on first use. The repository is not edited.
    """
    triton = EmbeddedTriton(
        repository,
        models=models or None,
        grpc_port=grpc_port,
        http_port=http_port,
        instances=instances,
        cpu=cpu,
        say=lambda line: click.echo(line, err=True),
    )
    ready = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with triton:
            ready = True
            _print_endpoints(triton, as_json=as_json)
            while True:
                time.sleep(CHECK_EVERY_S)
                triton.check()
    except _StopSignal as stop:
        if not ready:
            sys.exit(stop.exit_code)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise _StopSignal(number)


def _print_endpoints(triton: EmbeddedTriton, *, as_json: bool) -> None:
    endpoints = {"grpc": triton.grpc, "http": triton.http, "metrics": triton.metrics}
    known = {name: address for name, address in endpoints.items() if address is not None}
    known["log"] = str(triton.log_path)
    if as_json:
        click.echo(json.dumps({**known, "pid": triton.pid}))
        return
    for name, address in known.items():
        click.echo(f"{name:8}{address}")
    click.echo("ready; Ctrl-C stops it", err=True)
