"""However a server or its owner ends, nothing of it is left five seconds later."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tritonbulk.errors import ServerGoneError, StartError
from tritonbulk.server import runs
from tritonbulk.server.embedded import EmbeddedTriton

if TYPE_CHECKING:
    from tests.live.conftest import Traces

pytestmark = pytest.mark.live
GONE_AFTER_S = 5.0
LOADED_AFTER_S = 60.0

StartOwner = Callable[[Path], "subprocess.Popen[str]"]


def gone(traces: Traces) -> bool:
    return traces.wait_until(lambda: not traces.look(), GONE_AFTER_S)


def reported(triton: EmbeddedTriton) -> str:
    """Return what `check` says; the guard tells of a death when it has cleaned up after it."""
    give_up_at = time.monotonic() + GONE_AFTER_S
    while time.monotonic() < give_up_at:
        try:
            triton.check()
        except ServerGoneError as error:
            return str(error)
        time.sleep(0.05)
    return "nothing was reported"


def wait_for_endpoint(owner: subprocess.Popen[str], traces: Traces) -> None:
    assert owner.stdout is not None
    assert owner.stdout.readline().startswith("127.0.0.1:")
    assert traces.stubs()


def freeze_stubs(traces: Traces) -> None:
    """Keep the stubs from noticing that their server is gone, as one that computes does not."""
    for stub in traces.stubs():
        os.kill(stub, signal.SIGSTOP)


def test_an_orderly_stop_leaves_nothing(double_repository: Path, traces: Traces) -> None:
    with EmbeddedTriton(double_repository):
        assert traces.look()
    assert not traces.look()


def test_a_killed_owner_leaves_nothing(
    double_repository: Path, start_owner: StartOwner, traces: Traces
) -> None:
    owner = start_owner(double_repository)
    wait_for_endpoint(owner, traces)
    owner.kill()
    assert gone(traces), traces.look()


def test_a_killed_server_leaves_nothing_and_is_reported(
    double_repository: Path, traces: Traces
) -> None:
    with EmbeddedTriton(double_repository) as triton:
        triton.check()
        freeze_stubs(traces)
        os.kill(triton.pid, signal.SIGKILL)
        assert traces.wait_until(lambda: not traces.shared_memory(), GONE_AFTER_S)
        assert traces.wait_until(lambda: not traces.processes(), GONE_AFTER_S)
        assert "ended with code -9" in reported(triton)
    assert not traces.look()


def test_a_killed_guard_leaves_nothing_and_is_reported(
    double_repository: Path, traces: Traces
) -> None:
    with EmbeddedTriton(double_repository) as triton:
        freeze_stubs(traces)
        os.kill(traces.parent_of(triton.pid), signal.SIGKILL)
        assert traces.wait_until(lambda: not traces.shared_memory(), GONE_AFTER_S)
        assert traces.wait_until(lambda: not traces.processes(), GONE_AFTER_S)
        assert "was killed" in reported(triton)
    assert not traces.look()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_an_owner_that_dies_during_load_leaves_nothing(
    number: signal.Signals, slow_repository: Path, start_owner: StartOwner, traces: Traces
) -> None:
    owner = start_owner(slow_repository)
    assert traces.wait_until(traces.stubs, LOADED_AFTER_S)
    owner.send_signal(number)
    assert gone(traces), traces.look()


def test_a_server_that_gets_sigterm_during_load_leaves_nothing(
    slow_repository: Path, start_owner: StartOwner, traces: Traces
) -> None:
    start_owner(slow_repository)
    assert traces.wait_until(traces.stubs, LOADED_AFTER_S)
    os.kill(traces.server(), signal.SIGTERM)
    assert gone(traces), traces.look()


def test_what_a_killed_owner_and_guard_left_is_swept_by_the_next_start(
    slow_repository: Path, start_owner: StartOwner, traces: Traces
) -> None:
    owner = start_owner(slow_repository)
    assert traces.wait_until(traces.stubs, LOADED_AFTER_S)
    server = traces.server()
    guard = traces.parent_of(server)
    os.kill(owner.pid, signal.SIGSTOP)  # so that it cannot clean up after its guard
    os.kill(guard, signal.SIGKILL)
    owner.kill()
    owner.wait()
    assert traces.wait_until(lambda: server not in traces.processes(), GONE_AFTER_S)
    assert traces.stubs(), "a stub that loads outlives its server: without one this proves nothing"
    with EmbeddedTriton(slow_repository, models=(), stop_deadline_s=0):
        assert not traces.stubs()
    assert not traces.look()


def test_a_living_start_is_not_swept(triton: EmbeddedTriton) -> None:
    runs.sweep()
    triton.check()
    assert triton.log_path.exists()


def test_a_start_that_misses_its_deadline_leaves_nothing(
    slow_repository: Path, traces: Traces
) -> None:
    with (
        pytest.raises(StartError, match="still loading at the deadline"),
        EmbeddedTriton(slow_repository, start_deadline_s=1),
    ):
        pass
    assert not traces.look()


def test_shared_memory_with_rows_in_it_is_the_users_alone(triton: EmbeddedTriton) -> None:
    prefix = next(
        part.split("=")[-1]
        for part in Path(f"/proc/{triton.pid}/cmdline").read_text().split("\0")
        if "shm-region-prefix-name" in part
    )
    regions = list(Path("/dev/shm").glob(f"{prefix}*"))
    assert regions
    assert all(each.stat().st_mode & 0o077 == 0 for each in regions)
