"""From a command line to a server that is ready, through the guard; the owner's side of it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tritonbulk.errors import ServerGoneError, StartError
from tritonbulk.server import diagnosis, guard
from tritonbulk.server.flags import Ports, ServerOptions, command_line
from tritonbulk.server.runs import Run

POLL_S = 0.05
SETTLE_S = 0.1
LOG_TAIL_LINES = 20


@dataclass(frozen=True, slots=True)
class Launch:
    """What a start needs besides its command line.

    Attributes:
        python: the interpreter that runs the guard.
        variables: the server's environment variables.
        run: what the start owns.
        cancelled: set by another thread to give up a start that is under way.
    """

    python: Path
    variables: Mapping[str, str]
    run: Run
    cancelled: threading.Event

    @property
    def log_path(self) -> Path:
        """Where the server, its stubs and the guard write what they have to say."""
        return self.run.folder / "server.log"


class GuardedServer:
    """A tritonserver with its guard: running, or ended with nothing left of it.

    Attributes:
        ended: set once the server is dead and cleaned up after.
        exit_code: the server's exit code (negative: the signal), None while it runs or if only the
            guard knew it.
        pid: the server's process id; None until the guard has told it.
    """

    def __init__(self, options: ServerOptions, ports: Ports, launch: Launch) -> None:
        self.ended = threading.Event()
        self.exit_code: int | None = None
        self.pid: int | None = None
        self._prefix = options.prefix
        working_directory = launch.run.folder / "empty"
        working_directory.mkdir(exist_ok=True)
        orders = {
            "argv": command_line(options, ports),
            "environment": dict(launch.variables),
            "folder": str(launch.run.folder),
            "lock_path": str(launch.run.lock_path),
            "log_path": str(launch.log_path),
            "prefix": options.prefix,
            "secret": options.secret,
            "working_directory": str(working_directory),
        }
        with launch.log_path.open("ab") as log:
            self._guard = subprocess.Popen(
                [str(launch.python), "-I", "-S", guard.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
                pass_fds=(launch.run.lock_fd,),
            )
        self._say(json.dumps(orders))
        threading.Thread(target=self._listen, name="tritonbulk-guard", daemon=True).start()

    def stop(self, deadline_s: float) -> None:
        """End the server and return when nothing of it is left.

        Args:
            deadline_s: how long requests in flight may take; 0 kills at once.
        """
        try:
            self._say(f"stop {deadline_s}")
            self.ended.wait(deadline_s + 2 * guard.KILL_DEADLINE_S)
        finally:
            self._guard.kill()
            self._guard.wait()
            self.ended.wait(2 * guard.KILL_DEADLINE_S)
            assert self._guard.stdin is not None
            self._guard.stdin.close()

    def _say(self, line: str) -> None:
        assert self._guard.stdin is not None
        with suppress(BrokenPipeError):
            self._guard.stdin.write(f"{line}\n".encode())

    def _listen(self) -> None:
        """Follow what the guard says; if it is killed, do its work."""
        assert self._guard.stdout is not None
        with self._guard.stdout as lines:
            for line in lines:
                word, _, number = line.decode().partition(" ")
                if word == "started":
                    self.pid = int(number)
                else:
                    self.exit_code = int(number)
        guard.end_start(self._prefix)
        self.ended.set()


def launch_server(
    options: ServerOptions, launch: Launch, ports: Iterator[Ports], deadline_s: float
) -> tuple[GuardedServer, Ports]:
    """Start the server and return it with its ports when it is ready.

    Args:
        options: what its command line says besides the ports.
        launch: the rest.
        ports: the ports to try; the next ones are taken where somebody took one of the last.
        deadline_s: how long loading the models may take, in seconds.

    Raises:
        StartError: it did not start; the text has Triton's own causes.
        ServerGoneError: the start was cancelled.
    """
    give_up_at = time.monotonic() + deadline_s
    for choice in ports:
        server = GuardedServer(options, choice, launch)
        try:
            _wait_until_ready(server, launch, choice, give_up_at)
        except _PortTakenError:
            server.stop(0)
            launch.log_path.write_bytes(b"")
        except BaseException:
            server.stop(0)
            raise
        else:
            return server, choice
    raise StartError("The embedded server did not start: each port that was free was taken by "
                     "another process before the models were loaded.")  # fmt: skip


class _PortTakenError(Exception):
    """A port that was free when it was picked belongs to somebody else."""


def _wait_until_ready(
    server: GuardedServer, launch: Launch, ports: Ports, give_up_at: float
) -> None:
    services = 2 if ports.http is None else 3
    settled_at: float | None = None
    while True:
        ended = server.ended.is_set()  # before the log is read, which is complete then
        log = launch.log_path.read_text(encoding="utf-8", errors="replace")
        if diagnosis.port_taken(log):
            raise _PortTakenError
        if ended or diagnosis.missing_library(log):
            raise _start_error("; ".join(diagnosis.causes(log)), log)
        if diagnosis.services_started(log) >= services:
            settled_at = settled_at or time.monotonic() + SETTLE_S
            if time.monotonic() >= settled_at:
                return
        if launch.cancelled.wait(POLL_S):
            raise ServerGoneError("The start of the embedded server was cancelled.")
        if time.monotonic() >= give_up_at:
            last = "; ".join(log_tail(log, 1)) or "nothing"
            raise _start_error(f"it was still loading at the deadline (last logged: {last})", log)


def _start_error(cause: str, log: str) -> StartError:
    text = cause.strip().rstrip(".") or "it ended without a word"
    return StartError(f"The embedded server did not start: {text}.", log_tail(log))


def log_tail(log: str, lines: int = LOG_TAIL_LINES) -> tuple[str, ...]:
    """Return the last lines of a log, oldest first, without the tables that Triton draws."""
    told = [line for line in log.splitlines() if line.strip() and line[0] not in "+|"]
    return tuple(told[-lines:]) if lines > 0 else ()
