"""Precision: what is converted, what it costs, and what a damaged weight does to parity."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.export_corpus.networks import (
    CLASSES,
    HIDDEN,
    RANDOM,
    ROWS,
    TABLE,
    WIDTH,
    constant,
    mlp,
    port,
)
from tritonbulk.contract import Contract
from tritonbulk.errors import InputError, ModelError, OptionError, ParityError
from tritonbulk_export import Tolerance, export_onnx, proving, survival
from tritonbulk_export.limits import waivers
from tritonbulk_export.precision import calibration_positions
from tritonbulk_export.precision.dynamic import to_dynamic_int8
from tritonbulk_export.precision.half import BF16, FP16, to_half
from tritonbulk_export.precision.static import to_static_int8
from tritonbulk_export.proof import prove_batch
from tritonbulk_export.runtime import open_session
from tritonbulk_export.survival import check_survival


def answers(model, rows=ROWS, name="probabilities"):
    session = open_session(model)
    kind = np.float16 if session.inputs[0].datatype.name == "FP16" else np.float32
    return session.run({"x": rows.astype(kind)})[name].astype(np.float64)


EXACT = answers(mlp())


def kinds(model):
    return {
        value.name: value.type.tensor_type.elem_type
        for value in (*model.graph.input, *model.graph.output)
    }


@pytest.fixture
def export(tmp_path):
    def run(model, table=TABLE, **options):
        onnx.save(model, tmp_path / "model.onnx")
        pq.write_table(table, tmp_path / "rows.parquet")
        return export_onnx(
            tmp_path / "model.onnx",
            name="m",
            sample=tmp_path / "rows.parquet",
            repository=tmp_path / "repository",
            input_map=["x=f*"],
            **options,
        )

    return run


def test_all_that_can_be_is_float16_and_the_ends_stay_as_declared():
    half, notes = to_half(mlp(), FP16)
    assert kinds(half) == {"x": TensorProto.FLOAT, "probabilities": TensorProto.FLOAT}
    weights = {t.name: t.data_type for t in half.graph.initializer}
    assert set(weights.values()) == {TensorProto.FLOAT16}
    assert [n.op_type for n in half.graph.node].count("Cast") == 2
    assert notes[0] == "5 of 5 nodes are fp16, 2 casts"
    assert 1e-6 < np.abs(answers(half) - EXACT).max() < 5e-3
    onnx.checker.check_model(half)


def test_half_ends_are_given_when_asked_for():
    half, _ = to_half(mlp(), FP16, half_io=True)
    assert kinds(half) == {"x": TensorProto.FLOAT16, "probabilities": TensorProto.FLOAT16}
    assert not [node for node in half.graph.node if node.op_type == "Cast"]
    assert np.abs(answers(half) - EXACT).max() < 5e-3


@pytest.mark.parametrize("half_io", [False, True])
@pytest.mark.parametrize("pattern", ["norm", "LayerNorm*", "second", "last", "first"])
def test_what_is_to_be_kept_is_kept(pattern, half_io):
    half, notes = to_half(mlp(), FP16, keep=[pattern], half_io=half_io)
    assert "float32 stays" in notes[1]
    assert notes[0].startswith("4 of 5")
    onnx.checker.check_model(half, full_check=True)
    assert np.abs(answers(half) - EXACT).max() < 5e-3


def test_a_pattern_that_fits_nothing_is_refused():
    with pytest.raises(OptionError, match="'nonsense' fits no node"):
        to_half(mlp(), FP16, keep=["nonsense"])


def test_constants_that_float16_cannot_hold_keep_their_nodes():
    model = mlp()
    next(t for t in model.graph.initializer if t.name == "w2").CopyFrom(
        constant("w2", np.full((HIDDEN, CLASSES), 1e6))
    )
    _, notes = to_half(model, FP16)
    assert notes[1] == "float32 stays MatMul second: w2 holds 1e+06"
    model = mlp(
        extra=[helper.make_node("Add", ["probabilities", "tiny"], ["y"], name="add")],
        outputs=[port("y", ["batch", CLASSES])],
    )
    model.graph.initializer.append(constant("tiny", 1e-12))
    _, notes = to_half(model, FP16)
    assert notes[1] == "float32 stays Add add: tiny would become 0"


@pytest.mark.parametrize("half_io", [False, True])
def test_subgraphs_stay_float_and_read_float(half_io):
    def branch(name, operator):
        node = helper.make_node(operator, ["probabilities"], [name])
        return helper.make_graph([node], name, [], [port(name, None)])

    extra = [
        helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0),
        helper.make_node("Less", ["peak", "huge"], ["flag"]),
        helper.make_node(
            "If", ["flag"], ["y"], then_branch=branch("t", "Neg"), else_branch=branch("e", "Abs")
        ),
    ]
    model = mlp(extra=extra, outputs=[port("y", ["batch", CLASSES]), port("probabilities", None)])
    model.graph.initializer.append(constant("huge", 1000.0))
    half, _ = to_half(model, FP16, half_io=half_io)
    assert np.abs(answers(half, name="y") + EXACT).max() < 5e-3
    assert np.abs(answers(half) - EXACT).max() < 5e-3


def trees(end):
    """Return a tree and what comes after it."""
    tree = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["h"], name="trees", domain="ai.onnx.ml", n_targets=1,
        nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0], target_treeids=[0, 0],
        target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[1.0, 2.0],
    )  # fmt: skip
    constants = [constant("w", [[2.0]])]
    graph = helper.make_graph(
        [tree, end], "g", [port("x", ["batch", WIDTH])], [port("y", ["batch", 1])], constants
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.mark.parametrize(
    "end",
    [helper.make_node("Sigmoid", ["h"], ["y"]), helper.make_node("MatMul", ["h", "w"], ["y"])],
    ids=["sigmoid", "small product"],
)
def test_trees_are_refused_with_the_reason_whatever_little_comes_after_them(end):
    words = r"its trees \(TreeEnsembleRegressor\) compare with float32"
    with pytest.raises(ModelError, match=words):
        to_half(trees(end), FP16)


def test_int8_without_products_is_refused():
    model = trees(helper.make_node("Sigmoid", ["h"], ["y"]))
    with pytest.raises(ModelError, match="no MatMul or Gemm"):
        to_dynamic_int8(model)
    with pytest.raises(ModelError, match="the graph has no MatMul, Gemm"):
        to_static_int8(model, "cpu", {"x": ROWS})


def test_bfloat16_is_typed_and_its_emulation_rounds_where_the_graph_would():
    half, _ = to_half(mlp(opset=22), BF16)
    onnx.checker.check_model(half, full_check=True)
    tested, _ = to_half(mlp(opset=22), BF16, emulated=True)
    off = np.abs(answers(tested) - EXACT).max()
    assert 1e-4 < off < 5e-2


def test_dynamic_int8_has_a_scale_a_row_so_that_batches_cannot_mix():
    quantized, notes = to_dynamic_int8(mlp())
    assert notes == ["2 products are INT8 with a scale a row"]
    proof = prove_batch(
        quantized, [], {"x": ROWS[:64] * np.geomspace(0.01, 100, 64)[:, None].astype(np.float32)}
    )
    assert max(proof.largest.values()) < 1e-6
    assert 1e-5 < np.abs(answers(quantized) - EXACT).max() < 0.1


def test_onnx_runtimes_own_dynamic_quantization_is_refused_by_the_proof():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    shape = ["batch", WIDTH]
    graph = helper.make_graph(nodes, "g", [port("x", shape)], [port("y", shape)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with pytest.raises(ParityError, match="DynamicQuantizeLinear quantize mixes rows"):
        prove_batch(model, [], {"x": ROWS[:64]})


@pytest.mark.parametrize("preset", ["cpu", "trt"])
def test_static_int8_has_the_form_of_its_preset(preset):
    quantized, notes = to_static_int8(mlp(), preset, {"x": ROWS[:128]})
    assert f"preset {preset}, calibrated on 128 rows" in notes[0]
    zeros = {t.name: numpy_helper.to_array(t) for t in quantized.graph.initializer}
    points = [
        zeros[node.input[2]] for node in quantized.graph.node if node.op_type == "QuantizeLinear"
    ]
    assert points
    assert {p.dtype.name for p in points} == {"uint8" if preset == "cpu" else "int8"}
    if preset == "trt":
        assert all((p == 0).all() for p in points)
        assert not [t for t in quantized.graph.initializer if t.data_type == TensorProto.INT32]
    assert np.abs(answers(quantized) - EXACT).max() < 0.1


def test_calibration_rows_are_never_judged():
    positions = calibration_positions(600, 256)
    assert len(positions) == 256
    assert len(calibration_positions(100, 256)) == 50
    with pytest.raises(InputError, match="at least 32"):
        calibration_positions(31, 256)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int8-dynamic"])
def test_an_export_in_each_precision_says_what_it_cost(export, precision):
    exported = export(mlp(), precision=precision)
    report = exported.precision
    assert report.precision == precision
    assert report.before.outputs["probabilities"].max_abs < 1e-6
    assert exported.parity.outputs["probabilities"].max_abs > 1e-6
    assert report.is_verified == (precision != "bf16")
    assert exported.parity.rows == (344 if precision == "int8" else 600)
    record = Contract.from_json((exported.entry / "contract.json").read_text()).parity
    assert record["precision"] == precision


def test_float16_halves_what_is_published(export):
    model = mlp()
    next(t for t in model.graph.initializer if t.name == "w1").CopyFrom(
        constant("w1", RANDOM.normal(size=(WIDTH, HIDDEN)))
    )
    report = export(model, precision="fp16").precision
    assert report.bytes_after < 0.7 * report.bytes_before


def test_half_ends_reach_the_contract(export):
    exported = export(mlp(), precision="fp16", half_io=True)
    contract = Contract.from_json((exported.entry / "contract.json").read_text())
    assert contract.inputs[0].datatype.name == contract.outputs[0].datatype.name == "FP16"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8", "int8-dynamic"])
def test_a_damaged_weight_is_never_published(export, precision, tmp_path, monkeypatch):
    """One weight of 192 gets another sign and size behind the back of the export."""

    def damaged(graph):
        for tensor in graph.graph.initializer:
            array = numpy_helper.to_array(tensor)
            if (
                array.ndim == 2
                and array.shape[1] == CLASSES
                and tensor.name.startswith(("w2", "h4"))
            ):
                changed = array.copy()
                changed[5, 1] = 127 if array.dtype == np.int8 else 4.0
                data = changed.astype(array.dtype).tobytes()
                tensor.ClearField("float_data")
                tensor.raw_data = data
        return graph

    opened = proving.open_session
    monkeypatch.setattr(proving, "open_session", lambda graph: opened(damaged(graph)))
    with pytest.raises(ParityError, match="nothing was published"):
        export(mlp(), precision=precision)
    assert not (tmp_path / "repository").exists()


def test_a_loss_that_is_waived_is_published_and_stored(export):
    strict = {"precision": "fp16", "tolerance": Tolerance(1e-4, 0.0)}
    with pytest.raises(ParityError, match=r"exceed atol 0\.0001"):
        export(mlp(), **strict)
    exported = export(mlp(), waivers=waivers(["values=ranking is all that counts"]), **strict)
    record = Contract.from_json((exported.entry / "contract.json").read_text()).parity
    assert record["waivers"] == [
        {"name": "probabilities.values", "reason": "ranking is all that counts"}
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "fp8"}, "is none of"),
        ({"precision": "int8", "half_io": True}, "--half-io goes with"),
        ({"precision": "int8", "keep_fp32": ["x"]}, "--keep-fp32 goes with"),
        ({"precision": "int8", "int8_preset": "gpu"}, "neither cpu nor trt"),
    ],
)
def test_options_that_contradict_each_other_are_refused(export, options, words):
    with pytest.raises(OptionError, match=words):
        export(mlp(), **options)


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "int8-dynamic"])
def test_a_second_export_of_the_same_changes_nothing(export, precision):
    first = export(mlp(), precision=precision)
    again = export(mlp(), precision=precision)
    assert (again.published, again.version) == (False, first.version)
    model = onnx.load(first.entry / str(first.version) / "model.onnx")
    assert model.producer_name == "tritonbulk"
    assert not model.metadata_props
    assert [port.type.tensor_type.shape.dim[0].dim_param for port in model.graph.input] == ["batch"]


SURVIVES = """
import sys, onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""


