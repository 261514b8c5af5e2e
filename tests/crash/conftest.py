"""How many of each promise's cases ran, printed at the end; what this machine lacks, by name."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash import jobs
from tests.crash.forks import Forks
from tritonbulk.server.embedded import EmbeddedTriton

IS_FULL = os.environ.get("TRITONBULK_TEST_FULL") == "1"
_TALLY = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count."""
    config.stash[_TALLY] = Counter()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was counted."""
    tally = terminalreporter.config.stash.get(_TALLY, Counter())
    if tally:
        terminalreporter.section("crash cases", "-")
        for name, count in sorted(tally.items()):
            terminalreporter.write_line(f"{count:>8,}  {name}")


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> Callable[[str, int], None]:
    """Count cases that ran and held."""

    def count(name: str, cases: int = 1) -> None:
        pytestconfig.stash[_TALLY][name] += cases

    return count


@pytest.fixture(scope="session")
def cases() -> Callable[[int, int], int]:
    """Give how many cases to run: those of every change, or with TRITONBULK_TEST_FULL=1 all."""
    return lambda every_change, full: full if IS_FULL else every_change


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
def _clean_run(
    job: jobs.LiveJob, forks: Forks, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], float]:
    folder = tmp_path_factory.mktemp("clean")
    took_s = 0.0
    for name in ("first", "second"):
        began = time.monotonic()
        run = forks.start(job.words(folder / name), folder)
        assert run.wait() == 0, run.said
        took_s = time.monotonic() - began
    assert jobs.is_right(folder / "second")
    return jobs.digests(folder / "second"), took_s


@pytest.fixture(scope="session")
def clean(_clean_run: tuple[dict[str, str], float]) -> dict[str, str]:
    """The digests of an undisturbed run of `job`, whose rows were compared with what they must be."""
    return _clean_run[0]


@pytest.fixture(scope="session")
def clean_s(_clean_run: tuple[dict[str, str], float]) -> float:
    """The seconds that such a run takes."""
    return _clean_run[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for outputs and logs."""
    return tmp_path
