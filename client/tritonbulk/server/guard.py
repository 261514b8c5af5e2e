"""The guard: a small process between the owner (us) and tritonserver that leaves nothing behind.

tritonserver starts one *stub* process for each model instance. When the server is killed, or gets
SIGTERM while models load, stubs live on for ever and shared memory stays in ``/dev/shm``. No
handler in the owner can prevent that, since the owner may be killed too. So the owner starts this
file as a process in a session of its own, and the guard starts the server:

* the owner dies (its end of the pipe closes, or the guard gets another parent): kill everything;
* the server dies: kill its stubs;
* the owner says ``stop SECONDS``: SIGTERM to the server, that long to end, then kill everything;
* the guard is killed: the kernel kills the server (parent-death signal), the owner sees the pipe
  close and does the rest; if the owner is gone as well, the next start does (``runs.sweep``).

It uses the standard library alone and is run as ``python -I -S guard.py``: it must start in a few
milliseconds, whatever is installed. Orders come as one JSON line on stdin, so that no secret stands
on its command line; ``started PID`` and ``exited CODE`` go to stdout.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where the Python backend puts its regions
POLL_S = 0.1
KILL_DEADLINE_S = 5.0
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def server_marker(prefix: str) -> str:
    """Return the argument by which the server of a start is known in the process table."""
    return f"--backend-config=python,shm-region-prefix-name={prefix}"


def marked_processes(prefix: str) -> list[int]:
    """Return the ids of the server and the stubs of one start; zombies are not among them."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            argv = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        # A stub's third argument is its region; one that is only tried out has no arguments.
        is_stub = argv[0].endswith("triton_python_backend_stub") and len(argv) > 2
        if server_marker(prefix) in argv or (is_stub and argv[2].startswith(prefix)):
            found.append(int(entry.name))
    return found


def end_start(prefix: str) -> bool:
    """Kill the server and the stubs of one start and remove its shared memory.

    Returns:
        True if nothing is left; False if a process survived for ``KILL_DEADLINE_S``.
    """
    give_up_at = time.monotonic() + KILL_DEADLINE_S
    while pids := marked_processes(prefix):
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > give_up_at:
            return False
        time.sleep(0.01)
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)
    return True


def close_to_others(prefix: str) -> None:
    """Make the shared memory of a start, which will hold the user's rows, readable by them alone.

    The Python backend makes it readable by everyone, whatever the umask; rows come later.
    """
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        with suppress(FileNotFoundError):
            region.chmod(0o600)


def hide_argument(pid: int, text: bytes) -> None:
    """Overwrite ``text`` in the command line of a child, which every user of the machine can read.

    tritonserver takes the secret of its restricted protocols as an argument only. It has copied its
    arguments by the time it logs anything; until then the secret can be seen, and where the kernel
    forbids this write it stays visible.
    """
    with suppress(OSError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
        with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(start)
            hidden = memory.read(end - start).replace(text, b"*" * len(text))
            memory.seek(start)
            memory.write(hidden)


def start_server(orders: dict[str, Any], guard_pid: int) -> subprocess.Popen[bytes]:
    """Start tritonserver in a process group of its own that dies with the guard."""
    prctl = ctypes.CDLL(None).prctl

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard_pid:  # the guard died before the line above
            os._exit(1)

    with Path(orders["log_path"]).open("ab") as log:
        return subprocess.Popen(
            orders["argv"],
            env=orders["environment"],
            cwd=orders["working_directory"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=in_child,  # noqa: PLW1509 - the guard has one thread
        )


def watch(server: subprocess.Popen[bytes], orders: dict[str, Any], owner_pid: int) -> bool:
    """Return when the server is dead or must die: True if the owner is gone."""
    log_path, secret = Path(orders["log_path"]), orders["secret"].encode()
    stop_until: float | None = None
    hidden = False
    while server.poll() is None:
        words = os.read(0, 64).split() if select.select([0], [], [], POLL_S)[0] else None
        if words == [] or os.getppid() != owner_pid:
            return True
        if words:
            stop_until = time.monotonic() + float(words[1])
            server.terminate()
        if stop_until is not None and time.monotonic() >= stop_until:
            return False
        close_to_others(orders["prefix"])
        if not hidden and log_path.stat().st_size:
            hide_argument(server.pid, secret)
            hidden = True
    return False


def main() -> None:
    """Carry out the orders on stdin; see the module's text."""
    owner_pid = os.getppid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # its life hangs on owner and server alone
    # Orphaned stubs become our children, so that they are reaped even where process 1 reaps nobody.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with os.fdopen(0, "rb", buffering=0, closefd=False) as stdin:
        line = stdin.readline()
    if not line:
        return
    orders = json.loads(line)
    server = start_server(orders, os.getpid())
    tell(f"started {server.pid}")
    owner_is_gone = watch(server, orders, owner_pid)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    code = server.wait()
    clean = end_start(orders["prefix"])
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    if owner_is_gone and clean:
        shutil.rmtree(orders["folder"], ignore_errors=True)
        Path(orders["lock_path"]).unlink(missing_ok=True)
    tell(f"exited {code}")


def tell(line: str) -> None:
    """Write one line to the owner, who may be gone."""
    with suppress(OSError):
        os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main()
