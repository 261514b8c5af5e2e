"""Which repository entries the `onnxruntime` backend loads, what it fills in, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

pytestmark = pytest.mark.live

BASE = 'backend: "onnxruntime" instance_group { count: 1 kind: KIND_CPU } '
X = 'input { name: "x" data_type: TYPE_FP32 dims: 4 } '
Y = 'output { name: "y" data_type: TYPE_FP32 dims: 4 } '
ENDS = f"max_batch_size: 8 {X}{Y}"
TWICE = "g (float[n,4] x) => (float[n,4] y) { y = Add(x, x) }"
FIXED = "g (float[2,4] x) => (float[2,4] y) { y = Add(x, x) }"
SCALAR = "g (float x) => (float y) { y = Add(x, x) }"
#: A scalar index takes a row out of a table; an index of shape [1] takes a table of one row.
ROW = "g (int64 x) => (float[2] y) <float[2,2] table = {1, 2, 3, 4}> { y = Gather(table, x) }"
ROW_SUMS = (
    "g (float[n,4] x) => (float[n] y, float[n,4] z) <int64[1] axis = {1}>"
    "{ y = ReduceSum<keepdims = 0>(x, axis) z = Identity(x) }"
)
STEP = "g (float[4] x, float[1] step = {1}) => (float[4] y) { y = Add(x, step) }"
BFLOAT16 = "g (bfloat16[n,4] x) => (bfloat16[n,4] y) { y = Identity(x) }"
PIECES = "g (float[n,4] x) => (seq(float[m,4]) y) { y = SplitToSequence(x) }"


def entry(model: str, config: str = "") -> dict[str, str]:
    return {"config.pbtxt": BASE + config, "1/model.onnx": model}


def scale(factor: int) -> str:
    return f"g (float[n,4] x) => (float[n,4] y) <float f = {{{factor}}}> {{ y = Mul(x, f) }}"


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }} '


def accelerators(**names: str) -> str:
    asked = " ".join(f'{kind}_execution_accelerator {{ name: "{n}" }}' for kind, n in names.items())
    return f"optimization {{ execution_accelerators {{ {asked} }} }}"


SERVED = {
    "no_config": {"1/model.onnx": ROW_SUMS},
    "platform_only": {"config.pbtxt": 'platform: "onnxruntime_onnx"', "1/model.onnx": TWICE},
    "backend_only": entry(TWICE),
    "fixed": entry(FIXED),
    "scalar": entry(SCALAR),
    "row": entry(ROW),
    "larger_batch": entry(TWICE, "max_batch_size: 64"),
    "batch_of_one": entry(TWICE, "max_batch_size: 1"),
    "other_file": {
        "config.pbtxt": BASE + 'default_model_filename: "other.onnx"',
        "1/other.onnx": TWICE,
    },
    "in_folder": {"config.pbtxt": BASE, "1/model.onnx/model.onnx": TWICE},
    "pinned": {
        "config.pbtxt": BASE + "version_policy { specific { versions: [1, 3] } }",
        **{f"{version}/model.onnx": scale(version) for version in (1, 2, 3)},
    },
    "warm": entry(
        TWICE,
        ENDS + 'model_warmup { name: "w" batch_size: 8 inputs { key: "x" '
        "value { data_type: TYPE_FP32 dims: 4 zero_data: true } } }",
    ),
    "two": {
        "config.pbtxt": 'backend: "onnxruntime" instance_group { count: 2 kind: KIND_CPU }',
        "1/model.onnx": TWICE,
    },
    "step": entry(
        STEP, X + Y + 'input { name: "step" data_type: TYPE_FP32 dims: 1 optional: true }'
    ),
    "tuned": entry(
        TWICE,
        parameter("intra_op_thread_count", "2")
        + parameter("inter_op_thread_count", "2")
        + parameter("execution_mode", "1")
        + parameter("enable_mem_arena", "0")
        + parameter("enable_mem_pattern", "false")
        + parameter("session.use_device_allocator_for_initializers", "1")
        + parameter("nobody_knows_this", "7")
        + "optimization { graph { level: 2 } }",
    ),
    "shrinking": entry(TWICE, parameter("memory.enable_memory_arena_shrinkage", "cpu:0")),
    "accelerated": entry(TWICE, accelerators(gpu="tensorrt", cpu="openvino")),
}

#: Entries that must not load, and the server's reason.
REFUSED = {
    "no_file": ({"config.pbtxt": BASE + ENDS, "1/other.onnx": TWICE}, "unable to find '"),
    "no_batches": (
        entry(FIXED, "max_batch_size: 8"),
        "autofill failed for model 'no_batches': model does not support batching while non-zero",
    ),
    "other_input": (
        entry(TWICE, ENDS.replace('"x"', '"n"')),
        "unexpected inference input 'n', allowed inputs are: x",
    ),
    "other_output": (
        entry(TWICE, ENDS.replace('"y"', '"n"')),
        "unexpected inference output 'n', allowed outputs are: y",
    ),
    "other_type": (
        entry(TWICE, Y + X.replace("FP32", "FP64")),
        "configuration expects datatype TYPE_FP64 for input 'x', model provides TYPE_FP32",
    ),
    "other_dims": (
        entry(TWICE, f"max_batch_size: 8 {X}{Y.replace('4', '5')}"),
        "the model expects 2 dimensions (shape [-1,4]) but the model configuration specifies",
    ),
    "optional_in_batches": (
        entry(
            STEP.replace("float[4]", "float[n,4]"),
            ENDS + 'input { name: "step" data_type: TYPE_FP32 dims: 1 optional: true }',
        ),
        "optional input 'step' is not supported for models that support batching",
    ),
    "ragged": (
        entry(TWICE, ENDS.replace("dims: 4 }", "dims: 4 allow_ragged_batch: true }", 1)),
        "does not support 'allow_ragged_batch'",
    ),
    "bfloat16": (entry(BFLOAT16), "unsupported datatype tensor(bfloat16) for I/O 'x'"),
    "pieces": (entry(PIECES), "Unsupported ONNX Type 'ONNX_TYPE_SEQUENCE' for I/O 'y'"),
    "execution_mode": (
        entry(TWICE, parameter("execution_mode", "2")),
        "Expected values for  execution_mode are 0 or 1 but got 2 .",
    ),
    "many_threads": (
        entry(TWICE, parameter("intra_op_thread_count", "many")),
        "failed to convert 'many' to an integer",
    ),
    "abacus": (
        entry(TWICE, accelerators(cpu="abacus")),
        "unknown Execution Accelerator 'abacus' is requested",
    ),
    "operators": (
        entry(TWICE, 'model_operations { op_library_filename: "/nowhere/ops.so" }'),
        "/nowhere/ops.so",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def backend(serve: Callable[..., Any]) -> Any:
    return serve({**SERVED, **{name: files for name, (files, _) in REFUSED.items()}})


@pytest.mark.parametrize("name", SERVED)
def test_the_entry_loads(backend: Any, name: str) -> None:
    assert not backend.refusals[name]


@pytest.mark.parametrize("name", REFUSED)
def test_the_entry_is_refused_with_the_reason(backend: Any, name: str) -> None:
    assert REFUSED[name][1] in backend.refusals[name]


def test_without_a_configuration_it_is_made_from_the_onnx_file(backend: Any) -> None:
    config = backend.config("no_config")
    assert config.max_batch_size == 4
    assert config.HasField("dynamic_batching")
    assert [(x.name, list(x.dims)) for x in config.input] == [("x", [4])]
    y, z = config.output
    assert (list(y.dims), list(z.dims)) == ([1], [4])
    assert y.HasField("reshape")
    assert not y.reshape.shape
    assert not z.HasField("reshape")


def test_a_scalar_for_each_row_is_sent_as_a_column(backend: Any) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    answer = backend.score("no_config", x=x)
    assert answer["y"].tolist() == x.sum(axis=1, keepdims=True).tolist()
    assert answer["z"].tolist() == x.tolist()


@pytest.mark.parametrize(
    "name",
    ["platform_only", "backend_only", "other_file", "in_folder", "two", "tuned", "shrinking"],
)
def test_the_entry_scores_twice_over(backend: Any, name: str) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for _ in range(2):
        assert backend.score(name, x=x)["y"].tolist() == (2 * x).tolist()


def test_a_fixed_first_dimension_is_no_batch(backend: Any) -> None:
    config = backend.config("fixed")
    assert (config.max_batch_size, list(config.input[0].dims)) == (0, [2, 4])
    assert not config.HasField("dynamic_batching")
    x = np.ones((2, 4), np.float32)
    assert backend.score("fixed", x=x)["y"].tolist() == (2 * x).tolist()


def test_a_given_batch_limit_is_kept_when_the_rest_is_filled_in(backend: Any) -> None:
    config = backend.config("larger_batch")
    assert config.max_batch_size == 64
    assert config.HasField("dynamic_batching")
    assert not backend.config("batch_of_one").HasField("dynamic_batching")


def test_a_scalar_model_takes_and_gives_one_element(backend: Any) -> None:
    assert backend.score("scalar", x=np.array([21], np.float32))["y"].tolist() == [42.0]
    assert backend.score("row", x=np.array([1]))["y"].tolist() == [3.0, 4.0]


def test_the_version_policy_says_which_versions_answer(backend: Any) -> None:
    x = np.ones((1, 4), np.float32)
    for version in (1, 3):
        answer = backend.infer("pinned", {"x": x}, model_version=str(version))
        assert answer["y"].tolist() == [[version] * 4]
    with pytest.raises(InferenceServerException, match="version 2"):
        backend.infer("pinned", {"x": x}, model_version="2")


def test_each_instance_is_started(backend: Any) -> None:
    log = backend.log_path.read_text()
    assert all(f"TRITONBACKEND_ModelInstanceInitialize: two_0_{each} " in log for each in (0, 1))


def test_warm_up_runs_before_the_first_request(backend: Any) -> None:
    assert {each.batch_size for each in backend.statistics("warm").batch_stats} == {8}


def test_an_optional_input_may_be_left_out(backend: Any) -> None:
    x = np.arange(4, dtype=np.float32)
    assert backend.score("step", x=x)["y"].tolist() == (x + 1).tolist()
    assert backend.score("step", x=x, step=np.array([5], np.float32))["y"].tolist() == [5, 6, 7, 8]


def test_an_accelerator_that_is_not_there_is_noted_and_the_model_runs(backend: Any) -> None:
    x = np.ones((1, 4), np.float32)
    assert backend.score("accelerated", x=x)["y"].tolist() == [[2.0] * 4]
    assert "model 'accelerated' asks for tensorrt, openvino" in backend.log_path.read_text()
