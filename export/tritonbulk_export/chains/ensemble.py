"""An ensemble: which steps it has, how their tensors are connected, and its configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.contract import CONTRACT_PARAMETER, Contract, InputTensor, OutputTensor
from tritonbulk.errors import ContractError, OptionError
from tritonbulk_export.config import DIGEST_PARAMETER, Described, port_of
from tritonbulk_export.serving import BatchSize

STEPS_MAX = 64


@dataclass(frozen=True, slots=True)
class Step:
    """One model of a chain, before it is connected.

    Attributes:
        contract: of its entry; inputs that no earlier step gives need columns, or get none.
        version: that the chain asks for, and no other.
        max_batch_size: of its entry; 0: it does not batch.
    """

    contract: Contract
    version: int
    max_batch_size: int


@dataclass(frozen=True, slots=True)
class Link:
    """One model of a chain with its tensors connected.

    Attributes:
        model: name of the entry.
        version: that is asked for.
        inputs: tensor of the chain by input of the model.
        outputs: tensor of the chain by output of the model.
    """

    model: str
    version: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Chain:
    """Connected steps, and what they take and give together.

    Attributes:
        links: in the order of the steps.
        inputs: that no step gives.
        outputs: that no step takes.
    """

    links: tuple[Link, ...]
    inputs: tuple[InputTensor, ...]
    outputs: tuple[OutputTensor, ...]


def connect(steps: Sequence[Step], connections: Mapping[str, str]) -> Chain:
    """Return ``steps`` connected: an input takes the last earlier output of its name.

    Args:
        steps: in the order of the data.
        connections: ``step.input`` → ``step.output``, where names differ; steps by the names of
            their entries.

    Raises:
        OptionError: a connection names what is not there. No retry.
        ContractError: two ends do not fit, or nothing is connected. No retry.
    """
    if not 1 < len(steps) <= STEPS_MAX:
        raise OptionError(f"a chain has 2 to {STEPS_MAX} steps, not {len(steps)}")
    given: dict[str, tuple[str, OutputTensor]] = {}
    by_place: dict[str, tuple[str, OutputTensor]] = {}
    taken: set[str] = set()
    free: dict[str, InputTensor] = {}
    links: list[Link] = []
    unused = dict(connections)
    for number, step in enumerate(steps):
        model = step.contract.model
        inputs = {}
        for tensor in step.contract.inputs:
            wanted = unused.pop(f"{model}.{tensor.name}", None)
            source = given.get(tensor.name) if wanted is None else by_place.get(wanted)
            if wanted is not None and source is None:
                raise OptionError(f"no step before {model} gives {wanted!r}; name it STEP.OUTPUT")
            if source is not None:
                _check_ends(source, model, tensor)
                inputs[tensor.name] = source[0]
                taken.add(source[0])
            else:
                inputs[tensor.name] = tensor.name
                free[tensor.name] = _same(free.get(tensor.name), tensor, model)
        if number and not set(inputs.values()) & {name for name, _ in given.values()}:
            raise ContractError(
                f"{model} takes nothing that a step before it gives; connect it with --connect "
                f"{model}.INPUT=STEP.OUTPUT"
            )
        outputs = {}
        for output in step.contract.outputs:
            name = _free_name(output.name, model, {*free, *(name for name, _ in by_place.values())})
            outputs[output.name] = name
            given[output.name] = by_place[f"{model}.{output.name}"] = (name, output)
        links.append(Link(model, step.version, inputs, outputs))
    if unused:
        raise OptionError(f"--connect {next(iter(unused))}: no step has that input")
    ends = tuple(
        replace(output, name=name) for name, output in by_place.values() if name not in taken
    )
    return Chain(tuple(links), tuple(free.values()), ends)


def _same(there: InputTensor | None, tensor: InputTensor, model: str) -> InputTensor:
    """Return the input that two steps share, columns included."""
    if there is None or not there.columns:
        return tensor
    if (there.datatype, there.shape) != (tensor.datatype, tensor.shape) or (
        tensor.columns and tensor.columns != there.columns
    ):
        raise ContractError(
            f"input {tensor.name!r} of {model} differs from that of an earlier step; export one of "
            "them with another name"
        )
    return there


def _free_name(name: str, model: str, taken: set[str]) -> str:
    return name if name not in taken else f"{model}.{name}"


def _check_ends(source: tuple[str, OutputTensor], model: str, tensor: InputTensor) -> None:
    output = source[1]
    is_alike = len(output.shape) == len(tensor.shape) and all(
        a == b or -1 in (a, b) for a, b in zip(output.shape, tensor.shape, strict=True)
    )
    if output.datatype != tensor.datatype or not is_alike:
        raise ContractError(
            f"{source[0]!r} is {output.datatype.name} {list(output.shape)}, and {model} takes "
            f"{tensor.datatype.name} {list(tensor.shape)}; export one of the models again"
        )


def chain_digest(steps: Sequence[Step]) -> str:
    """Return the digest of a chain: of its models' names, versions and digests."""
    lines = [f"{s.contract.model} {s.version} {s.contract.digest}\n" for s in steps]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


def batch_size(steps: Sequence[Step]) -> BatchSize:
    """Return the batch size of a chain: the smallest of its steps."""
    rows = min((step.max_batch_size for step in steps if step.max_batch_size), default=0)
    if not rows:
        raise ContractError("no step batches; export them with a max_batch_size")
    return BatchSize(rows, "the smallest of the steps", is_asked=False)


def ensemble_config(
    contract: Contract, version: int, batch: BatchSize, links: Sequence[Link]
) -> Described:
    """Return the configuration of an ensemble."""
    config = pb.ModelConfig(
        name=contract.model,
        platform="ensemble",
        max_batch_size=batch.rows,
        input=[port_of(pb.ModelInput, tensor) for tensor in contract.inputs],
        output=[port_of(pb.ModelOutput, tensor) for tensor in contract.outputs],
    )
    config.version_policy.specific.versions.append(version)
    for link in links:
        step = config.ensemble_scheduling.step.add(
            model_name=link.model, model_version=link.version
        )
        step.input_map.update(link.inputs)
        step.output_map.update(link.outputs)
    config.parameters[CONTRACT_PARAMETER].string_value = contract.to_json()
    config.parameters[DIGEST_PARAMETER].string_value = contract.digest.removeprefix("sha256:")
    return Described(
        config,
        {
            "max_batch_size": f"{batch.rows}: {batch.reason}",
            "ensemble_scheduling": "each step by its version: what was proved is what is run",
            "instance_group": "none: each step has its own instances, queue and batches, so that "
            "all of them work at the same time",
        },
    )
