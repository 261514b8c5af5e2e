"""Jobs to disturb; what this machine lacks, by name."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.crash import jobs, strace
from tests.crash.forks import Forks
from tritonbulk.server.embedded import EmbeddedTriton

Digests = dict[str, str]


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """One warm process for all runs that are forked."""
    with Forks() as started:
        yield started


@pytest.fixture(scope="session")
def job(triton: EmbeddedTriton, tmp_path_factory: pytest.TempPathFactory) -> jobs.LiveJob:
    """A job through the real server, which stays up."""
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    return jobs.LiveJob(jobs.write_rows(path), triton.grpc)


@pytest.fixture(scope="session")
def slow(job: jobs.LiveJob) -> jobs.LiveJob:
    """The same in many small requests, to be disturbed at moments of chance."""
    return replace(job, options=("--batch-rows", "8"))


@pytest.fixture(scope="session")
def clean(job: jobs.LiveJob, forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> Digests:
    """The digests of an undisturbed run of `job`, whose rows are right."""
    return _undisturbed(job, forks, tmp_path_factory.mktemp("clean"))[0]


@pytest.fixture(scope="session")
def slow_clean(
    slow: jobs.LiveJob, forks: Forks, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Digests, float]:
    """The same of `slow`, and the seconds that it takes from its first touch of the output."""
    return _undisturbed(slow, forks, tmp_path_factory.mktemp("slow"))


def _undisturbed(job: jobs.LiveJob, forks: Forks, folder: Path) -> tuple[Digests, float]:
    took_s = 0.0
    # The first run finds a cold server.
    for out in (folder / "first", folder / "second"):
        run = forks.start(job.words(out), folder, stop_at=out)
        assert run.until_stopped(), run.said
        run.send(signal.SIGCONT)
        began = time.monotonic()
        assert run.wait() == 0, run.said
        took_s = time.monotonic() - began
    assert jobs.is_right(folder / "second")
    return jobs.digests(folder / "second"), took_s


@pytest.fixture(scope="session")
def calls(
    job: jobs.LiveJob,
    forks: Forks,
    clean: Digests,  # the server is warm
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, int]:
    """How often the busiest thread of a run of `job` makes each system call."""
    if why := strace.missing():
        pytest.skip(f"system calls that kill or fail: {why}")
    folder = tmp_path_factory.mktemp("calls")
    run = forks.start(job.words(folder / "out"), folder, stop_at=folder / "out")
    assert run.until_stopped(), run.said
    counted = strace.count_calls(run, folder / "calls")
    assert run.wait() == 0, run.said
    assert jobs.digests(folder / "out") == clean
    assert {"openat", "write", "fsync", "mkdir", "sendmsg"} <= counted.keys()
    return counted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for outputs and logs."""
    return tmp_path
