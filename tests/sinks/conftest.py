"""Finished jobs, and sinks to publish them to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.forks import Forks
from tests.sinks import jobs, places, postgres


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a finished job, which tests only read."""
    return jobs.score(tmp_path_factory.mktemp("job"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """A server that stays up."""
    with postgres.server("fsync=off") as uri:
        yield uri


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """One warm process for all runs that are forked."""
    with Forks() as started:
        yield started


@pytest.fixture(params=places.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of sink that can be tested here."""
    if why := places.missing(request.param):
        pytest.skip(why)
    return str(request.param)


@pytest.fixture(scope="session", autouse=True)
def iceberg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One catalog for all tests, before pyiceberg is imported."""
    with pytest.MonkeyPatch.context() as patch:
        given = places.iceberg_environment(tmp_path_factory.mktemp("iceberg"))
        for name, value in given.items():
            patch.setenv(name, value)
        yield


@pytest.fixture
def make_place(kind, tmp_path, request):
    """Make a new place of this kind."""
    made = 0

    def make() -> places.Place:
        nonlocal made
        made += 1
        folder = tmp_path / f"{tmp_path.name[:40]}_{made}"
        folder.mkdir()
        uri = request.getfixturevalue("postgresql") if kind == "postgresql" else ""
        return places.make(kind, folder, uri)

    return make


@pytest.fixture
def place(make_place):
    """A place of this kind."""
    return make_place()
