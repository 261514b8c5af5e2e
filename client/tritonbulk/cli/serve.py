"""``tritonbulk serve``: run the embedded Triton until it is told to stop."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from tritonbulk.errors import OutputError
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
@click.option(
    "--admin-header-file", type=click.Path(path_type=Path), metavar="FILE",
    help="Let models be loaded and unloaded by whoever has the secret that is written to FILE.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the endpoints as one JSON line.")
def command(
    repository: Path,
    grpc_port: int | None,
    http_port: int | None,
    instances: int | None,
    cpu: bool,
    models: tuple[str, ...],
    admin_header_file: Path | None,
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
        model_control="none" if admin_header_file is None else "explicit",
        say=lambda line: click.echo(line, err=True),
    )
    ready = False
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        with triton, _secret_file(admin_header_file, triton) as header:
            ready = True
            _print_endpoints(triton, header, as_json=as_json)
            while True:
                time.sleep(CHECK_EVERY_S)
                triton.check()
    except _StopSignal as stop:
        if not ready:
            sys.exit(stop.exit_code)


def _stop(number: int, _frame: FrameType | None) -> NoReturn:
    raise _StopSignal(number)


@contextmanager
def _secret_file(path: Path | None, triton: EmbeddedTriton) -> Iterator[str | None]:
    """Have the admin secret in a file of ours alone while serving; give ``NAME=FILE``.

    Raises:
        OutputError: the file exists or cannot be written; a retry does not help.
    """
    if path is None:
        yield None
        return
    ((name, secret),) = triton.admin_headers.items()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise OutputError(
            f"--admin-header-file {path} cannot be made ({error.strerror}); give a new file"
        ) from error
    with os.fdopen(descriptor, "w") as file:
        file.write(secret)
    try:
        yield f"{name}={path}"
    finally:
        path.unlink(missing_ok=True)


def _print_endpoints(triton: EmbeddedTriton, header: str | None, *, as_json: bool) -> None:
    endpoints = {"grpc": triton.grpc, "http": triton.http, "metrics": triton.metrics}
    known = {name: address for name, address in endpoints.items() if address is not None}
    known["log"] = str(triton.log_path)
    if header is not None:
        known["admin"] = header
    if as_json:
        click.echo(json.dumps({**known, "pid": triton.pid}))
        return
    for name, address in known.items():
        click.echo(f"{name:8}{address}")
    click.echo("ready; Ctrl-C stops it", err=True)
