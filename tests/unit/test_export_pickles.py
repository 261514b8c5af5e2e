"""Pickles: opened in a process of their own, which tells no more than export needs."""

from __future__ import annotations

import io
import json
import os
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tritonbulk.contract import Contract
from tritonbulk.errors import InputError, ModelError
from tritonbulk_export import export_sklearn
from tritonbulk_export.sources.frames import packed, read_frame, unpacked, write_frame

RANDOM = np.random.default_rng(1)
ROWS = 400
X = RANDOM.normal(size=(ROWS, 2)).astype(np.float32)
KIND = RANDOM.choice(["a", "b", "ü"], ROWS)
LABEL = np.where(X[:, 0] + (KIND == "ü") > 0, "yes", "no")


class Spy:
    """Notes, when it is unpickled, where that happens and what can be seen there."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        code = (
            "import json, os; "
            f"open({str(self.path)!r}, 'w').write(json.dumps([os.getpid(), dict(os.environ)]))"
        )
        return (exec, (code,))


@pytest.fixture
def target(tmp_path):
    table = pa.table({"a": X[:, 0], "b": X[:, 1]})
    pq.write_table(table, tmp_path / "rows.parquet")
    return {"name": "m", "sample": tmp_path / "rows.parquet", "repository": tmp_path / "models"}


def pickled(path, value):
    path.write_bytes(pickle.dumps(value))
    return path


def test_what_a_pickle_does_happens_elsewhere_and_sees_no_secrets(tmp_path, target, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    path = pickled(tmp_path / "model.pkl", Spy(tmp_path / "seen"))
    with pytest.raises((InputError, ModelError)):
        export_sklearn(path, trust_pickle=True, **target)
    process, environment = json.loads((tmp_path / "seen").read_text())
    assert process != os.getpid()
    assert "AWS_SECRET_ACCESS_KEY" not in environment


def test_text_and_labels_pass_between_the_processes_unchanged(tmp_path, target):
    rows = np.concatenate([X.astype(object), KIND[:, np.newaxis].astype(object)], axis=1)
    encoder = ColumnTransformer([("kind", OneHotEncoder(), [2])], remainder="passthrough")
    model = make_pipeline(encoder, LogisticRegression()).fit(rows, LABEL)
    pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "kind": KIND}), target["sample"])
    path = pickled(tmp_path / "model.pkl", model)
    done = export_sklearn(path, trust_pickle=True, **target)
    assert done.parity.rows == ROWS
    contract = Contract.from_json((done.entry / "contract.json").read_text())
    assert [t.datatype.name for t in contract.inputs] == ["FP32", "FP32", "BYTES"]
    assert export_sklearn(model, **target).published is False, "the same model, in memory"


def test_a_pickle_that_ends_its_process_is_an_error_in_words(tmp_path, target):
    class Exit:
        def __reduce__(self):
            return (os._exit, (0,))

    path = pickled(tmp_path / "model.pkl", Exit())
    with pytest.raises(InputError, match="ended without an answer"):
        export_sklearn(path, trust_pickle=True, **target)


def test_what_it_raises_is_told(tmp_path, target):
    (tmp_path / "model.pkl").write_bytes(b"no pickle")
    with pytest.raises(InputError, match="cannot be unpickled"):
        export_sklearn(tmp_path / "model.pkl", trust_pickle=True, **target)
    with pytest.raises(ModelError, match="dict"):
        export_sklearn(pickled(tmp_path / "m.pkl", {"a": 1}), trust_pickle=True, **target)


def test_frames_bring_back_what_went_in():
    tensors = {
        "x": RANDOM.normal(size=(3, 2)),
        "text": np.array([["ü"], [b"b"], [""]], dtype=object),
        "flags": np.array([True, False]),
        "none": np.zeros((0, 4), np.float32),
    }
    stream = io.BytesIO()
    heads, buffers = packed(tensors)
    write_frame(stream, {"tensors": heads}, *buffers)
    stream.seek(0)
    head, payload = read_frame(stream)
    found = unpacked(head["tensors"], payload)
    assert np.array_equal(found["x"], tensors["x"])
    assert found["text"].tolist() == [["ü"], ["b"], [""]]
    assert found["flags"].dtype == bool
    assert found["none"].shape == (0, 4)
    with pytest.raises(EOFError):
        read_frame(stream)


@pytest.mark.parametrize("line", [b"[]\n", b'{"sizes": [-1]}\n', b'{"sizes": ["x"]}\n', b"{}\n"])
def test_what_is_no_frame_is_not_taken_for_one(line):
    with pytest.raises(ValueError, match="no frame"):
        read_frame(io.BytesIO(line))
