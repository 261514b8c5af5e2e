"""Command: ``tritonbulk score`` as a process, its JSON result, and what its exit code means.

What all orchestrators have in common. A run that was killed, with its process or without, is gone
on with by running the same command again, also while the old process still lives.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FINISHED = (0, 1)
"""Exit codes of a finished job; 1: some rows failed, and stand there with their errors."""

FINAL = (2, 4)
"""Exit codes after which the same command will not help."""

_TERMINATE_S = 60.0
_RELAY_S = 5.0
_RELAY_BYTES = 65_536
"""How much of what a run says is read at once; of its last words no more is kept."""

_log = logging.getLogger(__name__)


class RunError(RuntimeError):
    """A run did not finish its job; its text is what the run said last.

    Attributes:
        exit_code: of the command.
        retry_helps: whether the same command, unchanged, may finish it.
    """

    def __init__(self, exit_code: int, said: str) -> None:
        super().__init__(f"tritonbulk score ended with exit code {exit_code}: {said}")
        self.exit_code = exit_code
        self.retry_helps = exit_code not in FINAL


@dataclass(frozen=True, slots=True)
class ScoreCommand:
    """One ``tritonbulk score``.

    Attributes:
        inputs: files, folders, patterns or URIs.
        model: its name.
        out: output folder or URI.
        options: by the names of the command line with ``_`` for ``-``: True and False are flags
            (``--x``, ``--no-x``), a list repeats the option, None leaves it out.
    """

    inputs: Sequence[str]
    model: str
    out: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def manifest(self) -> str:
        """Path or URI of the first job's manifest."""
        return f"{self.out.rstrip('/')}/_tritonbulk/manifest.json"

    def words(self) -> list[str]:
        """Return the command line, for this interpreter."""
        words = [sys.executable, "-m", "tritonbulk", "score", *map(str, self.inputs)]
        words += ["--model", self.model, "--out", str(self.out), "--json"]
        for name, value in self.options.items():
            flag = name.replace("_", "-")
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            elif isinstance(value, (list, tuple)):
                words += [word for each in value for word in (f"--{flag}", str(each))]
            elif value is not None:
                words += [f"--{flag}", str(value)]
        return words


class Running:
    """A run under way; what it says goes to this module's logger (INFO) while it is waited for.

    Args:
        command: what to run.
        outlives: let it go on when this process ends.
    """

    def __init__(self, command: ScoreCommand, *, outlives: bool = False) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the run
        self._told = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command.words(),
            stdin=subprocess.DEVNULL,
            stdout=self._told,
            stderr=self._said,
            start_new_session=outlives,
        )
        self._relayed_bytes = 0

    @property
    def pid(self) -> int:
        """Number of its process."""
        return self._process.pid

    def wait(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """Return the fields of ``score --json``; None if it still runs after ``timeout_s``.

        Raises:
            RunError: it ended without finishing the job.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while (code := self._code(end_s)) is None:
            self._relay()
            if end_s is not None and time.monotonic() >= end_s:
                return None
        self._relay()
        said, told = _last_line(self._said), _last_line(self._told)
        self.close()
        # A Python that could not even begin ends with 1 as well, and without a result.
        if code not in FINISHED or not told:
            raise RunError(code, said or "nothing")
        result: dict[str, Any] = json.loads(told)
        return result

    def _code(self, end_s: float | None) -> int | None:
        left_s = _RELAY_S if end_s is None else max(0.0, end_s - time.monotonic())
        try:
            return self._process.wait(min(left_s, _RELAY_S))
        except subprocess.TimeoutExpired:
            return None

    def _relay(self) -> None:
        """Log the whole lines that are new."""
        # Not by seek: the run writes where this file stands.
        while found := os.pread(self._said.fileno(), _RELAY_BYTES, self._relayed_bytes):
            whole = found.rfind(b"\n") + 1
            if not whole and len(found) < _RELAY_BYTES:
                return
            self._relayed_bytes += whole or len(found)
            for line in found[: whole or None].decode(errors="replace").splitlines():
                _log.info("%s", line)

    def stop(self) -> None:
        """Ask it to end: it commits what is in memory; kill it if that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(_TERMINATE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self.close()

    def close(self) -> None:
        """Hear no more of what it says; it goes on."""
        self._said.close()
        self._told.close()


def run(command: ScoreCommand) -> dict[str, Any]:
    """Run a command to its end and return the fields of ``score --json``.

    Whatever ends the waiting (an interrupt, a cancellation) ends the run too, which is resumed by
    the next one.

    Raises:
        RunError: it ended without finishing the job.
    """
    running = Running(command)
    try:
        result = running.wait()
    except BaseException:
        running.stop()
        raise
    assert result is not None, "there was no time limit"
    return result


def _last_line(file: Any) -> str:
    start = max(0, os.fstat(file.fileno()).st_size - _RELAY_BYTES)
    found = os.pread(file.fileno(), _RELAY_BYTES, start)
    lines = found.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
