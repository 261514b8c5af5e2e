"""The command line of tritonserver, as a pure function of frozen options.

Everything listens on the loopback address alone. Health, metadata, model configuration, statistics
and inference are open; what changes the server or reads its memory asks for a secret header.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tritonbulk.server.guard import server_marker

HOST = "127.0.0.1"
RESTRICTED = "model-repository,shared-memory,trace,logging"
HEADER_KEY = "tritonbulk-admin"
ADMIN_HEADER = f"triton-grpc-protocol-{HEADER_KEY}"
"""The header that carries the secret; tritonserver adds the first part itself for gRPC."""

ModelControl = Literal["none", "explicit"]


@dataclass(frozen=True, slots=True)
class Ports:
    """The loopback ports of a start; ``http`` is None where HTTP is off."""

    grpc: int
    metrics: int
    http: int | None = None


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """All that decides the command line, but for the ports.

    Attributes:
        binary: tritonserver itself.
        repository: the model repository that it reads.
        backends: the folder with its backends.
        caches: the folder with its response cache libraries.
        prefix: what the names of its shared memory begin with.
        secret: the value of the admin header.
        exit_timeout_s: how long requests in flight may take at an orderly stop.
        model_control: "explicit" lets models be loaded and unloaded (with the secret).
        models: with "explicit": the models to load at the start; None: all of them.
        more: further arguments, which come last.
    """

    binary: Path
    repository: Path
    backends: Path
    caches: Path
    prefix: str
    secret: str = field(repr=False)
    exit_timeout_s: int = 30
    model_control: ModelControl = "none"
    models: tuple[str, ...] | None = None
    more: tuple[str, ...] = ()


def command_line(options: ServerOptions, ports: Ports) -> list[str]:
    """Return the argument vector of tritonserver 2.51."""
    argv = [
        str(options.binary),
        f"--model-repository={options.repository}",
        f"--backend-directory={options.backends}",
        f"--cache-directory={options.caches}",
        f"--grpc-address={HOST}",
        f"--grpc-port={ports.grpc}",
        f"--grpc-restricted-protocol={RESTRICTED}:{HEADER_KEY}={options.secret}",
        f"--metrics-address={HOST}",
        f"--metrics-port={ports.metrics}",
        f"--http-address={HOST}",
    ]
    if ports.http is None:
        argv.append("--allow-http=false")
    else:
        argv += [
            f"--http-port={ports.http}",
            f"--http-restricted-api={RESTRICTED}:{ADMIN_HEADER}={options.secret}",
        ]
    argv += [
        server_marker(options.prefix),
        f"--exit-timeout-secs={options.exit_timeout_s}",
        f"--model-control-mode={options.model_control}",
    ]
    if options.model_control == "explicit":
        argv += [f"--load-model={name}" for name in options.models or ()]
        if options.models is None:
            argv.append("--load-model=*")
    return [*argv, *options.more]
