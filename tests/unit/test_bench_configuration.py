"""Configuration: a variant of the server as an edit of Triton's own message."""

from dataclasses import replace

import pytest
from tritonclient.grpc import model_config_pb2

from tritonbulk.bench import configuration
from tritonbulk.bench.setting import Variant
from tritonbulk.errors import InputError

CONFIG = """
max_batch_size: 64
instance_group { count: 2 kind: KIND_GPU gpus: [0, 1] }
instance_group { count: 1 kind: KIND_CPU }
dynamic_batching { preferred_batch_size: [8, 64] max_queue_delay_microseconds: 5 }
"""


def test_a_variant_is_an_edit_of_the_configuration_and_of_nothing_else():
    config = configuration.parse_text(CONFIG, "config.pbtxt")
    base = configuration.variant_of(config, "3")
    assert base == Variant(5, 5, 64, "3")
    assert configuration.with_variant(config, base, base) == config
    edited = configuration.with_variant(config, Variant(9, 100, 32, "4"), base)
    assert [group.count for group in edited.instance_group] == [3, 3]
    assert edited.dynamic_batching.max_queue_delay_microseconds == 100
    assert list(edited.dynamic_batching.preferred_batch_size) == [8]
    assert edited.max_batch_size == 32
    assert list(edited.version_policy.specific.versions) == [4]
    assert configuration.from_json(configuration.to_json(edited)) == edited
    assert configuration.parse_text(configuration.to_text(edited), "x") == edited
    without = configuration.with_variant(config, replace(base, queue_delay_us=-1), base)
    assert not without.HasField("dynamic_batching")


COMMENTED = """# What this entry is.
max_batch_size: 64  # gone, as it stands beside a value

# Why the input is so.
input { name: "x" data_type: TYPE_FP32 dims: 4 }
# Why another.
input {
  # gone, as it stands inside
  name: "z" data_type: TYPE_FP32 dims: 1
}
# Why two.
instance_group { count: 2 }
# The end.
"""


def test_whole_line_comments_stay_before_their_fields():
    config = configuration.parse_text(COMMENTED, "config.pbtxt")
    base = configuration.variant_of(config, "1")
    edited = configuration.with_variant(config, replace(base, max_batch_size=128), base)
    text = configuration.to_text(edited, COMMENTED)
    assert configuration.parse_text(text, "x") == edited
    lines = text.splitlines()
    for comment, field in (
        ("# What this entry is.", "max_batch_size: 128"),
        ("# Why the input is so.", "input {"),
        ("# Why another.", "input {"),
        ("# Why two.", "instance_group {"),
    ):
        assert lines[lines.index(comment) + 1] == field
    assert lines[-1] == "# The end."
    assert "gone" not in text


def test_a_configuration_without_a_group_gets_one():
    config = model_config_pb2.ModelConfig()
    base = configuration.variant_of(config, "1")
    assert base == Variant(0, -1, 0, "1")
    edited = configuration.with_variant(config, replace(base, instances=2), base)
    assert [group.count for group in edited.instance_group] == [2]


def test_broken_configurations_are_refused_with_a_sentence():
    with pytest.raises(InputError, match=r"config\.pbtxt cannot be parsed"):
        configuration.parse_text("nonsense", "config.pbtxt")
    with pytest.raises(InputError, match="no configuration"):
        configuration.from_json("[")
