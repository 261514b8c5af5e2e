"""Overrides: options that are part of a model's configuration, as edits of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Overrides:
    """What is changed in the configuration of every model.

    Attributes:
        instances: how many instances each instance group has; None: as configured.
        cpu: GPU instances become CPU instances, and GPU accelerators are left out.
        queue_delay_us: how long a request may wait for others to make a batch with; -1 turns
            dynamic batching off; None: as configured.
        max_batch_size: rows that one batch may have; None: as configured.
    """

    instances: int | None = None
    cpu: bool = False
    queue_delay_us: int | None = None
    max_batch_size: int | None = None


def override(config: Any, overrides: Overrides) -> None:
    """Apply the overrides to an ``inference.ModelConfig``."""
    if overrides.cpu:
        for group in config.instance_group:
            if group.kind == group.KIND_GPU:
                group.kind = group.KIND_CPU
                group.ClearField("gpus")
        accelerators = config.optimization.execution_accelerators
        if accelerators.gpu_execution_accelerator:  # clearing an empty field would still add it
            accelerators.ClearField("gpu_execution_accelerator")
    if overrides.instances is not None:
        for group in config.instance_group or [config.instance_group.add()]:
            group.count = overrides.instances
    if overrides.queue_delay_us == -1:
        config.ClearField("dynamic_batching")
    elif overrides.queue_delay_us is not None:
        config.dynamic_batching.max_queue_delay_microseconds = overrides.queue_delay_us
    if overrides.max_batch_size is not None:
        _limit(config, overrides.max_batch_size)


def _limit(config: Any, rows: int) -> None:
    """Set how many rows one batch may have, and leave out what Triton would refuse with it."""
    config.max_batch_size = rows
    if config.HasField("dynamic_batching"):
        sizes = config.dynamic_batching.preferred_batch_size
        kept = [size for size in sizes if size <= rows]
        del sizes[:]
        sizes.extend(kept)
    for warm_up in config.model_warmup:
        if warm_up.batch_size > rows > 0:
            warm_up.batch_size = rows
