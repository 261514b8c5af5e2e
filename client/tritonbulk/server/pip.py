"""The two outside commands that make an environment, and what their failures mean."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tritonbulk.errors import InstallError
from tritonbulk.server.locks import POLL_S, GivenUpError

VENV_DEADLINE_S = 120.0
PIP_DEADLINE_S = 1800.0

NO_NETWORK = (
    "the package index cannot be reached: check the network and pip's settings, or use "
    "`tritonbulk server install --wheelhouse`"
)
CAUSES = (
    ("No space left on device", "the disk is full: make room or set TRITONBULK_CACHE"),
    (
        "DO NOT MATCH THE HASHES",
        "a wheel is not the pinned one: check the package index or the wheelhouse",
    ),
    ("NewConnectionError", NO_NETWORK),
    ("NameResolutionError", NO_NETWORK),
    ("ConnectTimeout", NO_NETWORK),
    ("ProxyError", NO_NETWORK),
    ("ReadTimeout", "the network is too slow: try again"),
    ("Permission denied", "the cache folder cannot be written: set TRITONBULK_CACHE"),
)
"""What pip prints → what it means for the user; the first that is found counts."""


def make_environment(python: str, folder: Path, lock_fd: int, cancelled: threading.Event) -> None:
    """Make an empty virtual environment with pip in it.

    Args:
        python: the interpreter to make it from.
        folder: where; it must not exist.
        lock_fd: the lock that the command holds as long as it runs, even if we are killed.
        cancelled: set by another thread to give up.

    Raises:
        GivenUpError: ``cancelled`` was set.
        InstallError: it failed or took too long.
    """
    command = [python, "-I", "-m", "venv", str(folder)]
    _run(command, lambda _line: None, VENV_DEADLINE_S, lock_fd, cancelled)


def install(
    python: Path,
    requirements: Path,
    wheelhouse: Path | None,
    say: Callable[[str], None],
    lock_fd: int,
    cancelled: threading.Event,
) -> None:
    """Install exactly what ``requirements`` lists, by hash, with no dependencies besides.

    Args:
        python: the environment's interpreter.
        requirements: pinned and hashed requirements.
        wheelhouse: a folder to take the wheels from instead of the package index.
        say: told of each package.
        lock_fd: see ``make_environment``.
        cancelled: see ``make_environment``.

    Raises:
        GivenUpError: ``cancelled`` was set.
        InstallError: it failed or took too long.
    """
    command = [str(python), "-I", "-m", "pip", "install", "--no-input", "--progress-bar=off"]
    command += ["--disable-pip-version-check", "--retries=2", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", f"--requirement={requirements}"]
    if wheelhouse is not None:
        command += ["--no-index", f"--find-links={wheelhouse}"]

    def tell(line: str) -> None:
        if line.startswith("Collecting "):
            say(f"  {line.split()[1]}")

    _run(command, tell, PIP_DEADLINE_S, lock_fd, cancelled)


def explain(output: str) -> str:
    """Return why pip failed, in words for its user, from all that it printed."""
    for sign, meaning in CAUSES:
        if sign in output:
            return meaning
    errors = [line.removeprefix("ERROR: ") for line in output.splitlines() if "ERROR" in line]
    lines = errors or output.strip().splitlines() or ["it printed nothing"]
    return lines[-1].strip().rstrip(".")


def _run(
    command: list[str],
    tell: Callable[[str], None],
    deadline_s: float,
    lock_fd: int,
    cancelled: threading.Event,
) -> None:
    """Run a command and hand on its lines; its last words go into the error if it fails."""
    ended = threading.Event()

    def kill_in_time() -> None:
        give_up_at = time.monotonic() + deadline_s
        while not ended.wait(POLL_S):
            if cancelled.is_set() or time.monotonic() >= give_up_at:
                _kill_all(process)
                return

    lines: list[str] = []
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(lock_fd,),
        start_new_session=True,  # so that what it starts can be killed with it
    ) as process:
        threading.Thread(target=kill_in_time, name="tritonbulk-install", daemon=True).start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line)
                tell(line.strip())
        except BaseException:
            _kill_all(process)
            raise
        finally:
            ended.set()
    if cancelled.is_set():
        raise GivenUpError
    if process.returncode:
        raise InstallError(f"The server's environment was not made: {explain(''.join(lines))}.")


def _kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a command and whatever it started (venv runs ensurepip, which holds no lock)."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