@pytest.mark.parametrize("kept", [(), ("second",), ("Transpose",)])
def test_products_behind_transposes_do_not_end_onnx_runtime(tmp_path, kept):
    random = np.random.default_rng(2)
    constants = [
        constant("w", random.normal(size=(4, 4))),
        constant("v", random.normal(size=(4, 64))),
        constant("u", random.normal(size=(64, 4))),
    ]
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], name="turn", perm=[1, 0, 2]),
        helper.make_node("MatMul", ["t", "w"], ["a"], name="first"),
        helper.make_node("MatMul", ["a", "v"], ["b"], name="second"),
        helper.make_node("Relu", ["b"], ["c"], name="between"),
        helper.make_node("MatMul", ["c", "u"], ["d"], name="third"),
        helper.make_node("Transpose", ["d"], ["y"], name="back", perm=[1, 0, 2]),
    ]
    ends = [port(name, ["batch", 3, 4]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    half, _ = to_half(model, FP16, keep=kept, half_io=True)
    onnx.save(half, tmp_path / "half.onnx")
    # In a process of its own: a fault would end this one.
    done = subprocess.run(
        [sys.executable, "-c", SURVIVES, tmp_path / "half.onnx"], capture_output=True, check=False
    )
    assert done.returncode == 0
    x = random.normal(size=(5, 3, 4)).astype(np.float32)
    exact = open_session(model).run({"x": x})["y"]
    found = open_session(half).run({"x": x.astype(np.float16)})["y"]
    assert np.abs(found - exact).max() < 0.05 * np.abs(exact).max()


def test_only_graphs_with_float16_are_loaded_in_another_process(monkeypatch):
    monkeypatch.setattr(survival, "_LOADS", "import os; os.kill(os.getpid(), 11)")
    check_survival(mlp())
    half, _ = to_half(mlp(), FP16)
    with pytest.raises(ModelError, match="ends by signal 11"):
        check_survival(half)
