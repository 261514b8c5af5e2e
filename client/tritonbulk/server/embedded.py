"""The embedded Triton: repository in, endpoints out, nothing left behind."""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

from tritonbulk.errors import OptionError, ServerGoneError, StartError
from tritonbulk.server import backends, environment, repository
from tritonbulk.server.environment import EnvironmentInfo
from tritonbulk.server.flags import ADMIN_HEADER, HOST, ModelControl, Ports, ServerOptions
from tritonbulk.server.launch import GuardedServer, Launch, launch_server, log_tail
from tritonbulk.server.overrides import Overrides
from tritonbulk.server.ports import free_ports, wait_until_free
from tritonbulk.server.runs import Run, new_run
from tritonbulk.server.stubs import dead_stubs

PORT_ATTEMPTS = 5


class EmbeddedTriton:
    """A real Triton server for as long as a ``with`` or ``async with`` block lasts.

    ::

        with EmbeddedTriton("model_repository") as triton:
            score("rows.parquet", model="flights", out="scored", endpoints=[triton.grpc])

    It listens on the loopback address alone. Its environment is made on first use (about 350 MB,
    needs a network). The repository is never written to. Whatever happens to this process, the
    server, its processes, shared memory and temporary files go with it.

    Args:
        repository: the model repository to serve.
        models: serve these only (and what their ensembles need); None: all of them; (): none yet,
            for ``model_control="explicit"``.
        grpc_port: exactly this port, waited for if someone still has it; None: any free one.
        http: whether to speak HTTP too, on any free port.
        http_port: exactly this port for HTTP, which is then on.
        instances: how many instances each instance group of each model has; None: as configured.
        cpu: serve models that are configured for GPUs on the CPU.
        queue_delay_us: how long a request may wait for others to make a batch with, of each model;
            -1: no dynamic batching; None: as configured.
        max_batch_size: rows that one batch of each model may have; None: as configured.
        model_control: "explicit" lets whoever has ``admin_headers`` load and unload models.
        start_deadline_s: how long loading the models may take, in seconds.
        stop_deadline_s: how long requests in flight may take at the end, in seconds. An idle
            server needs some 3 s to end by itself; 0 kills it at once, which loses nothing if no
            request is in flight.
        port_wait_s: how long to wait for the owner of a given port, in seconds.
        flags: further arguments of tritonserver, such as ``--grpc-use-ssl=true``; they stand in
            the process list.
        say: told, line by line, what is being done if that takes long.

    Raises (when the block is entered):
        InputError: there is no such repository, or no model in it.
        ModelError: a model of ``models`` is not in it.
        UsageError: a model needs a GPU and there is none, and ``cpu`` is not set.
        OptionError: an option has no meaning.
        PlatformError: this machine cannot run the server; the text says why.
        InstallError: its environment could not be made. A retry may help.
        StartError: it did not start (the text has Triton's own words), or a given port is taken.
    """

    def __init__(
        self,
        repository: str | Path,
        *,
        models: Sequence[str] | None = None,
        grpc_port: int | None = None,
        http: bool = False,
        http_port: int | None = None,
        instances: int | None = None,
        cpu: bool = False,
        queue_delay_us: int | None = None,
        max_batch_size: int | None = None,
        model_control: ModelControl = "none",
        start_deadline_s: float = 120.0,
        stop_deadline_s: float = 30.0,
        port_wait_s: float = 30.0,
        flags: Sequence[str] = (),
        say: Callable[[str], None] | None = None,
    ) -> None:
        if instances is not None and instances < 1:
            raise OptionError(f"A model has at least one instance, not {instances}.")
        self._repository = Path(repository)
        self._models = None if models is None else tuple(models)
        self._given_ports = (grpc_port, http_port)
        self._http = http or http_port is not None
        self._overrides = Overrides(instances, cpu, queue_delay_us, max_batch_size)
        self._model_control: ModelControl = model_control
        self._start_deadline_s = start_deadline_s
        self._stop_deadline_s = stop_deadline_s
        self._port_wait_s = port_wait_s
        self._flags = tuple(flags)
        self._say = say or (lambda _line: None)
        self._secret = secrets.token_urlsafe(32)
        self._cancelled = threading.Event()
        self._stack = ExitStack()
        self._server: GuardedServer | None = None
        self._launched: tuple[Launch, ServerOptions] | None = None
        self._ports: Ports | None = None
        self._log_path: Path | None = None
        self._shared_memory_prefix: str | None = None

    @property
    def grpc(self) -> str:
        """The gRPC endpoint, such as "127.0.0.1:8001"."""
        return f"{HOST}:{self._started_ports.grpc}"

    @property
    def http(self) -> str | None:
        """The HTTP endpoint, such as "127.0.0.1:8000"; None where HTTP is off."""
        port = self._started_ports.http
        return None if port is None else f"{HOST}:{port}"

    @property
    def metrics(self) -> str:
        """The address that answers ``GET /metrics`` with Prometheus text."""
        return f"{HOST}:{self._started_ports.metrics}"

    @property
    def admin_headers(self) -> Mapping[str, str]:
        """The header that opens model control, shared memory, trace and log settings.

        For gRPC metadata and HTTP alike. It is a secret: not for logs and not for other machines.
        """
        return MappingProxyType({ADMIN_HEADER: self._secret})

    @property
    def shared_memory_prefix(self) -> str:
        """What names in ``/dev/shm`` must begin with to be removed when the server ends."""
        assert self._shared_memory_prefix is not None, "not started"
        return self._shared_memory_prefix

    @property
    def pid(self) -> int:
        """The process id of tritonserver."""
        assert self._server is not None, "not started"
        assert self._server.pid is not None, "a server that is ready has one"
        return self._server.pid

    @property
    def log_path(self) -> Path:
        """What the server logs; the file goes when the server does."""
        assert self._log_path is not None, "not started"
        return self._log_path

    def start(self) -> Self:
        """Start the server and return when it is ready; ``stop`` must follow. See the class."""
        assert self._server is None, "already started"
        overrides = self._overrides
        repository.check_models(self._repository, self._models)
        repository.check_kinds(self._repository, self._models, overrides)
        with ExitStack() as stack:
            home = stack.enter_context(environment.in_use(self._say, self._cancelled))
            try:
                run = stack.enter_context(new_run())
                launch, options = self._prepare(home, run, overrides)
                ports = _port_choices(
                    self._given_ports, self._http, self._port_wait_s, self._cancelled
                )
                self._server, self._ports = launch_server(
                    options, launch, ports, self._start_deadline_s
                )
            except OSError as error:
                cause = error.strerror or "the temporary folder cannot be written; set TMPDIR"
                raise StartError(f"The embedded server did not start: {cause}.") from error
            self._log_path = launch.log_path
            self._shared_memory_prefix = run.prefix
            self._launched = launch, options
            stack.callback(self._stop_server)
            self._stack = stack.pop_all()
        return self

    def restart(self) -> None:
        """Start the server again, at the same address, whatever state it is in.

        Raises:
            StartError: it did not start; nothing of it is left but what `stop` removes.
        """
        assert self._server is not None, "not started"
        assert self._launched is not None, "not started"
        launch, options = self._launched
        self._server.stop(0)
        launch.log_path.write_bytes(b"")
        ports = repeat(self._started_ports, PORT_ATTEMPTS)
        self._server, _ = launch_server(options, launch, ports, self._start_deadline_s)

    def stop(self) -> None:
        """End the server; when this returns nothing of it is left. Nothing happens the second time.

        Requests in flight are answered for ``stop_deadline_s``; what remains then is killed.
        """
        self._stack.close()
        self._server = None

    def _stop_server(self) -> None:
        server = self._server
        assert server is not None, "not started"
        # A dead stub never answers what it was asked, so there is nothing to wait for.
        is_broken = server.pid is not None and bool(dead_stubs(server.pid))
        server.stop(0 if is_broken else self._stop_deadline_s)

    @property
    def has_ended(self) -> bool:
        """Whether the server process has ended by itself."""
        return self._server is not None and self._server.ended.is_set()

    def check(self) -> None:
        """Return if the server, and each process that runs a model for it, is alive.

        Cheap enough for once a second. The server itself never reports a model's dead process.

        Raises:
            ServerGoneError: one of them died. A new start helps.
        """
        assert self._server is not None, "not started"
        if self._server.ended.is_set():
            code = self._server.exit_code
            how = "was killed" if code is None else f"ended with code {code}"
            last = "; ".join(self.log_tail(1)) or "nothing was logged"
            raise ServerGoneError(f"The embedded server {how} (last in its log: {last}).")
        if dead := dead_stubs(self.pid):
            raise ServerGoneError(
                f"A process that runs a model for the embedded server died (process {dead[0]}), so "
                "that model cannot answer any more: start again, with more memory if it ran out."
            )

    def log_tail(self, lines: int = 20) -> tuple[str, ...]:
        """Return the last lines of the server's log, oldest first; empty once it was stopped."""
        try:
            return log_tail(self.log_path.read_text(encoding="utf-8", errors="replace"), lines)
        except FileNotFoundError:
            return ()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        starting = asyncio.ensure_future(asyncio.to_thread(self.start))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            self._cancelled.set()
            await asyncio.wait([starting])
            starting.exception()  # it was cancelled: what it says now matters to nobody
            await asyncio.to_thread(self.stop)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def _started_ports(self) -> Ports:
        assert self._ports is not None, "not started"
        return self._ports

    def _prepare(
        self, home: EnvironmentInfo, run: Run, overrides: Overrides
    ) -> tuple[Launch, ServerOptions]:
        """Fill the run's folder and see whether the server's code can be loaded from it."""
        backend_folder, temporary = run.folder / "backends", run.folder / "temporary"
        backends.make_backends(home, backend_folder)
        temporary.mkdir()
        variables = backends.server_environment(home, temporary)
        backends.preflight(backend_folder / "python" / backends.STUB, variables)
        served = repository.private_view(
            self._repository, run.folder / "repository", overrides, self._say
        )
        options = ServerOptions(
            binary=home.tritonserver / "bin" / "tritonserver",
            repository=served.absolute(),
            backends=backend_folder,
            caches=home.tritonserver / "caches",
            prefix=run.prefix,
            secret=self._secret,
            exit_timeout_s=max(1, math.floor(self._stop_deadline_s)),
            # Loading some models only is what Triton calls explicit; the secret still guards it.
            model_control=self._model_control if self._models is None else "explicit",
            models=self._models,
            more=self._flags,
        )
        return Launch(home.executable, variables, run, self._cancelled), options


def _port_choices(
    given: tuple[int | None, int | None], http: bool, wait_s: float, cancelled: threading.Event
) -> Iterator[Ports]:
    """Yield ports to try: given ones as they are, once they are free, and new ones for the rest.

    Raises:
        StartError: a given port still has an owner after ``wait_s`` seconds.
    """
    grpc_port, http_port = given
    for _ in range(PORT_ATTEMPTS):
        for port in (grpc_port, http_port):
            if port is not None and not wait_until_free(port, wait_s, cancelled):
                raise StartError(
                    f"Port {port} of {HOST} is still taken after {wait_s:g} s: end the program "
                    "that listens there or choose another port."
                )
        free = free_ports(3)
        yield Ports(
            grpc=grpc_port or free[0],
            metrics=free[1],
            http=(http_port or free[2]) if http else None,
        )
