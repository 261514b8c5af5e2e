"""System calls of a run: counted, made to fail, or its last.

A run stops itself at its first touch of the output; strace attaches to it there, so that only what
it does from then on counts. strace counts calls for each thread by itself.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from tests.crash.forks import Fork

CALLS = (
    *("openat", "write", "fsync", "link", "linkat", "unlink", "unlinkat", "rename", "renameat2"),
    *("mkdir", "rmdir", "close", "getdents64", "connect", "sendmsg", "sendto", "recvmsg"),
    *("pwrite64", "fdatasync", "ftruncate"),
)
"""What a run does to files and to the network."""

ATTACH_S = 10.0


def missing() -> str:
    """Return why calls cannot be traced here, "" if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        tracer = _attach(sleeper.pid, ["-o", "/dev/null"])
    except OSError as error:
        return str(error)
    finally:
        sleeper.kill()
        sleeper.wait()
    tracer.wait()
    return ""


def count_calls(fork: Fork, file: Path) -> dict[str, int]:
    """Let a stopped run go on to its end; return how often the busiest thread made each call."""
    tracer = _attach(fork.pid, ["-e", f"trace={','.join(CALLS)}", "-o", str(file)])
    fork.send(signal.SIGCONT)
    tracer.wait()
    made = re.findall(r"^(\d+) +(\w+)\(", file.read_text(errors="replace"), re.MULTILINE)
    most: dict[str, int] = {}
    for (_, call), count in Counter(made).items():
        most[call] = max(most.get(call, 0), count)
    return most


def inject(fork: Fork, call: str, number: int, what: str) -> None:
    """Let a stopped run go on; at its ``number``-th ``call`` there is ``what``.

    ``what`` is as in strace: ``signal=SIGKILL`` or ``error=EIO``.
    """
    tracer = _attach(
        fork.pid,
        ["-e", f"trace={call}", "-e", f"inject={call}:{what}:when={number}", "-o", "/dev/null"],
    )
    fork.send(signal.SIGCONT)
    tracer.wait()


def _attach(pid: int, options: list[str]) -> subprocess.Popen[bytes]:
    """Start strace on a process and return once all of its threads are traced."""
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", *options, "-p", str(pid)], stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + ATTACH_S
    while not all(_is_traced(task) for task in Path(f"/proc/{pid}/task").iterdir()):
        if tracer.poll() is not None or time.monotonic() > deadline:
            tracer.kill()
            tracer.wait()
            raise OSError("strace cannot attach to a process here")
        time.sleep(0.001)
    return tracer


def _is_traced(task: Path) -> bool:
    return "TracerPid:\t0" not in (task / "status").read_text()
