"""Repair: each known defect of an exporter is mended, or refused with the reason."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tritonbulk.errors import ModelError
from tritonbulk_export.graph import model_files, renamed, repair, with_output_shapes
from tritonbulk_export.names import plain_names
from tritonbulk_export.runtime import open_session


def repaired(given, *options):
    return repair(given, *options).graph


def serialized(graph):
    return model_files(graph)["model.onnx"]


def port(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(nodes, inputs, outputs, opset=20, ir=10, constants=(), domains=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(constants))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(*d) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir)


def relu(shape=("N", 2), **options):
    node = helper.make_node("Relu", ["x"], ["y"], name="relu")
    return model([node], [port("x", shape)], [port("y", shape)], **options)


def dims(value):
    return [d.dim_param or d.dim_value or None for d in value.type.tensor_type.shape.dim]


@pytest.mark.parametrize("shape", [("N", 2), (1, 2), (None, 2), ("unk__1", 2)])
def test_the_first_dimension_becomes_the_batch(shape):
    graph = repaired(relu(shape)).graph
    assert dims(graph.input[0]) == ["batch", 2]
    assert dims(graph.output[0]) == ["batch", 2]


def test_two_imports_of_one_domain_become_one():
    doubled = relu()
    doubled.opset_import.append(helper.make_opsetid("ai.onnx", 18))
    assert [(o.domain, o.version) for o in repaired(doubled).opset_import] == [("", 20)]


def zipmap():
    nodes = [
        helper.make_node("Softmax", ["x"], ["p"]),
        helper.make_node(
            "ZipMap", ["p"], ["probabilities"], domain="ai.onnx.ml", classlabels_int64s=[0, 1]
        ),
    ]
    element = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    mapping = helper.make_map_type_proto(TensorProto.INT64, element)
    output = helper.make_value_info("probabilities", helper.make_sequence_type_proto(mapping))
    return model(nodes, [port("x", ["N", 2])], [output], domains=[("ai.onnx.ml", 1)])


def test_zipmap_outputs_become_tensors():
    (output,) = open_session(repaired(zipmap())).outputs
    assert output.datatype.name == "FP32"


def test_initialisers_are_no_inputs():
    weight = numpy_helper.from_array(np.ones((2, 2), np.float32), "w")
    old = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [port("x", ["N", 2]), port("w", [2, 2])],
        [port("y", ["N", 2])],
        constants=[weight],
        ir=3,
    )
    assert [value.name for value in repaired(old).graph.input] == ["x"]
    assert [value.name for value in open_session(repaired(old)).inputs] == ["x"]


def test_what_exporters_write_for_people_is_gone():
    noisy = relu()
    noisy.graph.name = "5f0c2f"
    noisy.producer_version = "1.2.3"
    noisy.doc_string = "made in /home/me"
    noisy.graph.node[0].doc_string = "File /home/me/model.py, line 3"
    helper.set_model_props(noisy, {"who": "me"})
    node_note = noisy.graph.node[0].metadata_props.add()
    node_note.key, node_note.value = "stack_trace", "/home/me"
    assert serialized(repaired(noisy)) == serialized(repaired(relu()))
    assert b"me" not in serialized(repaired(noisy)).replace(b"name", b"")


def test_notes_inside_subgraphs_are_gone_and_their_values_renamed():
    def branch(name, operator):
        node = helper.make_node(operator, ["23"], [name], doc_string="/home/me")
        return helper.make_graph([node], name, [], [port(name, None)])

    chosen = helper.make_node(
        "If", ["flag"], ["y"], then_branch=branch("t", "Relu"), else_branch=branch("e", "Neg")
    )
    flag = numpy_helper.from_array(np.array([True]), "flag")
    nested = model([chosen], [port("23", ["N", 2])], [port("y", ["N", 2])], constants=[flag])
    names = plain_names(nested.graph)
    assert names == {"23": "input_23"}
    mended = repaired(renamed(nested, names))
    assert b"/home/me" not in serialized(mended)
    x = np.array([[-1.0, 2.0]], np.float32)
    assert open_session(mended).run({"input_23": x})["y"].tolist() == [[0.0, 2.0]]


@pytest.mark.parametrize(
    ("name", "plain"),
    [("23", "output_23"), ("Identity:0", "Identity"), ("logits", "logits"), (":0", "output")],
)
def test_anonymous_outputs_get_plain_names(name, plain):
    node = helper.make_node("Relu", ["x"], [name])
    graph = model([node], [port("x", ["N", 2])], [port(name, ["N", 2])]).graph
    assert plain_names(graph).get(name, name) == plain


def test_a_plain_name_never_takes_that_of_another_value():
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["y:0"])]
    graph = model(nodes, [port("x", ["N", 2])], [port("y:0", ["N", 2])]).graph
    assert plain_names(graph) == {"y:0": "y_2"}


def test_a_newer_opset_and_ir_are_lowered_to_what_triton_knows():
    lowered = repaired(relu(opset=26, ir=13))
    assert lowered.opset_import[0].version == 22
    assert lowered.ir_version == 10
    x = np.array([[-1.0, 2.0]], np.float32)
    assert open_session(lowered).run({"x": x})["y"].tolist() == [[0.0, 2.0]]


def test_an_older_opset_stays():
    assert repaired(relu(opset=13, ir=7)).opset_import[0].version == 13


def test_an_operator_that_cannot_be_lowered_is_refused_with_the_reason():
    # Attention came with opset 23.
    node = helper.make_node("Attention", ["x", "x", "x"], ["y"], q_num_heads=1, kv_num_heads=1)
    shape = ["N", 3, 4]
    with pytest.raises(
        ModelError, match=r"opset 24, Triton 25\.06 knows up to 22, and Attention y cannot"
    ):
        repaired(model([node], [port("x", shape)], [port("y", shape)], opset=24))


def test_a_newer_ml_domain_that_no_operator_needs_is_lowered_by_number():
    lowered = repaired(relu(domains=[("ai.onnx.ml", 6)]))
    assert [(o.domain, o.version) for o in lowered.opset_import] == [("", 20), ("ai.onnx.ml", 5)]


def test_a_scalar_has_no_batch_and_is_refused():
    with pytest.raises(ModelError, match="is a scalar"):
        repaired(relu(()))


def test_an_input_without_a_shape_is_refused():
    with pytest.raises(ModelError, match="no declared shape"):
        repaired(relu(None))


def test_a_graph_without_inputs_is_refused():
    constant = helper.make_node("Constant", [], ["y"], value_float=1.0)
    with pytest.raises(ModelError, match="no inputs"):
        repaired(model([constant], [], [port("y", [1])]))


def test_a_graph_that_the_checker_refuses_is_refused():
    broken = relu()
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="checker refuses"):
        with_output_shapes(repaired(broken), {"y": (2,)})


def test_observed_output_shapes_replace_the_declared_ones():
    wrong = relu()
    wrong.graph.output[0].CopyFrom(port("y", [1]))
    declared, notes = with_output_shapes(repaired(wrong), {"y": (2, -1)})
    assert notes == ["output 'y' was declared [batch]; it is [batch, 2, -1]"]
    assert dims(declared.graph.output[0]) == ["batch", 2, None]


def test_the_input_model_is_not_changed():
    given = zipmap()
    before = onnx.ModelProto()
    before.CopyFrom(given)
    repaired(given)
    assert given == before
