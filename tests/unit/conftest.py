"""An S3 server without a network, and a whole run in this process, for the tests of jobs."""

import importlib.util
import urllib.request
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "crash" / "program.py"


@pytest.fixture(scope="module")
def program():
    """The module that carries out runs with scripted servers."""
    found = importlib.util.spec_from_file_location("program", PROGRAM)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def s3():
    """An S3 server on this machine with one bucket; its address."""
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3, monkeypatch, request):
    for name, value in {
        "AWS_ENDPOINT_URL": s3,
        "AWS_ACCESS_KEY_ID": "canary-key",
        "AWS_SECRET_ACCESS_KEY": "canary-secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{abs(hash(request.node.nodeid)) % 10**9}"
    urllib.request.urlopen(urllib.request.Request(f"{s3}/{name}", method="PUT")).close()
    return f"s3://{name}"
