"""Whatever the bytes of a model file are, what comes of it is a model or a sentence."""

from __future__ import annotations

import os

import numpy as np
import onnx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tritonbulk.errors import TritonbulkError
from tritonbulk_export.graph import model_files, read_model, repair
from tritonbulk_export.names import NAME_LENGTH_MAX, plain_names
from tritonbulk_export.targets import RELEASES

FULL = os.environ.get("TRITONBULK_TEST_FULL") == "1"


def whole():
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in "xy"]
    weight = numpy_helper.from_array(np.arange(16, dtype=np.float32).reshape(4, 4), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    external = model.graph.initializer[0].external_data.add()
    external.key, external.value = "location", "w.bin"
    return model.SerializeToString()


WHOLE = whole()
CHANGES = st.lists(
    st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=6
)


@settings(max_examples=5000 if FULL else 300, deadline=None)
@given(CHANGES, st.integers(0, 3), st.sampled_from(list(RELEASES)))
def test_a_damaged_file_is_a_model_or_one_sentence(tmp_path_factory, changes, cut, tag):
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    folder = tmp_path_factory.getbasetemp()
    path = folder / "damaged.onnx"
    path.write_bytes(bytes(data[: len(data) - cut]))
    outcome = outcome_of(path, RELEASES[tag])
    if isinstance(outcome, TritonbulkError):
        assert "\n" not in str(outcome)
        assert outcome.exit_code in {2, 4}
    else:
        assert outcome.ir_version <= RELEASES[tag].ir_max
        assert not any(tensor.external_data for tensor in outcome.graph.initializer)


def outcome_of(path, release):
    """Return the published model, or the error that refuses it; nothing else may be raised."""
    try:
        files = model_files(repair(read_model(path), release).graph)
    except TritonbulkError as error:
        return error
    return onnx.load_from_string(files["model.onnx"])


@given(st.lists(st.text(min_size=1, max_size=200), min_size=2, max_size=5, unique=True))
@example(["y:0", "y", "y_2"])
@example(["\n", "..", "0"])
def test_new_names_are_plain_and_differ_from_all_others(names):
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"]) for name in names]
    nodes = [helper.make_node("Identity", [names[0]], [name]) for name in names[1:]]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    renamed = plain_names(graph)
    final = [renamed.get(name, name) for name in names]
    assert len(set(final)) == len(names)
    for name in renamed.values():
        assert name.isascii()
        assert "\n" not in name
        assert "/" not in name
        assert len(name) <= NAME_LENGTH_MAX + 10
