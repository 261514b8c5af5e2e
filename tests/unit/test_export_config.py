"""config.pbtxt: its text, its formulas, and what it says to Triton."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tritonbulk.bench.configuration import with_variant
from tritonbulk.bench.setting import Variant
from tritonbulk.cli.bench import command as bench_command
from tritonbulk.contract import (
    CONTRACT_PARAMETER,
    Column,
    Contract,
    InputTensor,
    OutputTensor,
    datatype,
    row_bytes,
)
from tritonbulk.errors import InputError, ModelError, OptionError
from tritonbulk_export import tuning
from tritonbulk_export.accelerators import GPU_KEYS
from tritonbulk_export.config import (
    comments_of,
    default_max_batch_size,
    from_text,
    model_config,
)
from tritonbulk_export.serving import BatchSize, Serving
from tritonbulk_export.tuning import read_bench

FP32, INT64, BYTES = datatype("FP32"), datatype("INT64"), datatype("BYTES")
CONTRACT = Contract(
    model="tiny",
    digest="sha256:" + "ab" * 32,
    inputs=(
        InputTensor("x", FP32, (2,), (Column("a"), Column("b", null="nan"))),
        InputTensor("kind", BYTES, (1,), (Column("kind"),)),
        InputTensor("n", INT64, (), (Column("n"),)),
    ),
    outputs=(OutputTensor("label", INT64, ()), OutputTensor("y", FP32, (-1,))),
    source="onnx",
)
GOLDEN = """\
name: "tiny"
version_policy {
  specific {
    versions: 202611230701123456
  }
}
max_batch_size: 64
input {
  name: "x"
  data_type: TYPE_FP32
  dims: 2
}
input {
  name: "kind"
  data_type: TYPE_STRING
  dims: 1
}
input {
  name: "n"
  data_type: TYPE_INT64
  dims: 1
  reshape {
  }
}
output {
  name: "label"
  data_type: TYPE_INT64
  dims: 1
  reshape {
  }
}
output {
  name: "y"
  data_type: TYPE_FP32
  dims: -1
}
instance_group {
  count: 1
}
default_model_filename: "model.onnx"
dynamic_batching {
}
parameters {
  key: "tritonbulk_contract"
  value {
    string_value: "CONTRACT"
  }
}
parameters {
  key: "tritonbulk_sha256"
  value {
    string_value: "abababababababababababababababababababababababababababababababab"
  }
}
backend: "onnxruntime"
"""


def test_the_text_is_the_golden_one():
    text = model_config(CONTRACT, 202611230701123456, BatchSize(64)).text
    comments, text = comments_of(text), text.removeprefix(comments_of(text))
    assert comments.startswith("# Written by tritonbulk export.")
    assert "# max_batch_size: 64: as asked\n" in comments
    escaped = CONTRACT.to_json().replace('"', '\\"')
    assert text == GOLDEN.replace("CONTRACT", escaped)


def test_the_contract_comes_back_out_of_the_text():
    config = from_text(model_config(CONTRACT, 1, BatchSize(64)).text)
    text = config.parameters[CONTRACT_PARAMETER].string_value
    assert Contract.from_json(text) == CONTRACT


def test_the_batcher_is_on_and_has_no_queue_policy_which_would_make_it_stall():
    config = model_config(CONTRACT, 1, BatchSize(64)).config
    assert config.HasField("dynamic_batching")
    assert not config.dynamic_batching.HasField("default_queue_policy")


def test_no_kind_is_given_so_that_triton_takes_the_gpu_where_there_is_one():
    (group,) = model_config(CONTRACT, 1, BatchSize(64)).config.instance_group
    assert group.count == 1
    assert group.kind == group.KIND_AUTO


@pytest.mark.parametrize("rows", [0, -1])
def test_a_batch_size_below_one_is_refused(rows):
    with pytest.raises(OptionError, match="below 1"):
        model_config(CONTRACT, 1, BatchSize(rows))


def test_bytes_of_a_row_count_open_dimensions_and_texts():
    assert row_bytes(CONTRACT.inputs) == 2 * 4 + 64 + 8
    assert row_bytes(CONTRACT.outputs) == 8 + 256 * 4


@pytest.mark.parametrize(
    ("floats", "rows"),
    [(1, 4096), (512, 4096), (513, 2048), (150_528, 8), (2**20, 8)],
)
def test_the_default_batch_is_the_largest_power_of_two_within_8_mib(floats, rows):
    assert default_max_batch_size([InputTensor("x", FP32, (floats,))]) == rows


def test_requests_of_a_known_size_make_the_batch_a_multiple_and_wait_a_little():
    assert default_max_batch_size(CONTRACT.inputs, 100) == 4000
    assert default_max_batch_size(CONTRACT.inputs, 5000) == 5000
    config = model_config(CONTRACT, 1, BatchSize(64), Serving(batch_rows=16)).config
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    config = model_config(CONTRACT, 1, BatchSize(64), Serving(batch_rows=64)).config
    assert config.dynamic_batching.max_queue_delay_microseconds == 0


def test_a_queue_policy_and_priorities_are_written_where_asked_and_only_there():
    serving = Serving(queue_policy=True, priorities=True, in_flight=8)
    batching = model_config(CONTRACT, 1, BatchSize(64), serving).config.dynamic_batching
    policy = batching.default_queue_policy
    assert policy.max_queue_size == 32
    assert policy.default_timeout_microseconds > 0
    assert policy.allow_timeout_override
    assert policy.timeout_action == policy.REJECT
    assert (batching.priority_levels, batching.default_priority_level) == (2, 2)


def test_devices_instances_and_threads_are_as_asked():
    serving = Serving(device="cpu", instances=3, threads=2)
    config = model_config(CONTRACT, 1, BatchSize(64), serving).config
    (group,) = config.instance_group
    assert (group.count, group.kind) == (3, group.KIND_CPU)
    assert config.parameters["intra_op_thread_count"].string_value == "2"


def test_the_tensorrt_accelerator_gets_caches_and_one_profile_of_all_shapes():
    contract = replace(CONTRACT, inputs=CONTRACT.inputs[:1])
    config = model_config(contract, 1, BatchSize(64), Serving(accelerator="tensorrt")).config
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.name == "tensorrt"
    assert accelerator.parameters["trt_profile_min_shapes"] == "x:1x2"
    assert accelerator.parameters["trt_profile_opt_shapes"] == "x:32x2"
    assert accelerator.parameters["trt_profile_max_shapes"] == "x:64x2"
    assert set(accelerator.parameters) <= GPU_KEYS["tensorrt"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"accelerator": "cuda", "accelerator_options": {"fast": "1"}}, "fast is not known"),
        ({"accelerator": "cuda", "device": "cpu"}, "drop one"),
        ({"accelerator_options": {"x": "1"}}, "needs --accelerator"),
        ({"instances": 0}, "--instances 0"),
        ({"queue_delay_us": -1}, "--queue-delay-us"),
    ],
)
def test_serving_that_has_no_meaning_is_refused(asked, words):
    with pytest.raises(OptionError, match=words):
        model_config(CONTRACT, 1, BatchSize(64), Serving(**asked))


def test_a_batch_that_no_message_can_hold_is_refused():
    with pytest.raises(OptionError, match="as many rows"):
        model_config(CONTRACT, 1, BatchSize(1 << 24))


VERDICT = {"max_batch_size": 512, "instances": 2, "queue_delay_us": 0, "in_flight": 8}


def bench_file(path, verdict, form="tritonbulk-bench-1"):
    path.write_text(json.dumps({"format": form, "verdict": verdict}))
    return path


def test_a_bench_result_decides_what_was_not_asked(tmp_path):
    path = bench_file(tmp_path / "b.json", VERDICT)
    tuned = read_bench(path, Serving(queue_policy=True))
    assert tuned.batch == BatchSize(512, "measured by tritonbulk bench")
    assert (tuned.serving.instances, tuned.serving.queue_delay_us) == (2, 0)
    assert (tuned.serving.in_flight, tuned.serving.queue_policy) == (8, True)
    asked = read_bench(path, Serving(instances=3, queue_delay_us=7, in_flight=1)).serving
    assert (asked.instances, asked.queue_delay_us, asked.in_flight) == (3, 7, 1)
    one = read_bench(path, Serving(asked=frozenset({"instances"}))).serving
    assert one.instances == 1


def test_what_is_no_bench_result_is_refused(tmp_path):
    path = tmp_path / "b.json"
    for text in ("", "{}", "[1]", '{"format": "tritonbulk-bench-1"}', "[" * 10_000):
        path.write_text(text)
        with pytest.raises(InputError, match="does not have the figures"):
            read_bench(path, Serving())
    with pytest.raises(InputError, match="cannot be read: No such file") as caught:
        read_bench(tmp_path / "nothere.json", Serving())
    assert "Errno" not in str(caught.value)
    for verdict in (None, {}, {**VERDICT, "instances": "two"}):
        with pytest.raises(InputError, match="no verdict"):
            read_bench(bench_file(path, verdict), Serving())


def test_tuning_asks_bench_with_the_sample_and_takes_its_verdict(tmp_path, monkeypatch):
    asked = []

    def run(command, **options):
        asked.append(command)
        bench_file(Path(command[command.index("--out") + 1]), VERDICT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(tuning.subprocess, "run", run)
    tuned = tuning.run_bench(tmp_path / "r", "m", tmp_path / "rows.parquet", 20, Serving())
    assert tuned.batch.rows == 512
    (command,) = asked
    words = ["bench", str(tmp_path / "rows.parquet"), "--model", "m", "--repository"]
    assert command[3:8] == words
    assert command[command.index("--budget") + 1] == "20s"


def test_a_sweep_that_fails_or_hangs_says_so(tmp_path, monkeypatch):
    def fail(command, **options):
        return subprocess.CompletedProcess(command, 3, "", "tritonbulk: no server\n")

    monkeypatch.setattr(tuning.subprocess, "run", fail)
    with pytest.raises(ModelError, match="no server"):
        tuning.run_bench(tmp_path, "m", tmp_path, 20, Serving())

    def hang(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(tuning.subprocess, "run", hang)
    with pytest.raises(ModelError, match="longer than its 20 s"):
        tuning.run_bench(tmp_path, "m", tmp_path, 20, Serving())


def test_the_command_line_of_tuning_is_one_that_bench_takes(tmp_path):
    context = bench_command.make_context(
        "bench", ["rows", "--model", "m", "--repository", "r", "--budget", "20s", "--out", "b"]
    )
    assert context.params["budget"]


def test_bench_lowers_warm_up_with_the_batch_limit():
    config = model_config(CONTRACT, 1, BatchSize(64)).config
    config.model_warmup.add(name="golden_64", batch_size=64)
    config.model_warmup.add(name="golden_1", batch_size=1)
    base = Variant(max_batch_size=64)
    edited = with_variant(config, replace(base, max_batch_size=16), base)
    assert [sample.batch_size for sample in edited.model_warmup] == [16, 1]
