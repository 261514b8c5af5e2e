from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tritonbulk.cli import serve, server
from tritonbulk.server import guard, locks, runs, stubs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded server is for Linux")

Sleep = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def sleep() -> Iterator[Sleep]:
    """Give a function that starts a process with some arguments, which does nothing."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "print(flush=True); input()", *arguments]
        pipe = subprocess.PIPE
        processes.append(subprocess.Popen(command, stdin=pipe, stdout=pipe))
        assert processes[-1].stdout is not None
        processes[-1].stdout.readline()
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def test_only_the_processes_of_one_start_are_ended(sleep: Sleep) -> None:
    ours = sleep(guard.server_marker("tritonbulk_test-a_"))
    other = sleep(guard.server_marker("tritonbulk_test-b_"))
    reader = sleep("/dev/shm/tritonbulk_test-a_region")
    assert guard.end_start("tritonbulk_test-a_")
    assert ours.wait(5) == -9
    assert other.poll() is None
    assert reader.poll() is None


def test_an_argument_can_be_hidden_while_the_rest_stays(sleep: Sleep) -> None:
    process = sleep("--key=s3cret", "--http=s3cret", "--other")
    guard.hide_argument(process.pid, b"s3cret")
    argv = Path(f"/proc/{process.pid}/cmdline").read_text().split("\0")
    assert argv[-4:-1] == ["--key=******", "--http=******", "--other"]


def test_hiding_from_a_process_that_is_gone_is_no_error() -> None:
    with subprocess.Popen(["/bin/true"]) as process:
        pass
    guard.hide_argument(process.pid, b"s3cret")


def test_a_child_that_died_and_was_not_reaped_is_found(sleep: Sleep) -> None:
    process = sleep()
    assert process.pid not in stubs.dead_stubs(os.getpid())
    process.kill()
    give_up_at = time.monotonic() + 5
    while process.pid not in stubs.dead_stubs(os.getpid()):
        assert time.monotonic() < give_up_at


def test_a_run_that_ends_takes_everything_with_it() -> None:
    with runs.new_run() as run:
        region = guard.SHARED_MEMORY / f"{run.prefix}region"
        region.write_bytes(b"rows")
        runs.sweep()
        assert region.exists(), "this start lives"
        assert run.folder.stat().st_mode & 0o077 == 0
    assert not region.exists()
    assert not run.folder.exists()
    assert not run.lock_path.exists()


def test_a_sweep_removes_no_folder_that_is_not_named_like_ours(tmp_path: Path) -> None:
    lock = guard.SHARED_MEMORY / "tritonbulk_test-sweep.lock"
    precious = tmp_path / "precious"
    precious.mkdir()
    lock.write_text(f'{{"folder": "{precious}"}}')
    runs.sweep()
    assert not lock.exists()
    assert precious.exists()


def test_a_lock_waits_says_so_and_gives_up(tmp_path: Path) -> None:
    waits: list[str] = []
    lock = tmp_path / "lock"
    with (
        locks.locked(lock, deadline_s=0),
        pytest.raises(TimeoutError, match=r"still locked after 0\.2 s"),
        locks.locked(lock, deadline_s=0.2, on_wait=lambda: waits.append("waiting")),
    ):
        pass
    assert waits == ["waiting"]
    with (
        locks.locked(lock, deadline_s=0, shared=True),
        locks.locked(lock, deadline_s=0, shared=True),
    ):
        pass


@pytest.mark.parametrize(
    "arguments",
    [["serve"], ["server"], ["server", "install"], ["server", "info"], ["server", "remove"]],
)
def test_every_help_shows_an_example(arguments: list[str]) -> None:
    command = {"serve": serve.command, "server": server.command}[arguments[0]]
    result = CliRunner().invoke(command, [*arguments[1:], "--help"])
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"tritonbulk {' '.join(arguments)}" in result.output


def test_every_module_can_be_imported_where_there_is_no_fcntl() -> None:
    code = """
import pkgutil, sys
sys.modules["fcntl"] = None
import tritonbulk.cli.serve, tritonbulk.cli.server, tritonbulk.server as package
for each in pkgutil.iter_modules(package.__path__, "tritonbulk.server."):
    if not each.ispkg:
        __import__(each.name)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
