"""A server whose models answer what they were asked, and that shares memory with everyone."""

import pytest

from tests.live.transport.wire import (
    WIDE,
    open_server,
)

TWO_MODEL = """
import time
import numpy as np
import triton_python_backend_utils as pb_utils

def answer(request):
    x = pb_utils.get_input_tensor_by_name(request, "x").as_numpy()
    n = pb_utils.get_input_tensor_by_name(request, "n").as_numpy()
    if (n == -1).any():
        error = pb_utils.TritonError("minus one is bad", pb_utils.TritonError.INVALID_ARG)
        return pb_utils.InferenceResponse([], error=error)
    if (n == -2).any():
        time.sleep(0.6)
    outputs = [pb_utils.Tensor("y", x * np.float32(2)), pb_utils.Tensor("m", n + 1)]
    return pb_utils.InferenceResponse(outputs)

class TritonPythonModel:
    def execute(self, requests):
        return [answer(request) for request in requests]
"""
TWO_CONFIG = """
backend: "python"
max_batch_size: 64
input { name: "x" data_type: TYPE_FP32 dims: 8 }
input { name: "n" data_type: TYPE_INT64 dims: 1 }
output { name: "y" data_type: TYPE_FP32 dims: 8 }
output { name: "m" data_type: TYPE_INT64 dims: 1 }
instance_group { count: 2 kind: KIND_CPU }
"""
SAME_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        inputs = [request.inputs()[0] for request in requests]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("y", tensor.as_numpy())])
            for tensor in inputs
        ]
"""
HALF_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        # NumPy has no BF16, so as_numpy() cannot give it.
        inputs = [request.inputs()[0] for request in requests]
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("y", tensor)])
            for tensor in inputs
        ]
"""
SAME_CONFIG = """
backend: "python"
max_batch_size: 64
input {{ name: "x" data_type: {0} dims: {1} }}
output {{ name: "y" data_type: {0} dims: {1} }}
instance_group {{ count: 1 kind: KIND_CPU }}
"""


@pytest.fixture(scope="package")
def models(tmp_path_factory, write_python):
    """A repository whose models answer what they were asked, so that a mix-up shows."""
    folder = tmp_path_factory.mktemp("models")
    write_python(folder / "two", TWO_MODEL, TWO_CONFIG)
    write_python(folder / "text", SAME_MODEL, SAME_CONFIG.format("TYPE_STRING", 1))
    write_python(folder / "wide", SAME_MODEL, SAME_CONFIG.format("TYPE_FP32", WIDE))
    write_python(folder / "half", HALF_MODEL, SAME_CONFIG.format("TYPE_BF16", 2))
    write_python(folder / "free", SAME_MODEL, SAME_CONFIG.format("TYPE_FP32", -1))
    return folder


@pytest.fixture(scope="package")
def server(models):
    with open_server(models) as server:
        yield server
