"""What a server says of one model, made from its metadata and, where it tells it, its config."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tritonclient.grpc import model_config_pb2, service_pb2

from tritonbulk.contract import (
    CONTRACT_PARAMETER,
    Contract,
    InputTensor,
    OutputTensor,
    datatype,
)
from tritonbulk.errors import ModelError

_VALUE_NEUTRAL = (
    "instance_group",
    "dynamic_batching",
    "model_warmup",
    "response_cache",
    "version_policy",
)


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One version of one model, as a server describes it.

    Attributes:
        name: the model's name.
        version: the version that requests pin; "" if the server names none.
        max_batch_size: rows a request may have; 0 if the server states no limit.
        inputs: input tensors with the shape of one row; optional ones are left out.
        outputs: output tensors with the shape of one row.
        contract: from the model's configuration; None if it carries none.
        config_digest: see `config_digest`.
        instances: how many may execute at once; 0 if the server does not say. Servers that differ
            in it serve the same model.
        priority_levels: of the model's queue, 0 if it has none; None if the server does not say.
    """

    name: str
    version: str
    max_batch_size: int
    inputs: tuple[InputTensor, ...]
    outputs: tuple[OutputTensor, ...]
    contract: Contract | None
    config_digest: str = ""
    instances: int = field(default=0, compare=False)
    priority_levels: int | None = field(default=None, compare=False)


def config_digest(config: service_pb2.ModelConfigResponse | None) -> str:
    """Return ``sha256:`` and the hex digest of a configuration; "" for None.

    What changes no value is left out: how many instances there are, how requests are queued and
    put together, what is sent to warm up, which other versions are loaded. What instances run on is
    not: a GPU's answers are not a CPU's to the last bit.
    """
    if config is None:
        return ""
    kept = type(config.config)()
    kept.CopyFrom(config.config)
    for name in _VALUE_NEUTRAL:
        kept.ClearField(name)
    for kind, *profile in _devices(config.config):
        kept.instance_group.add(kind=kind, profile=profile)
    data = kept.SerializeToString(deterministic=True)
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _devices(config: model_config_pb2.ModelConfig) -> list[tuple[Any, ...]]:
    """Return each kind of device, with its profiles, that a model runs on, but the automatic."""
    groups = {(group.kind, *group.profile) for group in config.instance_group}
    return sorted(groups - {(model_config_pb2.ModelInstanceGroup.KIND_AUTO,)})


def describe(
    metadata: service_pb2.ModelMetadataResponse,
    config: service_pb2.ModelConfigResponse | None,
    version: str | None,
) -> ServedModel:
    """Return the model that a server described.

    Args:
        metadata: answer to ModelMetadata.
        config: answer to ModelConfig; None where the server does not know the call.
        version: the version asked for; None takes the newest that is ready.

    Raises:
        ModelError: the model cannot be scored by rows; a retry does not help.
    """
    settings = config.config if config is not None else None
    if settings is not None and settings.model_transaction_policy.decoupled:
        raise ModelError(
            f"model {metadata.name!r} is decoupled (any number of answers a request), which cannot "
            "be scored row by row; serve a version of it that answers once"
        )
    if settings is not None and settings.HasField("sequence_batching"):
        raise ModelError(
            f"model {metadata.name!r} takes sequences (sequence_batching), whose rows depend on "
            "each other; serve a version of it that scores rows by themselves"
        )
    optional = {entry.name for entry in settings.input if entry.optional} if settings else set()
    inputs = [tensor for tensor in metadata.inputs if tensor.name not in optional]
    for tensor in (*inputs, *metadata.outputs):
        if not tensor.shape or tensor.shape[0] != -1:
            raise ModelError(
                f"tensor {tensor.name!r} of model {metadata.name!r} has no batch dimension (shape "
                f"{list(tensor.shape)}); export the model with a dynamic first dimension"
            )
    return ServedModel(
        name=metadata.name,
        version=version or _newest(metadata.versions),
        max_batch_size=settings.max_batch_size if settings is not None else 0,
        inputs=tuple(InputTensor(t.name, datatype(t.datatype), tuple(t.shape[1:])) for t in inputs),
        outputs=tuple(
            OutputTensor(t.name, datatype(t.datatype), tuple(t.shape[1:])) for t in metadata.outputs
        ),
        contract=_contract(settings),
        config_digest=config_digest(config),
        instances=_instances(settings.instance_group) if settings is not None else 0,
        priority_levels=(
            settings.dynamic_batching.priority_levels if settings is not None else None
        ),
    )


def _instances(groups: Iterable[model_config_pb2.ModelInstanceGroup]) -> int:
    # ``count`` is of each GPU that a group names (model_config.proto).
    return sum(group.count * max(len(group.gpus), 1) for group in groups if not group.passive)


def _newest(versions: Sequence[str]) -> str:
    numbered = [version for version in versions if version.isdecimal()]
    return max(numbered, key=int, default=versions[-1] if versions else "")


def _contract(settings: object) -> Contract | None:
    parameters = getattr(settings, "parameters", {})
    if CONTRACT_PARAMETER not in parameters:
        return None
    return Contract.from_json(parameters[CONTRACT_PARAMETER].string_value)
