"""config.pbtxt: its text, its formulas, and what it says to Triton."""

from __future__ import annotations

import pytest

from tritonbulk.contract import (
    CONTRACT_PARAMETER,
    Column,
    Contract,
    InputTensor,
    OutputTensor,
    datatype,
    row_bytes,
)
from tritonbulk.errors import OptionError
from tritonbulk_export.config import (
    default_max_batch_size,
    from_text,
    model_config,
    to_text,
)

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
    text = to_text(model_config(CONTRACT, 202611230701123456, 64))
    escaped = CONTRACT.to_json().replace('"', '\\"')
    assert text == GOLDEN.replace("CONTRACT", escaped)


def test_the_contract_comes_back_out_of_the_text():
    config = from_text(to_text(model_config(CONTRACT, 1, 64)))
    text = config.parameters[CONTRACT_PARAMETER].string_value
    assert Contract.from_json(text) == CONTRACT


def test_the_batcher_is_on_and_has_no_queue_policy_which_would_make_it_stall():
    config = model_config(CONTRACT, 1, 64)
    assert config.HasField("dynamic_batching")
    assert not config.dynamic_batching.HasField("default_queue_policy")


def test_no_kind_is_given_so_that_triton_takes_the_gpu_where_there_is_one():
    (group,) = model_config(CONTRACT, 1, 64).instance_group
    assert group.count == 1
    assert group.kind == group.KIND_AUTO


@pytest.mark.parametrize("rows", [0, -1])
def test_a_batch_size_below_one_is_refused(rows):
    with pytest.raises(OptionError, match="below 1"):
        model_config(CONTRACT, 1, rows)


def test_bytes_of_a_row_count_open_dimensions_and_texts():
    assert row_bytes(CONTRACT.inputs) == 2 * 4 + 64 + 8
    assert row_bytes(CONTRACT.outputs) == 8 + 256 * 4


@pytest.mark.parametrize(
    ("floats", "rows"),
    [(1, 4096), (512, 4096), (513, 2048), (150_528, 8), (2**20, 8)],
)
def test_the_default_batch_is_the_largest_power_of_two_within_8_mib(floats, rows):
    assert default_max_batch_size([InputTensor("x", FP32, (floats,))]) == rows
