"""Another server of the protocol: a real MLServer that serves a scikit-learn model.

It lives in an environment of its own, which ``make test-mlserver`` makes.
"""

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import tritonbulk
from tritonbulk.errors import ModelError
from tritonbulk.polite import parse_yield_to
from tritonbulk.server.ports import free_ports

joblib = pytest.importorskip("joblib")
linear_model = pytest.importorskip("sklearn.linear_model")

VERSION = "1.7.1"
CACHE = Path(os.environ.get("TRITONBULK_CACHE", Path.home() / ".cache" / "tritonbulk"))
PROGRAM = CACHE / f"mlserver-{VERSION}" / "bin" / "mlserver"
ROWS = 5_000

pytestmark = [
    pytest.mark.live,
    pytest.mark.ci,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PROGRAM.exists(), reason="needs MLServer: make test-mlserver"),
]


@pytest.fixture(scope="module")
def model():
    dice = np.random.default_rng(5)
    x = dice.normal(size=(400, 4))
    return linear_model.LogisticRegression().fit(x, (x.sum(axis=1) > 0).astype(np.int64))


@pytest.fixture(scope="module")
def mlserver(model, tmp_path_factory):
    """The gRPC address of a server that has the model."""
    folder = tmp_path_factory.mktemp("mlserver")
    joblib.dump(model, folder / "model.joblib")
    grpc, http, metrics = free_ports(3)
    (folder / "settings.json").write_text(
        json.dumps(
            {"host": "127.0.0.1", "grpc_port": grpc, "http_port": http, "metrics_port": metrics,
             "parallel_workers": 0}
        )
    )  # fmt: skip
    (folder / "model-settings.json").write_text(
        json.dumps(
            {"name": "signs", "implementation": "mlserver_sklearn.SKLearnModel",
             "parameters": {"uri": "./model.joblib", "version": "3"},
             "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 4]}],
             "outputs": [{"name": "predict", "datatype": "INT64", "shape": [-1, 1]}]}
        )
    )  # fmt: skip
    with (folder / "log").open("w") as log, subprocess.Popen(
        [str(PROGRAM), "start", str(folder)], stdout=log, stderr=log, start_new_session=True
    ) as server:  # fmt: skip
        try:
            yield f"127.0.0.1:{grpc}"
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()


@pytest.fixture
def rows(tmp_path):
    dice = np.random.default_rng(7)
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({name: dice.normal(size=ROWS) for name in "abcd"}), path)
    return path


def score(rows, address, **more):
    return tritonbulk.score(
        rows, model="signs", out=rows.parent / "out", endpoints=[address],
        input_map=["x=a,b,c,d"], batch_rows=500, max_outage_s=300, **more,
    )  # fmt: skip


def test_a_scikit_learn_model_behind_mlserver_is_scored(mlserver, model, rows):
    result = score(rows, mlserver)
    assert (result.rows_ok, result.rows_failed) == (ROWS, 0)
    table = pq.read_table(rows.parent / "out")
    x = np.column_stack([table[name].to_numpy() for name in "abcd"])
    assert np.array_equal(np.array(table["predict"].to_pylist()).ravel(), model.predict(x))
    assert result.bottleneck is not None, "though the server keeps its statistics to itself"
    began = time.monotonic()
    assert score(rows, mlserver).rows_in == 0, "finished is finished"
    assert time.monotonic() - began < 60


def test_what_it_does_not_tell_is_said(mlserver, rows):
    with pytest.raises(ModelError, match="does not tell its statistics"):
        score(rows, mlserver, yield_to=parse_yield_to("p99=50ms"))
    with pytest.raises(ModelError, match="Model other with version not found"):
        tritonbulk.score(rows, model="other", out=rows.parent / "b", endpoints=[mlserver])
