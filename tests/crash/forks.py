"""Runs of the command line that begin warm: one process that has imported everything forks them.

A run started anew spends a second or more on imports, a forked one milliseconds, so that thousands
can be killed.

    python -m tests.crash.forks        reads one JSON object a line: see `Forks.start`
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
POLL_S = 0.002
WAIT_S = 60.0


@dataclass(frozen=True)
class Order:
    """One run.

    Attributes:
        words: the command line after ``tritonbulk``.
        log: file for what it prints, stdout and stderr.
        bug: name of a bug to seed first; see `tests.crash.bugs`.
        stop_at: path; the run stops itself at its first touch of anything below it.
        file_bytes_max: largest file that it may write.
        environment: variables to set.
    """

    words: tuple[str, ...]
    log: str
    bug: str = ""
    stop_at: str = ""
    file_bytes_max: int | None = None
    environment: Mapping[str, str] | None = None


class Fork:
    """A run under way."""

    def __init__(self, forks: Forks, pid: int, log: Path) -> None:
        self._forks, self.pid, self.log = forks, pid, log

    def wait(self, timeout_s: float = WAIT_S) -> int:
        """Return its exit code, or minus the number of the signal that ended it."""
        return self._forks._wait(self.pid, timeout_s)

    def poll(self) -> int | None:
        """Return the same, or None while it lives."""
        return self._forks._poll(self.pid, 0.0)

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def until_stopped(self) -> bool:
        """Wait until it has stopped itself; return False if it ended instead."""
        deadline = time.monotonic() + WAIT_S
        while self.poll() is None:
            assert time.monotonic() < deadline, "it neither stopped nor ended"
            if _state(self.pid) == "T":
                return True
            time.sleep(POLL_S)
        return False

    @property
    def said(self) -> str:
        """What it has printed."""
        return self.log.read_text()


class Forks:
    """The process that forks."""

    def __enter__(self) -> Forks:
        self._ended: dict[int, int] = {}
        self._count = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.forks"],
            cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(WAIT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def start(
        self,
        words: Sequence[str],
        folder: Path,
        *,
        bug: str = "",
        stop_at: Path | None = None,
        file_bytes_max: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Fork:
        """Start a run whose log stands in ``folder``; see `Order`."""
        self._count += 1
        log = folder / f"run-{self._count}.log"
        order = Order(tuple(words), str(log), bug, str(stop_at or ""), file_bytes_max, environment)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        while "pid" not in (answer := self._read()):
            pass
        # Numbers of processes are used again.
        self._ended.pop(answer["pid"], None)
        return Fork(self, answer["pid"], log)

    def _wait(self, pid: int, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        while (code := self._poll(pid, max(0.0, deadline - time.monotonic()))) is None:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"process {pid} still runs after {timeout_s} s")
        return code

    def _poll(self, pid: int, timeout_s: float) -> int | None:
        assert self._process.stdout is not None
        while pid not in self._ended:
            if not select.select([self._process.stdout], [], [], timeout_s)[0]:
                return None
            self._read()
        return self._ended[pid]

    def _read(self) -> dict[str, int]:
        assert self._process.stdout is not None
        # One line at a time, unbuffered: select does not see what a buffer holds.
        line = bytearray()
        while not line.endswith(b"\n"):
            byte = os.read(self._process.stdout.fileno(), 1)
            assert byte, "the process that forks has ended"
            line += byte
        answer: dict[str, int] = json.loads(line)
        if "ended" in answer:
            self._ended[answer["ended"]] = answer["code"]
        return answer


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def main() -> None:
    """Fork what is asked for, and tell what became of it, until stdin ends."""
    _warm_up()
    running: set[int] = set()
    while True:
        if select.select([0], [], [], POLL_S if running else None)[0]:
            line = sys.stdin.readline()
            if not line:
                break
            pid = os.fork()
            if not pid:
                _become(Order(**json.loads(line)))
            running.add(pid)
            print(json.dumps({"pid": pid}), flush=True)
        for pid in tuple(running):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                running.remove(pid)
                code = os.waitstatus_to_exitcode(status)
                print(json.dumps({"ended": pid, "code": code}), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _warm_up() -> None:
    """Import what a run imports; no thread may be started by it, since threads are not forked."""
    for name in (
        *("grpc.aio", "obstore", "pyarrow.csv", "pyarrow.dataset", "pyarrow.parquet"),
        *("tritonbulk.cli.main", "tritonbulk.cli.score"),
    ):
        importlib.import_module(name)


def _become(order: Order) -> None:
    """Be the run that is asked for; never returns."""
    code = 70
    try:
        os.setsid()
        log = os.open(order.log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.environ.update(order.environment or {})
        sys.argv = ["tritonbulk", *order.words]
        if order.file_bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order.file_bytes_max,) * 2)
        if order.bug:
            from tests.crash import bugs  # noqa: PLC0415

            bugs.seed(order.bug)
        if order.stop_at:
            _stop_at_first_touch(order.stop_at)
        from tritonbulk.cli.main import main as command  # noqa: PLC0415

        command()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback  # noqa: PLC0415

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _stop_at_first_touch(folder: str) -> None:
    is_armed = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal is_armed
        if is_armed and event in ("open", "os.mkdir", "os.scandir", "os.listdir"):
            if not str(arguments[0]).startswith(folder):
                return
            is_armed = False
            os.kill(os.getpid(), signal.SIGSTOP)

    sys.addaudithook(hook)


if __name__ == "__main__":
    main()
