"""ONNX Runtime: one distribution, and the provider that was asked for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import onnx
import pytest
from onnx import TensorProto, helper

from tritonbulk.errors import ModelError, PlatformError
from tritonbulk_export.runtime import check_one_onnxruntime, open_session


def installed(*names):
    def version_of(name):
        if name in names:
            return "1.0"
        raise PackageNotFoundError(name)

    return version_of


def identity(kind=TensorProto.FLOAT):
    ports = [helper.make_tensor_value_info(n, kind, ["N", 1]) for n in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])], "g", ports[:1], ports[1:]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("names", [("onnxruntime",), ("onnxruntime-gpu",)])
def test_one_distribution_is_fine(names):
    check_one_onnxruntime(installed(*names))


def test_no_distribution_is_refused():
    with pytest.raises(PlatformError, match="is not installed"):
        check_one_onnxruntime(installed())


def test_two_distributions_are_refused_with_the_commands_that_mend_it():
    with pytest.raises(PlatformError) as error:
        check_one_onnxruntime(installed("onnxruntime", "onnxruntime-gpu"))
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in str(error.value)
    assert "pip install onnxruntime" in str(error.value)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_fell_back_in_silence_is_refused():
    providers = ("CUDAExecutionProvider", "CPUExecutionProvider")
    with pytest.raises(PlatformError, match="asked for CUDAExecutionProvider but fell back"):
        open_session(identity(), providers)


def test_a_tensor_type_that_no_file_holds_is_refused():
    with pytest.raises(ModelError, match="no file column can hold"):
        open_session(identity(TensorProto.BFLOAT16))


def test_a_graph_that_does_not_load_is_refused():
    broken = onnx.ModelProto()
    broken.CopyFrom(identity())
    broken.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match="cannot load the graph"):
        open_session(broken)
