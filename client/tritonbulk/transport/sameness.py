"""Sameness: whether servers serve one model, and in words what differs. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from tritonbulk.contract import InputTensor, OutputTensor
from tritonbulk.transport.served_model import ServedModel


def differences(models: Sequence[ServedModel]) -> list[str]:
    """Return for each model, in words, its values of what is not the same in all; "" if all is.

    Digests are told only where nothing else says what differs.
    """
    facts = [_facts(model) for model in models]
    for kept in facts, [_digests(model) for model in models]:
        names = dict.fromkeys(name for each in kept for name in each)
        varied = [name for name in names if len({each.get(name, "none") for each in kept}) > 1]
        if varied:
            return [
                ", ".join(f"{name} {each.get(name, 'none')}" for name in varied) for each in kept
            ]
    return [""] * len(models)


def difference(model: ServedModel, other: ServedModel) -> str:
    """Return in words what a model has instead of what another one has."""
    own, others = differences([model, other])
    return f"{own}, not {others}"


def mixture(models: Mapping[str, ServedModel]) -> str:
    """Return who serves what, in words; "" if all serve the same.

    Args:
        models: by the address of the server.
    """
    distinct: list[ServedModel] = []
    for model in models.values():
        if model not in distinct:
            distinct.append(model)
    if len(distinct) <= 1:
        return ""
    return "; ".join(
        f"{words} at {', '.join(address for address, each in models.items() if each == model)}"
        for model, words in zip(distinct, differences(distinct), strict=True)
    )


def _facts(model: ServedModel) -> dict[str, str]:
    return {
        "version": model.version or "none",
        "max_batch_size": str(model.max_batch_size),
        **{f"input {each.name!r}": _kind(each) for each in model.inputs},
        **{f"output {each.name!r}": _kind(each) for each in model.outputs},
    }


def _digests(model: ServedModel) -> dict[str, str]:
    contract = model.contract.to_json() if model.contract is not None else ""
    return {
        "contract": hashlib.sha256(contract.encode()).hexdigest()[:12] if contract else "none",
        "configuration": model.config_digest.removeprefix("sha256:")[:12] or "none",
    }


def _kind(tensor: InputTensor | OutputTensor) -> str:
    return f"{tensor.datatype.name}{list(tensor.shape)}"
