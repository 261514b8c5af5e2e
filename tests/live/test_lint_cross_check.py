"""Lint against the real server: what it passes loads, what it calls an error does not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.live.lint_corpus import CASES
from tritonbulk.server.embedded import EmbeddedTriton
from tritonbulk_export.lint import errors_of, lint_repository

pytestmark = [pytest.mark.live, pytest.mark.ci]

FULL = os.environ.get("TRITONBULK_TEST_FULL") == "1"
NAMES = [name for number, name in enumerate(CASES) if FULL or number % 8 < 3]
LOAD_S = 60.0
ATTEMPTS = 3


class Loader:
    """One server for all cases; started again when it ends by itself, as 2.51 does now and then."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.restarts = 0
        self._server: EmbeddedTriton | None = None

    def load(self) -> str:
        """Return why the model ``m`` does not load; "" if it does."""
        for attempt in range(ATTEMPTS):
            try:
                return self._load()
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE or attempt + 1 == ATTEMPTS:
                    raise
                self.restarts += 1
                self.stop()
        raise AssertionError("not reached")

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        self._server = None

    def _load(self) -> str:
        if self._server is None:
            server = EmbeddedTriton(
                self.root, models=(), model_control="explicit", stop_deadline_s=0
            )
            self._server = server.start()
        headers = tuple(self._server.admin_headers.items())
        with grpc.insecure_channel(self._server.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            name = service_pb2.RepositoryModelLoadRequest(model_name="m")
            try:
                stub.RepositoryModelLoad(name, metadata=headers, timeout=LOAD_S)
                why = ""
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE and not self._is_up():
                    raise
                why = error.details() or str(error.code())
            unload = service_pb2.RepositoryModelUnloadRequest(model_name="m")
            unload.parameters["unload_dependents"].bool_param = True
            try:
                stub.RepositoryModelUnload(unload, metadata=headers, timeout=LOAD_S)
            except grpc.RpcError:
                assert why, "what was loaded can be unloaded"
            return why

    def _is_up(self) -> bool:
        assert self._server is not None
        return Path(f"/proc/{self._server.pid}").exists()


@pytest.fixture(scope="module")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    loader = Loader(tmp_path_factory.mktemp("lint"))
    yield loader
    loader.stop()


@pytest.mark.parametrize("name", NAMES)
def test_lint_and_the_server_agree(loader, name):
    for path in loader.root.iterdir():
        shutil.rmtree(path)
    CASES[name](loader.root)
    errors = errors_of(lint_repository(loader.root, models=["m"], has_gpu=False))
    why = loader.load()
    assert bool(errors) == bool(why), f"lint: {[*map(str, errors)]}; server: {why or 'loads'}"


def test_there_are_cases_of_both_kinds(tmp_path):
    assert len(NAMES) >= 40
    verdicts = []
    for number, name in enumerate(CASES):
        root = tmp_path / str(number)
        root.mkdir()
        CASES[name](root)
        verdicts.append(not errors_of(lint_repository(root, models=["m"], has_gpu=False)))
    assert sum(verdicts) >= 20
    assert len(verdicts) - sum(verdicts) >= 60
