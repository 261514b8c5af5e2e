"""What the `onnxruntime` backend does with requests: joined, cut, split, answered one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from tritonbulk.server import environment

pytestmark = pytest.mark.live

BASE = 'backend: "onnxruntime" instance_group { count: 1 kind: KIND_CPU } '
#: y = how many rows went through the model together.
RUN_SIZE = (
    "g (float[n,1] x) => (int64[n,1] y)"
    "{ size = Shape<end = 1>(x) shape = Shape(x) y = Expand(size, shape) }"
)
#: y = table[x]; one x outside of the table fails the whole run.
PICK = "g (int64[n,1] x) => (float[n,1] y) <float[3] table = {10, 11, 12}> { y = Gather(table, x) }"
ONE_ROW_LESS = (
    "g (float[n,4] x) => (float[m,4] y) <int64[1] one = {1}, int64[1] end = {9999}>"
    "{ y = Slice(x, one, end) }"
)
TWO_OUTPUTS = "g (float[n,4] x) => (float[n,4] y, float[n,4] z) { y = Add(x, x) z = Neg(x) }"
#: y = x, but 0 at the start of a sequence.
STARTED = (
    "g (float[n,1] x, float[n,1] START) => (float[n,1] y) <float[1] one = {1}>"
    "{ go = Sub(one, START) y = Mul(x, go) }"
)
SEQUENCE = (
    'max_batch_size: 4 input { name: "x" data_type: TYPE_FP32 dims: 1 } '
    'output { name: "y" data_type: TYPE_FP32 dims: 1 } sequence_batching { control_input '
    '{ name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] } } }'
)
EMPTY_AXIS = "g (float[n,m] x) => (float[n,m] y) { y = Identity(x) }"
STRINGS = "g (string[n,1] x) => (string[n,1] y) { y = Identity(x) }"
#: ONNX's name of a type → numpy's.
NUMBERS = {
    "bool": "bool",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
    "int8": "int8",
    "int16": "int16",
    "int32": "int32",
    "int64": "int64",
    "float16": "float16",
    "float": "float32",
    "double": "float64",
}
ALL_TYPES = (
    f"g ({', '.join(f'{each}[n,3] in_{each}' for each in NUMBERS)}) => "
    f"({', '.join(f'{each}[n,3] out_{each}' for each in NUMBERS)}) {{ "
    f"{' '.join(f'out_{each} = Identity(in_{each})' for each in NUMBERS)} }}"
)


def gather(rows: int) -> str:
    """A batcher that waits, for longer than any test, until it has so many rows."""
    return (
        f"max_batch_size: {rows} dynamic_batching {{ preferred_batch_size: {rows} "
        "max_queue_delay_microseconds: 30000000 }"
    )


def parameter(key: str, value: str) -> str:
    return f'max_batch_size: 4096 parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


MODELS = {
    "joined": (RUN_SIZE, gather(4)),
    "pick": (PICK, gather(3)),
    "cut": (RUN_SIZE, "max_batch_size: 4096"),
    "uncut": (RUN_SIZE, parameter("tritonbulk.run_rows_max", "0")),
    "any_width": (RUN_SIZE.replace("int64[n,1]", "int64[n,m]"), "max_batch_size: 4096"),
    "one_row_less": (ONE_ROW_LESS, ""),
    "two_outputs": (TWO_OUTPUTS, ""),
    "slow": (TWO_OUTPUTS, parameter("simulate_ms", "150,50")),
    "types": (ALL_TYPES, ""),
    "strings": (STRINGS, ""),
    "joined_strings": (STRINGS, gather(3)),
    "empty_axis": (EMPTY_AXIS, ""),
    "sequence": (STARTED, SEQUENCE),
}


@pytest.fixture(scope="module")
def backend(serve: Callable[..., Any]) -> Any:
    return serve(
        {
            name: {"config.pbtxt": BASE + config, "1/model.onnx": model}
            for name, (model, config) in MODELS.items()
        }
    )


def zeros(rows: int) -> np.ndarray:
    return np.zeros((rows, 1), np.float32)


def test_requests_run_together_and_each_gets_its_own_rows(backend: Any) -> None:
    sizes = backend.score_together("joined", [zeros(1), zeros(2), zeros(1)])
    assert sizes == [[[4]], [[4], [4]], [[4]]]
    statistics = backend.statistics("joined")
    assert (statistics.inference_count, statistics.execution_count) == (4, 1)


def test_one_bad_request_fails_alone(backend: Any) -> None:
    good, bad, other = backend.score_together("pick", [np.array([[i]]) for i in (0, 7, 2)])
    assert (good, other) == ([[10.0]], [[12.0]])
    assert "out of data bounds" in bad
    assert backend.statistics("pick").execution_count == 1


def test_a_large_batch_runs_in_pieces(backend: Any) -> None:
    sizes = backend.score("cut", x=zeros(2500))["y"].reshape(-1)
    assert sizes.tolist() == [1024] * 2048 + [452] * 452


def test_the_pieces_can_be_switched_off(backend: Any) -> None:
    assert set(backend.score("uncut", x=zeros(2500))["y"].reshape(-1).tolist()) == {2500}


def test_outputs_of_no_fixed_width_come_from_one_run(backend: Any) -> None:
    assert set(backend.score("any_width", x=zeros(2500))["y"].reshape(-1).tolist()) == {2500}


def test_an_output_with_other_rows_than_the_input_is_an_error(backend: Any) -> None:
    with pytest.raises(InferenceServerException, match=r"'y' has shape \[2, 4\] for a batch of 3"):
        backend.score("one_row_less", x=np.zeros((3, 4), np.float32))


def test_only_what_was_asked_for_is_sent(backend: Any) -> None:
    answer = backend.score("two_outputs", wanted=("z",), x=np.ones((2, 4), np.float32))
    assert answer.keys() == {"z"}
    assert answer["z"].tolist() == [[-1.0] * 4] * 2


def test_every_numeric_type_passes_unchanged(backend: Any) -> None:
    random = np.random.default_rng(7)
    sent = {}
    for name, dtype in NUMBERS.items():
        if dtype.startswith("float"):
            sent[name] = random.normal(size=(2, 3)).astype(dtype)
        else:
            high = 2 if dtype == "bool" else np.iinfo(dtype).max
            sent[name] = random.integers(high, size=(2, 3), dtype=np.uint64).astype(dtype)
    answer = backend.score("types", **{f"in_{name}": array for name, array in sent.items()})
    assert len(answer) == len(NUMBERS)
    for name, array in sent.items():
        assert answer[f"out_{name}"].dtype == array.dtype
        assert answer[f"out_{name}"].tolist() == array.tolist()


def test_strings_pass_with_numpy_1_and_are_refused_with_numpy_2(backend: Any) -> None:
    server = environment.info()
    assert server is not None
    if int(server.versions["numpy"].split(".", maxsplit=1)[0]) >= 2:
        assert "strings only with numpy < 2" in backend.refusals["strings"]
        return
    for words in (["zwölf", "", "日本"], ["ab", "c\0", "\0d"], ["", ""]):
        answer = backend.score("strings", x=np.array(words, np.object_).reshape(-1, 1))["y"]
        assert [word.decode() for word in answer.reshape(-1)] == words
    with pytest.raises(InferenceServerException, match="'utf-8' codec can't decode byte 0xff"):
        backend.score("strings", x=np.array([[b"\xff"]], np.object_))


def test_one_bad_string_fails_alone(backend: Any) -> None:
    if backend.refusals["joined_strings"]:
        pytest.skip("numpy 2 in the server's environment: strings are refused")
    words = [np.array([[word]], np.object_) for word in (b"ab", b"\xff", b"longer")]
    good, bad, other = backend.score_together("joined_strings", words)
    assert (good, other) == ([[b"ab"]], [[b"longer"]])
    assert "'utf-8' codec can't decode byte 0xff" in bad
    assert backend.statistics("joined_strings").execution_count == 1


def test_an_axis_may_be_empty(backend: Any) -> None:
    assert backend.score("empty_axis", x=np.empty((2, 0), np.float32))["y"].shape == (2, 0)


def test_a_simulated_execution_takes_at_least_its_time(backend: Any) -> None:
    began_s = time.monotonic()
    backend.score("slow", x=np.zeros((3, 4), np.float32))
    assert time.monotonic() - began_s >= 0.150 + 3 * 0.050


def test_sequence_controls_reach_the_model(backend: Any) -> None:
    x = {"x": np.array([[5]], np.float32)}
    answers = [
        backend.infer("sequence", x, sequence_id=1, sequence_start=start)["y"].tolist()
        for start in (True, False)
    ]
    assert answers == [[[0.0]], [[5.0]]]
