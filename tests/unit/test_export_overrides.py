"""Overrides: typed by Triton's own description, merged, and never for what the model decides."""

from __future__ import annotations

import pytest
from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.errors import InputError, OptionError
from tritonbulk_export.overrides import apply_overrides, read_overrides


def applied(tmp_path, text, config=None):
    path = tmp_path / "o.toml"
    path.write_text(text)
    config = config or pb.ModelConfig()
    apply_overrides(config, read_overrides(path), "o.toml")
    return config


def test_tables_merge_lists_replace_and_parameters_are_texts(tmp_path):
    config = pb.ModelConfig(max_batch_size=8)
    config.instance_group.add(count=1)
    config.instance_group.add(count=2)
    config.dynamic_batching.max_queue_delay_microseconds = 7
    config.parameters["kept"].string_value = "1"
    text = """
        max_batch_size = 512
        instance_group = [{ count = 3, kind = "KIND_CPU" }]
        [dynamic_batching]
        preserve_ordering = true
        [dynamic_batching.priority_queue_policy.2]
        max_queue_size = 9
        [optimization.graph]
        level = -1
        [optimization.execution_accelerators]
        gpu_execution_accelerator = [{ name = "cuda", parameters = { use_tf32 = "0" } }]
        [parameters]
        intra_op_thread_count = "2"
    """
    config = applied(tmp_path, text, config)
    (group,) = config.instance_group
    assert (config.max_batch_size, group.count, group.kind) == (512, 3, group.KIND_CPU)
    assert config.dynamic_batching.max_queue_delay_microseconds == 7
    assert config.dynamic_batching.preserve_ordering
    assert config.dynamic_batching.priority_queue_policy[2].max_queue_size == 9
    assert config.optimization.graph.level == -1
    (accelerator,) = config.optimization.execution_accelerators.gpu_execution_accelerator
    assert accelerator.parameters["use_tf32"] == "0"
    assert config.parameters["intra_op_thread_count"].string_value == "2"
    assert config.parameters["kept"].string_value == "1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('max_batch_size = "8"', "whole number"),
        ("max_batch_size = 8.0", "whole number"),
        ("max_batch_size = true", "whole number"),
        ("max_batch_size = 3000000000", "whole number"),
        ("max_batch_size = -3", "not between 1 and 1,048,576"),
        ("max_batch_size = 0", "not between 1 and 1,048,576"),
        ("instance_group = [{ count = -1 }]", "instance_group.0..count -1 is not between"),
        ("[model_transaction_policy]\ndecoupled = true", "decoupled models cannot be scored"),
        ("[sequence_batching]\nmax_sequence_idle_microseconds = 1", "cannot be overridden"),
        ('[model_repository_agents]\nagents = [{ name = "x" }]', "cannot be overridden"),
        ("max_batchsize = 8", "no field"),
        ("[dynamic_batching]\ndelay = 1", "dynamic_batching.delay is no field"),
        ("dynamic_batching = 1", "is a table"),
        ("instance_group = 2", "is a list"),
        ('instance_group = [{ kind = "KIND_TPU" }]', "is one of"),
        ("instance_group = [{ kind = 1 }]", "of type text"),
        ("[parameters]\nintra_op_thread_count = 2", "is a text"),
        ('[parameters]\ntritonbulk_contract = "{}"', "written by export alone"),
        ('name = "other"', "--name decides it"),
        ('backend = "python"', "cannot be overridden"),
        ("[version_policy.latest]\nnum_versions = 1", "publishing and rollback"),
        ("[dynamic_batching]\nmax_queue_delay_microseconds = -1", "whole number"),
        ("[dynamic_batching.priority_queue_policy.x]\nmax_queue_size = 1", "whole number"),
    ],
)
def test_what_is_unknown_of_another_type_or_not_for_users_is_refused(tmp_path, text, words):
    with pytest.raises(OptionError, match=words):
        applied(tmp_path, text)


@pytest.mark.parametrize("text", ["= 1", "\x00", "a = [" * 3000])
def test_what_is_no_toml_is_refused(tmp_path, text):
    with pytest.raises(InputError, match="cannot be read"):
        applied(tmp_path, text)


def test_a_whole_number_may_stand_for_a_float(tmp_path):
    config = applied(
        tmp_path, "model_metrics.metric_control = [{ histogram_options.buckets = [1] }]"
    )
    (control,) = config.model_metrics.metric_control
    assert control.histogram_options.buckets == [1.0]
