"""The parity contract: what each check catches, what is waived, what labels tell."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto, helper

from tritonbulk.contract import Column, InputTensor, datatype
from tritonbulk.errors import InputError, OptionError, ParityError
from tritonbulk_export.limits import CHECKS, LIMITS, waivers
from tritonbulk_export.parity import compare, stored
from tritonbulk_export.runtime import open_session
from tritonbulk_export.spec import Answers, SourceModel, Tolerance

RANDOM = np.random.default_rng(5)


def source(predict, width, name="scores", labels=None, wide=False):
    """Return a source whose graph hands ``x`` through and whose answers ``predict`` gives."""
    shape = ["N", width]
    ports = [helper.make_tensor_value_info(port, TensorProto.FLOAT, shape) for port in ("x", name)]
    node = helper.make_node("Identity", ["x"], [name])
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    columns = tuple(Column(f"c{n}") for n in range(width))
    return SourceModel(
        framework="test",
        graph=model,
        inputs=(InputTensor("x", datatype("FP32"), (width,), columns),),
        predict=lambda tensors: Answers({name: predict(tensors["x"].astype(np.float64))}),
        takes_float64=wide,
        distributions=(),
        labels={} if labels is None else {name: labels},
    )


def parity_of(model, values, limits="fp32", **options):
    table = pa.table({f"c{n}": values[:, n].astype(np.float32) for n in range(values.shape[1])})
    for name, column in options.pop("extra", {}).items():
        table = table.append_column(name, pa.array(column))
    return compare(model, open_session(model.graph), table, LIMITS[limits], **options)


VALUES = RANDOM.normal(size=(2000, 3))


def test_one_wrong_value_of_thousands_fails_float32_and_not_float16():
    def predict(x):
        x[1234, 1] += 0.5
        return x

    with pytest.raises(ParityError, match="sample row 1234"):
        parity_of(source(predict, 3), VALUES)
    figures = parity_of(source(predict, 3, name="y"), VALUES, "fp16").outputs["y"]
    assert figures.exceeding == 1 / VALUES.size
    assert figures.max_abs == pytest.approx(0.5, rel=1e-3)
    assert figures.p999_abs < 1e-6


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (lambda x: x + 0.9, "values"),
        (lambda x: np.where(np.arange(len(x))[:, None] == 7, np.nan, x), "nan"),
        (lambda x: x * np.where(np.arange(len(x))[:, None] < 900, -1, 1), "cosine"),
        (lambda x: np.where(np.arange(len(x))[:, None] < 9, x[:, ::-1], x), "flips"),
    ],
)
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_each_check_fails_by_its_name_and_is_waived_by_it(change, check, precision):
    values = VALUES if check != "flips" or precision == "fp16" else VALUES[:300]
    model = source(change, 3)
    with pytest.raises(ParityError) as raised:
        parity_of(model, values, precision)
    others = [name for name in CHECKS if name not in {check, "ranking"}]
    alone = waivers([f"scores.{check}=known", *(f"{name}=not meant" for name in others)])
    parity = parity_of(model, values, precision, given=alone)
    assert f"scores.{check}" in [waiver.name for waiver in parity.waivers]
    with pytest.raises(ParityError):
        parity_of(model, values, precision, given=alone[1:])
    assert "nothing was published" in str(raised.value)


def test_a_waiver_is_stored_with_its_reason_and_one_that_is_not_needed_is_not():
    given = waivers(["values=the scale of y is 1e6", "cosine=never needed"])
    parity = parity_of(source(lambda x: x + 0.1, 3, name="y"), VALUES, given=given)
    (record,) = [w for w in stored(parity)["waivers"] if w["name"] == "y.values"]
    assert record["reason"] == "the scale of y is 1e6"
    same = parity_of(source(lambda x: x, 3), VALUES, given=given)
    assert "waivers" not in stored(same)


@pytest.mark.parametrize("text", ["values", "values=", "nonsense=reason", "=reason", "VALUES=x"])
def test_a_waiver_without_a_check_or_a_reason_is_refused(text):
    with pytest.raises(OptionError, match="--waive"):
        waivers([text])


def test_an_absolute_tolerance_is_in_the_unit_of_outputs_that_are_small():
    tiny = VALUES * 1e-4
    with pytest.raises(ParityError):
        parity_of(source(lambda x: x + 1e-4, 3, name="y"), tiny, "fp16")


def test_a_users_tolerance_replaces_the_default_of_the_precision():
    limits = LIMITS["fp32"].with_tolerance(Tolerance(0.2, 0.0))
    model = source(lambda x: x + 0.1, 3, name="y")
    table = pa.table({f"c{n}": VALUES[:, n].astype(np.float32) for n in range(3)})
    assert compare(model, open_session(model.graph), table, limits).outputs["y"].exceeding == 0


def test_labels_give_the_auc_of_both():
    truth = RANDOM.integers(0, 2, len(VALUES))
    scores = np.column_stack([-VALUES[:, 0], truth + VALUES[:, 0]])
    extra = {"late": truth.tolist()}
    ranking = parity_of(source(lambda x: x, 2), scores, extra=extra, labels="late").ranking
    assert ranking.metric == "AUC"
    assert ranking.source == ranking.export
    assert 0.6 < ranking.source < 0.95

    def shuffled(x):
        x[:400] = x[:400][::-1]
        return x

    given = waivers(["values=x", "cosine=x", "flips=x"])
    with pytest.raises(ParityError, match="AUC on the labels goes from"):
        parity_of(source(shuffled, 2), scores, extra=extra, labels="late", given=given)


def test_labels_of_several_classes_give_the_accuracy_and_numbers_the_rank_correlation():
    classes = ("a", "b", "c")
    truth = [classes[row] for row in VALUES.argmax(axis=1)]
    model = source(lambda x: x, 3, labels=classes)
    ranking = parity_of(model, VALUES, extra={"t": truth}, labels="t").ranking
    assert (ranking.metric, ranking.source) == ("accuracy", 1.0)
    numbers = (VALUES[:, 0] ** 3).tolist()
    ranking = parity_of(
        source(lambda x: x, 1, name="y"), VALUES[:, :1], extra={"t": numbers}, labels="t"
    ).ranking
    assert (ranking.metric, round(ranking.source, 6)) == ("rank correlation", 1.0)


def test_labels_that_fit_nothing_are_one_sentence():
    with pytest.raises(InputError, match="is no class of output"):
        parity_of(source(lambda x: x, 3), VALUES, extra={"t": ["q"] * 2000}, labels="t")


def test_rows_that_a_threshold_moves_are_counted_against_the_source_fed_with_float64():
    threshold = np.float64(np.float32(0.1)) + 1e-12
    values = np.full((50, 1), 0.5)
    values[:7] = threshold + 1e-13

    def predict(x):
        return (x > threshold).astype(np.float64)

    model = source(predict, 1, name="y", wide=True)
    step = model.graph.graph
    step.initializer.append(helper.make_tensor("t", TensorProto.FLOAT, [], [0.1]))
    del step.node[:]
    step.node.append(helper.make_node("Greater", ["x", "t"], ["b"]))
    step.node.append(helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT))
    table = pa.table({"c0": values[:, 0]})
    figures = compare(model, open_session(model.graph), table).outputs["y"]
    assert (figures.max_abs, figures.max_abs_float64, figures.threshold_flips) == (0.0, 1.0, 7)


def test_what_is_stored_is_plain_json_even_if_something_is_infinite():
    given = waivers(["values=x", "nan=x", "cosine=x"])
    parity = parity_of(source(lambda x: np.full(x.shape, np.nan), 3), VALUES, given=given)
    assert "Infinity" not in json.dumps(stored(parity), allow_nan=False)
