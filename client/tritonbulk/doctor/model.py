"""Model: what a served configuration means for bulk scoring. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2

from tritonbulk.doctor.finding import Finding

_GPU = model_config_pb2.ModelInstanceGroup.KIND_GPU


def judge_model(
    about: str, settings: model_config_pb2.ModelConfig | None, instances: int
) -> Iterator[Finding]:
    """Yield what is to be said of batching, queue and instances of a model.

    Args:
        about: the endpoint.
        settings: the model's configuration; None where the server keeps it to itself.
        instances: how many may execute at once; 0 if the server does not say.
    """
    if settings is None:
        yield Finding(
            "batching",
            "unknown",
            about,
            "the server keeps the model's configuration to itself",
            "give the header that opens model-config, or trust whoever runs it",
        )
        return
    yield _batching(about, settings)
    yield _queue(about, settings)
    if settings.HasField("ensemble_scheduling"):
        return
    gpus = any(group.kind == _GPU for group in settings.instance_group)
    text = f"{instances} instance{'' if instances == 1 else 's'} on {'GPUs' if gpus else 'CPUs'}"
    if instances:
        yield Finding(
            "instances",
            "ok",
            about,
            text,
            "tritonbulk bench measures whether a second one pays" if instances == 1 else "",
        )


def _batching(about: str, settings: model_config_pb2.ModelConfig) -> Finding:
    largest = settings.max_batch_size
    if largest <= 1 and not settings.HasField("ensemble_scheduling"):
        return Finding(
            "batching",
            "warning",
            about,
            f"max_batch_size is {largest}: rows are not batched by the server",
            "export the model with a dynamic first dimension, and give it a max_batch_size",
        )
    if settings.HasField("ensemble_scheduling"):
        return Finding(
            "batching", "ok", about, f"an ensemble of up to {largest:,} rows; its steps batch"
        )
    if not settings.HasField("dynamic_batching"):
        return Finding(
            "batching",
            "warning",
            about,
            f"no dynamic batching: requests of fewer than {largest:,} rows execute alone",
            "add dynamic_batching { } to config.pbtxt",
        )
    return Finding("batching", "ok", about, f"dynamic batches of up to {largest:,} rows")


def _queue(about: str, settings: model_config_pb2.ModelConfig) -> Finding:
    """Judge the queue policy.

    Any policy makes tritonserver 2.51 stall while full batches wait, since it turns off prefetching
    (triton-inference-server/server#8870; docs/design.md has our figures). core#509 mends it; in
    which release is not known. So neither a queue without a bound nor one with it is all right.
    """
    batching = settings.dynamic_batching
    policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
    has_policy = batching.HasField("default_queue_policy") or batching.priority_queue_policy
    if has_policy or batching.priority_levels:
        bounds = [each.max_queue_size for each in policies if each.max_queue_size]
        how = f"of at most {min(bounds):,} requests" if bounds else "without a bound"
        return Finding(
            "queue",
            "warning",
            about,
            f"a queue policy or priorities, {how}; tritonserver 2.51, and others until core#509, "
            "then stall for tenths of a second while full batches wait",
            "measure with tritonbulk bench, with and without it; leave it out where it costs",
        )
    return Finding(
        "queue",
        "ok",
        about,
        "the queue has no bound, which is the faster way: this client bounds what it has in flight",
        "other clients are not bounded by it; if they are many, see --queue-policy of export",
    )
