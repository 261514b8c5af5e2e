"""Model configurations completed from a graph's signature, checked against it, read for options."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tritonbulk.server

# As tritonserver does for the process that runs the backend.
sys.path.append(str(Path(tritonbulk.server.__file__).parent / "backend"))
signature = importlib.import_module("ort_signature")
config = importlib.import_module("ort_config")
options = importlib.import_module("ort_options")


def node(name: str, kind: str, *shape: int | str | None) -> SimpleNamespace:
    return SimpleNamespace(name=name, type=f"tensor({kind})", shape=list(shape))


ROWS = signature.read_signature([node("x", "float", "n", 4)], [], [node("y", "int64", None)])
FIXED = signature.read_signature([node("x", "float", 2, 4)], [], [node("y", "float")])


def configured(**fields: Any) -> dict[str, Any]:
    """A configuration as Triton hands it over: every list there, nothing said."""
    empty: dict[str, Any] = {"input": [], "output": [], "batch_input": [], "batch_output": []}
    group = [{"count": 1, "kind": "KIND_CPU"}]
    base = {"name": "m", "max_batch_size": 0, "parameters": {}, "instance_group": group}
    return {**base, **empty, **fields}


def parameters(**values: str) -> dict[str, Any]:
    return configured(parameters={key: {"string_value": value} for key, value in values.items()})


X = {"name": "x", "data_type": "TYPE_FP32", "dims": ["4"]}
Y = {"name": "y", "data_type": "TYPE_INT64", "dims": ["1"], "reshape": {"shape": []}}
PAIR = {"name": "y", "data_type": "TYPE_FP32", "dims": ["2"]}


def test_a_batchable_graph_gets_a_limit_of_four_and_a_batcher() -> None:
    assert config.complete(configured(), ROWS) == {
        "max_batch_size": 4,
        "dynamic_batching": {},
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}],
        "output": [{**Y, "dims": [1]}],
    }


def test_a_graph_that_is_not_batchable_is_described_whole() -> None:
    assert config.complete(configured(), FIXED) == {
        "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [2, 4]}],
        "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
    }


def test_what_is_given_stays() -> None:
    fields = config.complete(configured(input=[X], max_batch_size=7, sequence_batching={}), ROWS)
    assert fields.keys() == {"output"}
    assert "dynamic_batching" not in config.complete(configured(max_batch_size=1), ROWS)


def test_only_inputs_and_outputs_together_are_complete() -> None:
    assert config.is_complete(configured(input=[X], output=[Y]))
    assert not config.is_complete(configured(input=[X]))
    assert not config.is_complete(configured(output=[Y]))


def test_a_completed_configuration_passes_the_check() -> None:
    for graph in (ROWS, FIXED):
        empty = configured()
        config.check({**empty, **config.complete(empty, graph)}, graph, "1.26.4")


@pytest.mark.parametrize(
    ("graph", "fields", "text"),
    [
        (ROWS, {"input": [X, X]}, "configuration expects 2 inputs, model provides 1"),
        (FIXED, {"output": [PAIR]}, "scalar tensor 'y'"),
        (FIXED, {"max_batch_size": 8, "input": [X]}, "the first dimension must be -1"),
        (ROWS, {"input": [{**X, "dims": ["5"]}]}, "(shape [-1,4]) but the model configuration"),
        (ROWS, {"output": [{**Y, "reshape": {"shape": ["1"]}}]}, "the model expects 1 dimensions"),
        (ROWS, {"batch_input": [{}]}, "does not support 'batch_input'"),
        (ROWS, {"sequence_batching": {"state": [{}]}}, "'sequence_batching.state'"),
    ],
)
def test_what_does_not_fit_the_graph_is_refused(
    graph: Any, fields: dict[str, Any], text: str
) -> None:
    completed = {**configured(), **config.complete(configured(), graph), **fields}
    with pytest.raises(signature.LoadError) as refused:
        config.check(completed, graph, "1.26.4")
    assert text in str(refused.value)


def test_an_input_may_be_narrower_than_the_graph_allows_but_an_output_may_not() -> None:
    graph = signature.read_signature(
        [node("x", "float", "n", "m")], [], [node("y", "float", "n", "m")]
    )
    x, y = ({"name": name, "data_type": "TYPE_FP32", "dims": ["4"]} for name in "xy")
    whole = {**y, "dims": ["-1"]}
    config.check(configured(max_batch_size=8, input=[x], output=[whole]), graph, "1.26.4")
    with pytest.raises(signature.LoadError, match="tensor 'y'"):
        config.check(configured(max_batch_size=8, input=[x], output=[y]), graph, "1.26.4")


def test_strings_need_numpy_1() -> None:
    graph = signature.read_signature([node("s", "string", "n")], [], [node("t", "string", "n")])
    completed = {**configured(), **config.complete(configured(), graph)}
    config.check(completed, graph, "1.26.4")
    with pytest.raises(signature.LoadError, match=r"strings only with numpy < 2.*numpy 2\.4\.6"):
        config.check(completed, graph, "2.4.6")


def test_types_without_a_triton_type_are_refused() -> None:
    with pytest.raises(signature.LoadError, match=r"unsupported datatype tensor\(bfloat16\)"):
        signature.read_signature([node("x", "bfloat16", 1)], [], [])
    pieces = SimpleNamespace(name="p", type="seq(tensor(float))", shape=[])
    with pytest.raises(signature.LoadError, match="ONNX_TYPE_SEQUENCE"):
        signature.read_signature([], [], [pieces])


def test_options_have_the_names_of_the_official_backend() -> None:
    asked = parameters(intra_op_thread_count="3", execution_mode="1", enable_mem_arena="False")
    read = options.read_options({**asked, "optimization": {"graph": {"level": -1}}})
    assert (read.intra_op_threads, read.parallel, read.mem_arena) == (3, True, False)
    assert (read.graph_level, read.mem_pattern, read.run_rows_max) == (-1, None, 1024)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("execution_mode", "3", "Expected values for  execution_mode are 0 or 1 but got 3 ."),
        ("inter_op_thread_count", "two", "failed to convert 'two' to an integer"),
        ("enable_mem_arena", "maybe", "failed to convert 'maybe' to boolean"),
        ("simulate_ms", "8", "expected milliseconds 'a,b', got '8'"),
    ],
)
def test_a_value_without_a_meaning_is_refused(key: str, value: str, text: str) -> None:
    with pytest.raises(signature.LoadError) as refused:
        options.read_options(parameters(**{key: value}))
    assert text in str(refused.value)


def test_an_instance_gets_its_share_of_the_cores() -> None:
    groups = [{"count": 2}, {"count": 1}]
    assert options.default_threads(configured(instance_group=groups), cores=8) == 2
    assert options.default_threads(configured(instance_group=groups), cores=2) == 1
