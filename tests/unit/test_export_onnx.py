"""Raw ONNX exports, from a file to an entry: binding, batching, and what is refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonbulk.contract import Contract
from tritonbulk.errors import ContractError, InputError, ModelError, OptionError, ParityError
from tritonbulk_export import Tolerance, export_onnx, exporting
from tritonbulk_export.entry_files import SNAPSHOT_FILES
from tritonbulk_export.serving import BatchSize, Serving
from tritonbulk_export.tuning import Tuned

RANDOM = np.random.default_rng(11)
ROWS = pa.table({f"f{n}": RANDOM.normal(size=50) for n in range(4)} | {"id": np.arange(50)})
WEIGHTS = numpy_helper.from_array(RANDOM.normal(size=(4, 3)).astype(np.float32), "w")


def port(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, constants=(WEIGHTS,), opset=20, ir=10):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def linear(batch="N", x="x", y="y", **options):
    node = helper.make_node("MatMul", [x, "w"], [y])
    return model([node], [port(x, [batch, 4])], [port(y, [batch, 3])], **options)


@pytest.fixture
def export(tmp_path):
    def run(graph, rows=ROWS, **options):
        onnx.save(graph, tmp_path / "model.onnx")
        pq.write_table(rows, tmp_path / "rows.parquet")
        options.setdefault("name", "m")
        return export_onnx(
            tmp_path / "model.onnx",
            sample=tmp_path / "rows.parquet",
            repository=tmp_path / "repository",
            **options,
        )

    return run


def contract_of(exported):
    return Contract.from_json((exported.entry / "contract.json").read_text())


def test_a_pattern_is_stored_as_the_columns_it_matched(export):
    exported = export(linear(), input_map=["x=f*"])
    (tensor,) = contract_of(exported).inputs
    assert [column.name for column in tensor.columns] == ["f0", "f1", "f2", "f3"]
    assert exported.parity.outputs["y"].max_abs == 0.0
    assert exported.parity.rows == 50


def test_golden_rows_hold_what_the_entry_answers(export):
    exported = export(linear(), input_map=["x=f*"])
    golden = pq.read_table(exported.entry / "golden.parquet")
    assert golden.schema.field("expected.y").type == pa.list_(pa.float32(), 3)
    x = np.column_stack([golden[f"f{n}"] for n in range(4)]).astype(np.float32)
    session = onnxruntime.InferenceSession(exported.entry / str(exported.version) / "model.onnx")
    expected = golden["expected.y"].combine_chunks().flatten().to_numpy().reshape(-1, 3)
    assert np.array_equal(session.run(None, {"x": x})[0], expected)


def test_columns_named_like_the_tensors_need_no_map(export):
    node = helper.make_node("Add", ["f0", "f1"], ["total"])
    graph = model([node], [port("f0", ["N"]), port("f1", ["N"])], [port("total", ["N"])], ())
    exported = export(graph)
    contract = contract_of(exported)
    assert [tensor.shape for tensor in contract.inputs] == [(), ()]
    assert contract.outputs[0].shape == ()
    assert (exported.entry / "config.pbtxt").read_text().count("reshape") == 3


def test_a_tensor_without_a_column_is_refused(export):
    with pytest.raises(ContractError, match="--input-map x="):
        export(linear())


def test_the_wrong_number_of_columns_is_refused(export):
    with pytest.raises(ContractError, match="takes 4 values a row but 2"):
        export(linear(), input_map=["x=f0,f1"])


def test_a_batch_that_is_fixed_in_name_only_is_opened(export):
    exported = export(linear(batch=4), input_map=["x=f*"])
    assert exported.parity.rows == 50
    loaded = onnx.load(exported.entry / str(exported.version) / "model.onnx")
    assert loaded.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_a_baked_batch_is_refused(export):
    shape = numpy_helper.from_array(np.array([1, 3]), "shape")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Reshape", ["h", "shape"], ["y"]),
    ]
    baked = model(nodes, [port("x", [1, 4])], [port("y", [1, 3])], [WEIGHTS, shape])
    with pytest.raises(ParityError, match="node Reshape y has a fixed batch size in it"):
        export(baked, input_map=["x=f*"])


def test_rows_that_leak_into_each_other_are_refused(export, tmp_path):
    leak = model(
        [helper.make_node("Softmax", ["x"], ["y"], axis=0)], [port("x", ["N", 4])],
        [port("y", ["N", 4])], (),
    )  # fmt: skip
    with pytest.raises(
        ParityError, match=r"changes with the rows beside it.*node Softmax y mixes rows"
    ):
        export(leak, input_map=["x=f*"])
    assert not (tmp_path / "repository").exists()


def test_an_output_without_a_row_each_is_refused(export):
    total = model(
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)], [port("x", ["N", 4])],
        [port("y", [])], (),
    )  # fmt: skip
    with pytest.raises(ModelError, match="no batch dimension"):
        export(total, input_map=["x=f*"])


def test_a_wrong_declared_output_shape_is_mended(export):
    node = helper.make_node("ArgMax", ["x"], ["label"], axis=1, keepdims=0)
    graph = model([node], [port("x", ["N", 4])], [port("label", [1], TensorProto.INT64)], ())
    exported = export(graph, input_map=["x=f*"])
    assert contract_of(exported).outputs[0].shape == ()
    loaded = onnx.load(exported.entry / str(exported.version) / "model.onnx")
    (dim,) = loaded.graph.output[0].type.tensor_type.shape.dim
    assert dim.dim_param == "batch"


@pytest.mark.parametrize("declared", [["N", None], ["N", "classes"], None])
def test_an_output_shape_that_is_left_open_is_declared_as_it_was_seen(export, declared):
    graph = linear()
    graph.graph.output[0].CopyFrom(port("y", declared))
    exported = export(graph, input_map=["x=f*"])
    assert contract_of(exported).outputs[0].shape == (3,)
    loaded = onnx.load(exported.entry / str(exported.version) / "model.onnx")
    dims = loaded.graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3]


def test_anonymous_tensors_get_names_and_either_name_maps(export):
    exported = export(linear(x="0", y="Identity:0"), input_map=["0=f*"])
    contract = contract_of(exported)
    assert [tensor.name for tensor in (*contract.inputs, *contract.outputs)] == [
        "input_0",
        "Identity",
    ]
    again = export(linear(x="0", y="Identity:0"), input_map=["input_0=f*"])
    assert not again.published


def test_a_model_too_new_for_triton_is_lowered(export):
    exported = export(linear(opset=24, ir=13), input_map=["x=f*"])
    loaded = onnx.load(exported.entry / str(exported.version) / "model.onnx")
    assert (loaded.ir_version, loaded.opset_import[0].version) == (10, 22)


def test_text_goes_in_and_comes_out(export):
    node = helper.make_node("Identity", ["kind"], ["same"])
    shape, text = ["N", 1], TensorProto.STRING
    graph = model([node], [port("kind", shape, text)], [port("same", shape, text)], ())
    rows = pa.table({"kind": ["a", "bä", ""]})
    golden = pq.read_table(export(graph, rows).entry / "golden.parquet")
    assert golden["expected.same"].to_pylist() == ["a", "bä", ""]


def test_weights_in_a_file_beside_the_model_come_into_it(tmp_path):
    onnx.save(
        linear(),
        tmp_path / "m.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="w.bin",
    )
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    exported = export_onnx(
        tmp_path / "m.onnx", name="m", sample=tmp_path / "rows.parquet",
        repository=tmp_path / "repository", input_map=["x=f*"],
    )  # fmt: skip
    files = {path.name for path in (exported.entry / str(exported.version)).iterdir()}
    assert files == {"model.onnx", *SNAPSHOT_FILES}


def test_every_export_of_a_model_gives_the_same_bytes(export, tmp_path):
    first = export(linear(), input_map=["x=f*"], name="m")
    other = export_onnx(
        tmp_path / "model.onnx", name="m", sample=tmp_path / "rows.parquet",
        repository=tmp_path / "other", input_map=["x=f*"],
    )  # fmt: skip
    for name in ("contract.json", "golden.parquet"):
        assert (first.entry / name).read_bytes() == (other.entry / name).read_bytes()
    assert first.digest == other.digest


@pytest.mark.parametrize("suffix", ["csv", "feather", "jsonl"])
def test_samples_come_in_other_formats(export, tmp_path, suffix):
    onnx.save(linear(), tmp_path / "model.onnx")
    path = tmp_path / f"rows.{suffix}"
    if suffix == "csv":
        pyarrow.csv.write_csv(ROWS, path)
    elif suffix == "feather":
        pyarrow.feather.write_feather(ROWS, path)
    else:
        path.write_text("\n".join(str(row).replace("'", '"') for row in ROWS.to_pylist()))
    exported = export_onnx(
        tmp_path / "model.onnx",
        name="m",
        sample=path,
        repository=tmp_path / "r",
        input_map=["x=f*"],
    )
    assert exported.parity.rows == 50


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("rows.parquet", None, "does not exist"),
        ("rows.parquet", b"nonsense", "cannot be read"),
        ("rows.xlsx", b"", "unknown ending"),
        ("rows.csv", b"a,b\n", "no rows"),
    ],
)
def test_a_sample_that_cannot_be_used_is_one_sentence(tmp_path, name, data, reason):
    onnx.save(linear(), tmp_path / "model.onnx")
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=reason):
        export_onnx(tmp_path / "model.onnx", name="m", sample=tmp_path / name)


@pytest.mark.parametrize("data", [None, b"nonsense", b""])
def test_a_model_file_that_cannot_be_used_is_one_sentence(tmp_path, data):
    pq.write_table(ROWS, tmp_path / "rows.parquet")
    if data is not None:
        (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(InputError, match="give the path of an ONNX file"):
        export_onnx(tmp_path / "model.onnx", name="m", sample=tmp_path / "rows.parquet")


def test_a_tolerance_of_zero_is_met_by_the_same_graph(export):
    assert export(linear(), input_map=["x=f*"], tolerance=Tolerance(0.0, 0.0)).published


def sliced(rows):
    """Return a model that has at most ``rows`` answers, however many rows it is given."""
    ends = [numpy_helper.from_array(np.array([n]), name) for n, name in ((0, "a"), (rows, "z"))]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["all"]),
        helper.make_node("Slice", ["all", "a", "z", "a"], ["y"]),
    ]
    return model(nodes, [port("x", ["N", 4])], [port("y", ["N", 3])], [WEIGHTS, *ends])


def test_the_batch_is_proved_at_the_size_that_a_configuration_asks_for(export, tmp_path):
    (tmp_path / "c.toml").write_text("max_batch_size = 8192")
    options = {"input_map": ["x=f*"], "serving": Serving(overrides=tmp_path / "c.toml")}
    with pytest.raises(ParityError, match="8192"):
        export(sliced(5000), **options)
    assert not (tmp_path / "repository").exists()
    exported = export(linear(), **options)
    assert exported.max_batch_size == exported.batch.sizes[-1] == 8192
    assert exported.max_batch_size_reason == f"as --config {tmp_path / 'c.toml'} has it"


def test_the_batch_is_proved_at_the_size_that_a_sweep_recommends(export, tmp_path, monkeypatch):
    found = Tuned(BatchSize(8192, "measured"), Serving())
    monkeypatch.setattr(exporting, "run_bench", lambda *_: found)
    with pytest.raises(ParityError, match="8192"):
        export(sliced(5000), input_map=["x=f*"], tune_s=1)
    assert "max_batch_size: 4096" in (tmp_path / "repository/m/config.pbtxt").read_text()
    assert export(linear(), input_map=["x=f*"], tune_s=1).batch.sizes[-1] == 8192


def test_an_index_that_a_table_does_not_have_is_no_baked_batch(export):
    node = helper.make_node("Gather", ["w", "id"], ["y"])
    graph = model([node], [port("id", ["N"], TensorProto.INT64)], [port("y", ["N", 3])])
    with pytest.raises(ParityError, match=r"index 4 is out of range: node Gather .* values of"):
        export(graph)


def test_a_column_of_labels_feeds_no_model(export):
    rows = ROWS.drop_columns(["id"]).append_column("truth", pa.array(np.arange(50) % 3))
    with pytest.raises(ContractError, match="5 columns"):
        export(linear(), rows, input_map=["x=*"])
    assert export(linear(), rows, input_map=["x=*"], labels="truth").published


def test_an_asked_batch_size_is_kept_and_a_silly_one_refused(export):
    exported = export(linear(), input_map=["x=f*"], max_batch_size=7)
    assert (exported.max_batch_size, exported.max_batch_size_reason) == (7, "as asked")
    with pytest.raises(OptionError, match="below 1"):
        export(linear(), input_map=["x=f*"], max_batch_size=0, name="other")
