"""Weights beside the model: read once what was checked, written as Triton wants them."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonbulk.errors import InputError
from tritonbulk_export import export_onnx
from tritonbulk_export.graph import external, model_files, read_model
from tritonbulk_export.runtime import open_session
from tritonbulk_export.storage import files_digest, read_files

WIDTH = 64
WEIGHT = np.random.default_rng(3).normal(size=(WIDTH, WIDTH)).astype(np.float32)


def linear():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", WIDTH]) for name in "xy"]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"]),
    ]  # fmt: skip
    constants = [
        numpy_helper.from_array(WEIGHT, "w"),
        numpy_helper.from_array(WEIGHT[0].copy(), "b"),
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(
        linear(), folder / "m.onnx", save_as_external_data=True, size_threshold=0, location="w.bin"
    )
    return folder / "m.onnx"


def weight_of(model):
    return numpy_helper.to_array(next(t for t in model.graph.initializer if t.name == "w"))


def test_several_weights_of_one_file_come_in(saved):
    model = read_model(saved)
    assert np.array_equal(weight_of(model), WEIGHT)
    assert not any(tensor.external_data for tensor in model.graph.initializer)


def swapping(data, secret, monkeypatch):
    """Let ``data`` become a link to ``secret`` right after it was opened and looked at."""
    look = os.fstat

    def swap(descriptor):
        found = look(descriptor)
        if not data.is_symlink() and os.path.samestat(found, data.stat()):
            data.unlink()
            data.symlink_to(secret)
        return found

    monkeypatch.setattr(external.os, "fstat", swap)


@pytest.mark.parametrize("size_threshold", [10_000, 0], ids=["one weight", "two weights"])
def test_a_file_that_is_swapped_after_the_check_is_not_read(tmp_path, monkeypatch, size_threshold):
    path, secret = tmp_path / "m.onnx", tmp_path / "secret"
    secret.write_bytes(b"s" * 100_000)
    onnx.save(
        linear(), path, save_as_external_data=True, size_threshold=size_threshold, location="w.bin"
    )
    swapping(tmp_path / "w.bin", secret, monkeypatch)
    if size_threshold:
        assert np.array_equal(weight_of(read_model(path)), WEIGHT)
    else:
        # The second weight opens the name again, and meets the link.
        with pytest.raises(InputError, match="which is a link"):
            read_model(path)
    assert (tmp_path / "w.bin").is_symlink()


def test_a_file_that_shrinks_while_it_is_read_is_noticed(saved, monkeypatch):
    monkeypatch.setattr(external.os, "pread", lambda *_: b"")
    with pytest.raises(InputError, match="became shorter"):
        read_model(saved)


def test_what_is_read_in_all_has_a_limit(saved, monkeypatch):
    monkeypatch.setattr(external, "EXTERNAL_BYTES_MAX", 16_383)
    with pytest.raises(InputError, match="of external data"):
        read_model(saved)
    monkeypatch.setattr(external, "MODEL_FILE_BYTES_MAX", 10)
    with pytest.raises(InputError, match="more than the 2 GiB"):
        read_model(saved)


def test_large_weights_are_written_to_one_file_beside_the_model(tmp_path):
    files = model_files(linear(), inline_bytes_max=1000)
    assert sorted(files) == ["model.onnx/model.data", "model.onnx/model.onnx"]
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    tensor = onnx.load(tmp_path / "model.onnx/model.onnx", load_external_data=False)
    entries = {e.key: e.value for e in tensor.graph.initializer[0].external_data}
    assert entries == {"location": "model.data", "offset": "0", "length": str(WEIGHT.nbytes)}
    assert files == model_files(linear(), inline_bytes_max=1000)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx/model.onnx")
    x = np.ones((2, WIDTH), np.float32)
    inside = open_session(linear()).run({"x": x})["y"]
    assert np.array_equal(session.run(None, {"x": x})[0], inside)
    assert read_files(tmp_path, "model.onnx") == files
    assert files_digest(files) != files_digest(model_files(linear()))


def test_an_export_relocates_its_weights_and_a_second_one_changes_nothing(
    saved, tmp_path, monkeypatch
):
    monkeypatch.setattr(external, "INLINE_BYTES_MAX", 1000)
    rows = np.random.default_rng(1).normal(size=(50, WIDTH)).astype(np.float32)
    pq.write_table(
        pa.table({f"f{n:02}": rows[:, n] for n in range(WIDTH)}), tmp_path / "rows.parquet"
    )
    options = {
        "name": "m", "sample": tmp_path / "rows.parquet", "repository": tmp_path / "r",
        "input_map": ["x=f*"],
    }  # fmt: skip
    exported = export_onnx(saved, **options)
    folder = exported.entry / str(exported.version) / "model.onnx"
    assert sorted(path.name for path in folder.iterdir()) == ["model.data", "model.onnx"]
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert np.allclose(session.run(None, {"x": rows})[0], rows @ WEIGHT + WEIGHT[0], atol=1e-4)
    assert not export_onnx(saved, **options).published
