"""Repositories of a test's own, and eyes for what a server leaves on the machine."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import write_double_entry, write_python_entry
from tritonbulk.server import guard

SLOW_MODEL = """
import time

class TritonPythonModel:
    def initialize(self, args):
        time.sleep(60)

    def execute(self, requests):
        return []
"""


@pytest.fixture
def double_repository(tmp_path: Path) -> Path:
    """A repository of the test's own, with `double` in it."""
    write_double_entry(tmp_path / "models" / "double")
    return tmp_path / "models"


@pytest.fixture
def slow_repository(tmp_path: Path) -> Path:
    """A repository whose one model takes a minute to load."""
    write_python_entry(tmp_path / "slow" / "slow", SLOW_MODEL)
    return tmp_path / "slow"


@dataclass
class Traces:
    """All that the servers started below one temporary folder have on this machine."""

    folder: Path
    seen: set[str]

    def look(self) -> list[str]:
        """Return everything that there is now."""
        self._find()
        return [
            *map(str, self.folder.iterdir()),
            *map(str, self.shared_memory()),
            *map(str, self.processes()),
        ]

    def shared_memory(self) -> list[Path]:
        """Return the shared memory regions, without the lock."""
        self._find()
        return [path for name in self.seen for path in guard.SHARED_MEMORY.glob(f"{name}_*")]

    def processes(self) -> list[int]:
        """Return the process ids of the servers and their stubs."""
        self._find()
        return [pid for name in self.seen for pid in guard.marked_processes(f"{name}_")]

    def stubs(self) -> list[int]:
        """Return the process ids of the stubs."""
        return [pid for pid in self.processes() if self._is_stub(pid)]

    def server(self) -> int:
        """Return the process id of the one server."""
        return next(pid for pid in self.processes() if not self._is_stub(pid))

    @staticmethod
    def parent_of(pid: int) -> int:
        """Return the process id of a process's parent."""
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])

    @staticmethod
    def wait_until(condition: Callable[[], object], deadline_s: float) -> bool:
        """Return whether `condition` came true before the deadline."""
        give_up_at = time.monotonic() + deadline_s
        while not condition():
            if time.monotonic() > give_up_at:
                return False
            time.sleep(0.05)
        return True

    def _find(self) -> None:
        """Remember the starts whose temporary folder is below ours; their lock may go first."""
        for lock in guard.SHARED_MEMORY.glob("tritonbulk_*.lock"):
            try:
                folder = json.loads(lock.read_text() or "{}").get("folder", "")
            except FileNotFoundError:
                continue
            if folder.startswith(f"{self.folder}/"):
                self.seen.add(lock.name.removesuffix(".lock"))

    @staticmethod
    def _is_stub(pid: int) -> bool:
        try:
            return b"stub" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]
        except OSError:
            return False


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traces:
    """Make servers keep their temporary folders where this test can see them."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return Traces(folder, set())


OWNER = """
import sys, time
from tritonbulk.server.embedded import EmbeddedTriton
with EmbeddedTriton(sys.argv[1]) as triton:
    print(triton.grpc, flush=True)
    time.sleep(300)
"""


@pytest.fixture
def start_owner(traces: Traces) -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Give a function that starts another process, the owner of a server on a repository."""
    owners: list[subprocess.Popen[str]] = []

    def start(repository: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", OWNER, str(repository)]
        owners.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        return owners[-1]

    yield start
    for owner in owners:
        owner.kill()
        owner.communicate()
