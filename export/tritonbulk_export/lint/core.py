"""Rules of Triton's core for a configuration (core ``model_config_utils.cc``), but for tensors."""

from __future__ import annotations

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk_export.lint.backends import ENSEMBLE, ONNXRUNTIME, PLATFORMS, TENSORRT
from tritonbulk_export.lint.rules import Finding, found

MESSAGE_BYTES_MAX = 2**31 - 1
_FIXED_BYTES = {
    "BOOL": 1,
    "STRING": 4,
    "BF16": 2,
    **{f"{kind}{bits}": bits // 8 for kind in ("INT", "UINT", "FP") for bits in (8, 16, 32, 64)},
}


def check_configuration(
    config: pb.ModelConfig, place: str, backend: str, *, has_gpu: bool | None
) -> Iterator[Finding]:
    """Yield what is wrong with one configuration.

    Args:
        config: as written.
        place: what findings call it.
        backend: see `backend_of`.
        has_gpu: whether the server has a GPU; None if that is not known.
    """
    if config.backend and config.platform and backend != ENSEMBLE:
        expected = PLATFORMS.get(config.platform)
        if expected != config.backend and (expected or config.backend in PLATFORMS.values()):
            yield found("C211", place, f"{config.platform} with {config.backend}")
    if config.max_batch_size < 0:
        yield found("C201", f"{place} max_batch_size", str(config.max_batch_size))
    yield from _check_dynamic(config, place, backend)
    if config.HasField("sequence_batching"):
        yield from _check_sequence(config, f"{place} sequence_batching")
    if backend != ENSEMBLE:
        yield from _check_instances(config, place, backend, has_gpu)
    yield from _check_cache(config, f"{place} response_cache")
    if config.model_transaction_policy.decoupled and backend == ONNXRUNTIME:
        yield found("C223", f"{place} model_transaction_policy", "decoupled")
    for agent in config.model_repository_agents.agents:
        yield found("C224", f"{place} model_repository_agents", f"agent {agent.name!r}")
    for metric in config.model_metrics.metric_control:
        if not (
            metric.HasField("metric_identifier")
            and metric.metric_identifier.family
            and metric.histogram_options.buckets
        ):
            yield found(
                "C222", f"{place} model_metrics", metric.metric_identifier.family or "empty"
            )
    yield from _check_size(config, f"{place} max_batch_size")


def _check_dynamic(config: pb.ModelConfig, place: str, backend: str) -> Iterator[Finding]:
    if not config.HasField("dynamic_batching"):
        return
    batching, place = config.dynamic_batching, f"{place} dynamic_batching"
    yield from _check_preferred(config, batching.preferred_batch_size, place)
    if batching.preferred_batch_size and backend != TENSORRT:
        yield found("C217", place, f"preferred {list(batching.preferred_batch_size)}")
    if config.max_batch_size in (0, 1):
        yield found("C214", place, f"max_batch_size {config.max_batch_size}")
    levels = batching.priority_levels
    if levels and not 1 <= batching.default_priority_level <= levels:
        detail = f"default {batching.default_priority_level} of {levels} levels"
        yield found("C204", place, detail)
    for level in batching.priority_queue_policy:
        if levels and not 1 <= level <= levels:
            yield found("C205", place, f"level {level} of {levels}")
    if batching.preserve_ordering and (
        levels > 1 or any(map(_delays, [batching.default_queue_policy, *_by_level(batching)]))
    ):
        yield found("C206", place, "preserve_ordering")
    yield from _check_policies(batching, place)


def _check_policies(batching: pb.ModelDynamicBatching, place: str) -> Iterator[Finding]:
    policies = list(_by_level(batching))
    if batching.HasField("default_queue_policy"):
        policies.append(batching.default_queue_policy)
    if policies or batching.priority_levels:
        yield found("C215", place, "a queue policy" if policies else "priority levels")
    for policy in policies:
        if policy.allow_timeout_override and not policy.default_timeout_microseconds:
            yield found("C216", place, "allow_timeout_override without a default")


def _by_level(batching: pb.ModelDynamicBatching) -> Iterator[pb.ModelQueuePolicy]:
    yield from batching.priority_queue_policy.values()


def _delays(policy: pb.ModelQueuePolicy) -> bool:
    return bool(
        policy.default_timeout_microseconds and policy.timeout_action == pb.ModelQueuePolicy.DELAY
    )


def _check_preferred(config: pb.ModelConfig, sizes: list[int], place: str) -> Iterator[Finding]:
    for size in sizes:
        if size <= 0:
            yield found("C202", place, f"preferred_batch_size {size}")
        elif size > config.max_batch_size:
            detail = f"preferred_batch_size {size} of at most {config.max_batch_size}"
            yield found("C203", place, detail)


def _check_sequence(config: pb.ModelConfig, place: str) -> Iterator[Finding]:
    batching = config.sequence_batching
    kinds = pb.ModelSequenceBatching.Control
    seen: list[int] = []
    names = [control.name for control in batching.control_input]
    if "" in names or len(set(names)) < len(names):
        yield found("C212", place, "a control tensor without a name, or two of one name")
    for control in (each for tensor in batching.control_input for each in tensor.control):
        values = (control.int32_false_true, control.fp32_false_true, control.bool_false_true)
        given = sum(bool(each) for each in values)
        wanted = 0 if control.kind == kinds.CONTROL_SEQUENCE_CORRID else 1
        name = kinds.Kind.Name(control.kind)
        if given != wanted:
            yield found("C212", place, f"{name} has {given} of its false_true pairs")
        if control.kind in seen:
            yield found("C212", place, f"{name} twice")
        seen.append(control.kind)
    yield from _check_preferred(config, batching.oldest.preferred_batch_size, place)
    if not 0 <= batching.direct.minimum_slot_utilization <= 1:
        yield found("C212", place, "minimum_slot_utilization is not between 0 and 1")


def _check_instances(
    config: pb.ModelConfig, place: str, backend: str, has_gpu: bool | None
) -> Iterator[Finding]:
    if not config.instance_group and backend == ONNXRUNTIME:
        yield found("C218", place, "no instance_group")
    for number, group in enumerate(config.instance_group):
        at = f"{place} instance_group[{number}]"
        kind = pb.ModelInstanceGroup.Kind.Name(group.kind)
        if group.gpus and kind in ("KIND_CPU", "KIND_MODEL"):
            yield found("C207", at, f"{kind} with gpus {list(group.gpus)}")
        if kind == "KIND_GPU" and has_gpu is False:
            yield found("C208", at, kind)
        if group.count < 1 and kind != "KIND_MODEL":
            yield found("C213", at, f"count {group.count}")
        if group.profile and (
            backend != TENSORRT or not all(each.isdigit() for each in group.profile)
        ):
            yield found("C209", at, f"profile {list(group.profile)}")


def _check_cache(config: pb.ModelConfig, place: str) -> Iterator[Finding]:
    if not config.response_cache.enable:
        return
    if config.HasField("sequence_batching") or config.model_transaction_policy.decoupled:
        yield found("C210", place, "sequence batching, or decoupled responses")
    else:
        yield found("C219", place, "the cache is on")


def _check_size(config: pb.ModelConfig, place: str) -> Iterator[Finding]:
    for ports in (config.input, config.output):
        row_bytes = 0
        for port in ports:
            size = _FIXED_BYTES.get(pb.DataType.Name(port.data_type).removeprefix("TYPE_"), 1)
            for dimension in port.dims:
                size *= max(dimension, 1)
            row_bytes += size
        if config.max_batch_size * row_bytes > MESSAGE_BYTES_MAX:
            yield found("C221", place, f"{config.max_batch_size} rows of {row_bytes} bytes")
            return
