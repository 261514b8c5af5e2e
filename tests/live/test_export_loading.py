"""Publishing to a running server: golden rows are the canary, and what fails is taken back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonbulk.errors import AuthError, ModelError, OutageError, ParityError
from tritonbulk_export import export_onnx, loading
from tritonbulk_export.releasing import rollback
from tritonbulk_export.serving import LoadTarget, Serving

pytestmark = pytest.mark.live


def scaled(path, factor):
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in "xy"]
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
    weights = [numpy_helper.from_array(np.array([factor], np.float32), "w")]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loading")
    pq.write_table(pa.table({"x": np.arange(100, dtype=np.float32)}), folder / "rows.parquet")
    export(folder, 1.0, name="first")
    return folder


def export(folder, factor, **options):
    return export_onnx(
        scaled(folder / "m.onnx", factor), sample=folder / "rows.parquet",
        **{"name": "m", "repository": folder / "r", **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def target(folder) -> Iterator[LoadTarget]:
    """`tritonbulk serve` with its admin header in a file, as people run it."""
    secret = folder / "secret"
    command = [sys.executable, "-m", "tritonbulk.cli.main", "serve", str(folder / "r"), "--json"]
    server = subprocess.Popen(
        [*command, "--admin-header-file", str(secret)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        name, _, path = told["admin"].partition("=")
        assert path == str(secret)
        assert secret.stat().st_mode & 0o777 == 0o600
        yield LoadTarget(told["grpc"], {name: secret.read_text()})
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
    assert not secret.exists()


def test_a_version_is_loaded_and_its_golden_rows_are_scored(folder, target):
    done = export(folder, 2.0, load=target, serving=Serving(batch_rows=16))
    assert done.golden_rows_loaded == 64
    newer = export(folder, 3.0, load=target)
    assert newer.golden_rows_loaded == 64
    with pytest.raises((ModelError, OutageError), match=str(done.version)):
        loading.check_golden(target, done.entry, done.version, 64)
    back = rollback("m", repository=folder / "r", load=target)
    assert (back.version, back.golden_rows_loaded) == (done.version, 64)
    assert loading.check_golden(target, done.entry, done.version, 64) == 64


def test_golden_rows_that_fail_take_the_version_back(folder, target, monkeypatch):
    old = export(folder, 5.0, name="n", load=target)
    before = (old.entry / "config.pbtxt").read_bytes()
    exact = loading.decoded
    monkeypatch.setattr(loading, "decoded", lambda raw, output: exact(raw, output) + 1)
    with pytest.raises(ParityError, match="was taken back, and the server loaded what was there"):
        export(folder, 6.0, name="n", load=target)
    with pytest.raises(ParityError, match="the server unloaded the model"):
        export(folder, 6.0, name="new", load=target)
    monkeypatch.undo()
    assert (old.entry / "config.pbtxt").read_bytes() == before
    assert not (folder / "r" / "new").exists()
    assert loading.check_golden(target, old.entry, old.version, 64) == 64


def test_a_server_that_refuses_or_is_away_is_an_error_before_publishing(folder, target):
    with pytest.raises(AuthError, match="--load-header-file"):
        export(folder, 7.0, name="o", load=LoadTarget(target.endpoint))
    with pytest.raises(OutageError, match="could not list its models"):
        export(folder, 7.0, name="o", load=LoadTarget("127.0.0.1:1"))
    assert not (folder / "r" / "o").exists()


def test_a_server_of_another_repository_keeps_its_model(folder, target):
    old = export(folder, 8.0, name="p", load=target)
    elsewhere = folder / "elsewhere"
    with pytest.raises(ModelError, match=r"does not read this repository.*what was there before"):
        export(folder, 9.0, name="p", repository=elsewhere, load=target)
    assert not (elsewhere / "p").exists()
    assert loading.check_golden(target, old.entry, old.version, 64) == 64
    with pytest.raises(ModelError, match="the server was started with"):
        export(folder, 9.0, name="unknown", repository=elsewhere, load=target)
