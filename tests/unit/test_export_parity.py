"""Parity: what counts as the same answer, and what never does."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from tritonbulk.contract import Column, InputTensor, datatype
from tritonbulk.errors import InputError, ParityError
from tritonbulk_export.limits import LIMITS
from tritonbulk_export.parity import compare, proved_nulls
from tritonbulk_export.parity.figures import distance
from tritonbulk_export.runtime import open_session
from tritonbulk_export.spec import Answers, SourceModel

LIMITS_32 = LIMITS["fp32"]


def identity(name, kind):
    ports = [helper.make_tensor_value_info(port, kind, ["N"]) for port in ("x", name)]
    node = helper.make_node("Identity", ["x"], [name])
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    opset = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10)


def source(predict, name="y", kind=TensorProto.FLOAT, null="refuse"):
    """Return a source whose graph hands ``x`` through and whose answers ``predict`` gives."""
    tensor = InputTensor(
        "x",
        datatype("FP32" if kind == TensorProto.FLOAT else "INT64"),
        (),
        (Column("x", null=null),),
    )
    return SourceModel(
        framework="test",
        graph=identity(name, kind),
        inputs=(tensor,),
        predict=predict,
        takes_float64=False,
        distributions=(),
    )


def parity_of(model, values):
    return compare(model, open_session(model.graph), pa.table({"x": values}), LIMITS_32)


def shifted(by):
    return source(lambda tensors: Answers({"y": tensors["x"].astype(np.float64) + by}))


def test_a_difference_within_the_tolerance_is_reported():
    figures = parity_of(shifted(1e-6), [1.0, 10.0]).outputs["y"]
    assert figures.max_abs == pytest.approx(1e-6, rel=0.01)
    assert figures.max_rel == pytest.approx(1e-6, rel=0.01)


def test_a_larger_one_is_refused_with_row_and_both_values():
    off = np.zeros(20_000)
    off[12_345] = 0.5
    rows = iter(np.array_split(off, [8192, 16384]))
    model = source(lambda tensors: Answers({"y": tensors["x"] + next(rows)}))
    with pytest.raises(
        ParityError, match=r"is 1\.0 at sample row 12345, the source model gives 1\.5"
    ):
        parity_of(model, np.ones(20_000))


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_equal_only_themselves(strange):
    same = source(lambda tensors: Answers({"y": tensors["x"].astype(np.float64)}))
    assert parity_of(same, [strange, 1.0]).outputs["y"].max_abs == 0.0
    other = source(lambda tensors: Answers({"y": np.full(2, strange)}))
    with pytest.raises(ParityError):
        parity_of(other, [strange, 1.0])


def test_distance_is_zero_for_equal_infinities_and_infinite_for_nan_against_a_number():
    found = np.array([np.inf, np.nan, np.nan, 1.0])
    assert distance(found, np.array([np.inf, np.nan, 1.0, 3.0])).tolist() == [0, 0, np.inf, 2]


@pytest.mark.parametrize(("margin", "is_fine"), [(1e-7, True), (1e-3, False), (None, False)])
def test_a_label_may_differ_only_where_the_source_is_undecided(margin, is_fine):
    def predict(tensors):
        labels = tensors["x"].copy()
        labels[1] += 1
        margins = None if margin is None else np.array([0.9, margin, 0.9])
        return Answers({"label": labels}, margins)

    model = source(predict, "label", TensorProto.INT64)
    if is_fine:
        assert parity_of(model, [0, 1, 2]).outputs["label"].flips == 1
    else:
        with pytest.raises(ParityError, match="is 1 at sample row 1, the source model gives 2"):
            parity_of(model, [0, 1, 2])


@pytest.mark.parametrize("answers", [{}, {"y": np.zeros((2, 1))}], ids=["missing", "wrong-rank"])
def test_answers_of_another_shape_are_refused(answers):
    with pytest.raises(ParityError, match="has shape"):
        parity_of(source(lambda tensors: Answers(answers)), [0.0, 0.0])


def test_float16_outputs_get_a_wider_tolerance():
    def predict(tensors):
        return Answers({"y": tensors["x"].astype(np.float64) * 1.0005})

    model = source(predict)
    cast = model.graph.graph.node[0]
    cast.op_type = "Cast"
    cast.attribute.append(helper.make_attribute("to", TensorProto.FLOAT16))
    model.graph.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    assert parity_of(model, [1.0, 2.0]).outputs["y"].max_abs > 1e-4


def test_nulls_are_nan_only_where_source_and_graph_agree_about_them():
    agreed = source(lambda tensors: Answers({"y": tensors["x"]}), null="nan")
    replaced = source(lambda tensors: Answers({"y": np.nan_to_num(tensors["x"])}), null="nan")
    rows = {"x": np.ones(3, np.float32)}
    for model, policy in ((agreed, "nan"), (replaced, "refuse")):
        (tensor,) = proved_nulls(model, open_session(model.graph), rows, LIMITS_32)
        assert tensor.columns[0].null == policy


def test_a_value_that_cannot_be_fed_is_found_in_the_whole_sample():
    values = pa.array([1.0] * 9000 + [None])
    with pytest.raises(InputError, match="counted from sample row 8192"):
        parity_of(shifted(0.0), values)
