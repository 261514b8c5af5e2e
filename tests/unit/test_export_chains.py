"""Chains: tensors are connected once and fit; a cut model answers as the whole."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonbulk.contract import Column, Contract, InputTensor, OutputTensor, datatype
from tritonbulk.errors import ContractError, ModelError, OptionError, OutputError, ParityError
from tritonbulk_export import export_onnx
from tritonbulk_export.chains.cutting import cut
from tritonbulk_export.chains.ensemble import Step, connect
from tritonbulk_export.chains.joining import export_pipeline
from tritonbulk_export.chains.running import check_equal, run_chain
from tritonbulk_export.config import from_text
from tritonbulk_export.lint import errors_of, lint_repository
from tritonbulk_export.rollback import rollback
from tritonbulk_export.runtime import open_session
from tritonbulk_export.spec import Tolerance

FP32 = datatype("FP32")
WIDTHS = (4, 64, 8, 64, 8, 64, 1)
"""Of a tower of layers: it is narrow after the second and the fourth."""


def step(model, takes, gives, *, columns=(), shape=(4,), kind="FP32"):
    inputs = tuple(
        InputTensor(name, FP32, shape, tuple(map(Column, columns)) if name == "x" else ())
        for name in takes
    )
    outputs = tuple(OutputTensor(name, datatype(kind), shape) for name in gives)
    return Step(Contract(model, "sha256:" + model, inputs, outputs), 7, 64)


def tower(widths=WIDTHS, skip=False):
    """Return a tower of dense layers, with an input that goes around to its end if ``skip``."""
    random = np.random.default_rng(1)
    nodes, weights, name = [], [], "x"
    for number, (wide, next_wide) in enumerate(pairwise(widths)):
        values = random.normal(size=(wide, next_wide)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [name, f"w{number}"], [f"h{number}"]))
        name = f"a{number}"
        nodes.append(helper.make_node("Tanh", [f"h{number}"], [name]))
    if skip:
        axes = numpy_helper.from_array(np.array([1]), "axes")
        weights.append(axes)
        nodes.append(helper.make_node("ReduceSum", ["x", "axes"], ["sum"]))
        nodes.append(helper.make_node("Add", [name, "sum"], ["y"]))
    else:
        nodes.append(helper.make_node("Identity", [name], ["y"]))
    ports = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", widths[0]]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", widths[-1]]),
    ]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def test_tensors_of_one_name_connect_themselves():
    chain = connect([step("a", ["x"], ["t"], columns=("c",)), step("b", ["t"], ["y"])], {})
    assert [link.inputs for link in chain.links] == [{"x": "x"}, {"t": "t"}]
    assert [tensor.name for tensor in chain.inputs] == ["x"]
    assert chain.inputs[0].columns == (Column("c"),)
    assert [tensor.name for tensor in chain.outputs] == ["y"]


def test_names_that_meet_by_chance_are_kept_apart_and_others_connected():
    chain = connect([step("a", ["x"], ["y"]), step("b", ["x"], ["y"])], {"b.x": "a.y"})
    assert chain.links[1].inputs == {"x": "y"}
    assert chain.links[1].outputs == {"y": "b.y"}
    assert [tensor.name for tensor in chain.outputs] == ["b.y"]


@pytest.mark.parametrize(
    ("steps", "connections", "error", "words"),
    [
        ([step("a", "x", "t")], {}, OptionError, "2 to 64"),
        ([step("a", "x", "t"), step("b", "z", "y")], {}, ContractError, "takes nothing"),
        ([step("a", "x", "t"), step("b", "t", "y")], {"b.q": "a.t"}, OptionError, "no step has"),
        ([step("a", "x", "t"), step("b", "t", "y")], {"b.t": "a.q"}, OptionError, "gives 'a.q'"),
        (
            [step("a", "x", "t"), step("b", "t", "y", shape=(5,))],
            {}, ContractError, r"\[4\].*\[5\]",
        ),
        ([step("a", "x", "t", kind="INT64"), step("b", "t", "y")], {}, ContractError, "INT64"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(steps, connections, error, words):
    with pytest.raises(error, match=words):
        connect(steps, connections)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("stages", [2, 3])
def test_a_model_is_cut_where_little_passes_and_answers_as_the_whole(stages, skip):
    model = tower(skip=skip)
    rows = {"x": np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)}
    whole = open_session(model).run(rows)
    models, cuts = cut(model, stages, rows)
    assert len(models) == stages
    assert {value.shape for each in cuts for value in each.values} == {(8,)}
    sessions = [open_session(each) for each in models]
    steps = [
        Step(
            Contract(
                f"s{n}",
                "",
                tuple(InputTensor(p.name, p.datatype, tuple(p.shape[1:])) for p in s.inputs),
                tuple(OutputTensor(p.name, p.datatype, tuple(p.shape[1:])) for p in s.outputs),
            ),
            1,
            64,
        )
        for n, s in enumerate(sessions)
    ]
    chain = connect(steps, {})
    assert [tensor.name for tensor in chain.inputs] == ["x"]
    assert [tensor.name for tensor in chain.outputs] == ["y"]
    values = run_chain(chain.links, {f"s{n}": s for n, s in enumerate(sessions)}, rows)
    assert check_equal({"y": values["y"]}, whole, Tolerance(1e-6, 1e-6)).rows == 9
    assert sum(len(each.graph.initializer) for each in models) == len(model.graph.initializer)


def test_a_model_that_cannot_be_cut_so_often_is_refused():
    rows = {"x": np.ones((3, 4), np.float32)}
    with pytest.raises(OptionError, match="between 2"):
        cut(tower(), 1, rows)
    with pytest.raises(ModelError, match="places"):
        cut(tower((4, 2)), 4, rows)
    with pytest.raises(ModelError, match="at least 2"):
        cut(tower(), 2, {"x": np.ones((1, 4), np.float32)})


def test_a_wrong_chain_is_seen():
    right = {"y": np.ones((2, 1), np.float32)}
    for wrong in (right["y"] + 1e-3, np.ones((2, 2), np.float32), right["y"] * np.nan):
        with pytest.raises(ParityError):
            check_equal({"y": wrong.astype(np.float32)}, right, Tolerance(1e-6, 1e-6))


@pytest.fixture
def repository(tmp_path):
    """Entries `scale` (x → t) and `model` (t → y), which are to be chained."""
    random = np.random.default_rng(3)
    pq.write_table(
        pa.table({f"f{n}": random.normal(size=50).astype(np.float32) for n in range(4)}),
        tmp_path / "rows.parquet",
    )
    export(tmp_path, "scale", named(tower((4, 4)), {"y": "t"}))
    export(tmp_path, "model", named(tower((4, 3, 1)), {"x": "t"}))
    return tmp_path


def named(model, names):
    for port in (*model.graph.input, *model.graph.output):
        port.name = names.get(port.name, port.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return model


def export(folder, name, model, **options):
    onnx.save(model, str(folder / "m.onnx"))
    (first,) = (port.name for port in model.graph.input)
    return export_onnx(
        folder / "m.onnx", name=name, sample=folder / "rows.parquet",
        repository=folder / "r", input_map=[f"{first}=f*"], **options,
    )  # fmt: skip


def test_a_pipeline_pins_its_steps_and_stores_their_answers(repository):
    done = export_pipeline("both", ["scale", "model"], repository=repository / "r")
    assert done.golden_rows == 50
    assert not errors_of(lint_repository(repository / "r", has_gpu=False))
    golden = pq.read_table(done.entry / "golden.parquet")
    assert golden.column_names == ["f0", "f1", "f2", "f3", "expected.y"]
    again = export_pipeline("both", ["scale", "model"], repository=repository / "r")
    assert (again.version, again.published) == (done.version, False)


def test_a_step_that_goes_on_keeps_the_pinned_version_loaded(repository):
    done = export_pipeline("both", ["scale", "model"], repository=repository / "r")
    other = tower((4, 3, 1))
    other.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 3), np.float32), "w0"))
    new = export(repository, "model", named(other, {"x": "t"}))
    config = from_text((new.entry / "config.pbtxt").read_text())
    assert list(config.version_policy.specific.versions) == [done.steps[1][1], new.version]
    assert not errors_of(lint_repository(repository / "r", has_gpu=False))
    newer = export_pipeline("both", ["scale", "model"], repository=repository / "r")
    assert newer.steps[1][1] == new.version
    with pytest.raises(OutputError, match="roll it back first"):
        rollback(repository / "r", "model")
    assert rollback(repository / "r", "both").version == done.version
    assert not errors_of(lint_repository(repository / "r", has_gpu=False))


def test_a_step_with_other_tensors_names_the_pipeline_that_holds_it(repository):
    done = export_pipeline("both", ["scale", "model"], repository=repository / "r")
    held = done.steps[1][1]
    with pytest.raises(ModelError, match=rf"both to {held}.*another --name"):
        export(repository, "model", named(tower((4, 3, 2)), {"x": "t"}))


def test_stages_are_entries_that_an_ensemble_chains(repository):
    done = export(repository, "deep", tower(), stages=3, stage_gpus=(0, 1, 1))
    assert any("3 stages" in note for note in done.notes)
    names = sorted(path.name for path in (repository / "r").iterdir())
    stages = [name for name in names if name.startswith("deep.stage")]
    assert len(stages) == 3
    assert not errors_of(lint_repository(repository / "r"))
    placed = [
        from_text((repository / "r" / name / "config.pbtxt").read_text()).instance_group[0].gpus[:]
        for name in stages
    ]
    assert placed == [[0], [1], [1]]
    assert not export(repository, "deep", tower(), stages=3, stage_gpus=(0, 1, 1)).published
    with pytest.raises(OptionError, match="one each"):
        export(repository, "deep", tower(), stages=3, stage_gpus=(0,))


def test_a_pipeline_of_what_is_not_there_is_refused(repository):
    with pytest.raises(OutputError, match="no entry 'gone'"):
        export_pipeline("both", ["scale", "gone"], repository=repository / "r")
    with pytest.raises(OptionError, match="cannot name"):
        export_pipeline("both", ["scale", "../model"], repository=repository / "r")


def test_shared_inputs_must_be_alike():
    one, other = (
        step("a", ["x"], ["t"], columns=("c",)),
        step("b", ["t", "x"], ["y"], columns=("d",)),
    )
    with pytest.raises(ContractError, match="differs from that of an earlier step"):
        connect([one, other], {})
    other = replace(other, contract=replace(other.contract, inputs=(*other.contract.inputs[:1],)))
    assert connect([one, other], {}).inputs == one.contract.inputs
