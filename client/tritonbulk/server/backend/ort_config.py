"""Triton's model configuration against the ONNX graph: what is filled in, and what is refused.

The rules and the texts are those of the official C++ backend (triton-inference-server/
onnxruntime_backend, ``AutoCompleteConfig``, ``ValidateInputs``, ``ValidateOutputs``), so that an
entry that loads here loads in the official container, and one that does not says the same.
Configurations are the JSON form that Triton hands to a backend. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ort_signature import LoadError, Signature, TensorInfo

#: Triton's ``default-max-batch-size``.
DEFAULT_MAX_BATCH_SIZE = 4

_STRING = "TYPE_STRING"

Config = dict[str, Any]


def is_complete(config: Config) -> bool:
    """True if the configuration names its inputs and outputs; nothing is filled in then."""
    return bool(config["input"] or config["batch_input"]) and bool(config["output"])


def complete(config: Config, signature: Signature) -> Config:
    """The fields to set in ``config`` so that it describes the graph.

    Raises:
        LoadError: ``max_batch_size`` is positive but the graph has a fixed first dimension.
    """
    name, max_batch_size = config["name"], config["max_batch_size"]
    fields: Config = {}
    if signature.batchable:
        if max_batch_size == 0:
            max_batch_size = fields["max_batch_size"] = DEFAULT_MAX_BATCH_SIZE
        if max_batch_size > 1 and not {"sequence_batching", "dynamic_batching"} & config.keys():
            fields["dynamic_batching"] = {}
    elif max_batch_size > 0:
        raise LoadError(
            f"autofill failed for model '{name}': model does not support batching while non-zero "
            "max_batch_size is specified"
        )
    batched = max_batch_size > 0
    if not (config["input"] or config["batch_input"]):
        fields["input"] = [_describe(info, batched=batched) for info in signature.inputs]
    if not config["output"]:
        fields["output"] = [_describe(info, batched=batched) for info in signature.outputs]
    return fields


def _describe(info: TensorInfo, *, batched: bool) -> Config:
    dims = list(info.shape[1:] if batched else info.shape)
    described: Config = {"name": info.name, "data_type": info.data_type, "dims": dims or [1]}
    if batched and not dims:
        # Triton has no scalars: [rows] is spoken of as [rows, 1].
        described["reshape"] = {"shape": []}
    return described


def check(config: Config, signature: Signature, numpy_version: str) -> None:
    """Nothing, if the graph can serve what the configuration promises.

    Args:
        config: complete.
        signature: of the graph.
        numpy_version: of the server's environment; strings need one below 2.

    Raises:
        LoadError: names, datatypes or dimensions disagree, or the configuration asks for a feature
            that a Python-based backend cannot offer.
    """
    _refuse_unsupported(config)
    _refuse_strings(config, numpy_version)
    _check_input_count(config, signature)
    known = {info.name: info for info in (*signature.inputs, *signature.optional_inputs)}
    for tensor in config["input"]:
        if tensor.get("optional") and config["max_batch_size"] > 0:
            raise LoadError(
                f"unable to load model '{config['name']}', optional input '{tensor['name']}' is "
                "not supported for models that support batching"
            )
        _check_tensor(config, tensor, known, "input")
    known = {info.name: info for info in signature.outputs}
    for tensor in config["output"]:
        _check_tensor(config, tensor, known, "output")


def _refuse_unsupported(config: Config) -> None:
    ragged = any(tensor.get("allow_ragged_batch") for tensor in config["input"])
    asked = {
        "batch_input": config["batch_input"],
        "batch_output": config["batch_output"],
        "allow_ragged_batch": ragged,
        "sequence_batching.state": config.get("sequence_batching", {}).get("state"),
    }
    for feature, wanted in asked.items():
        if wanted:
            raise LoadError(
                f"unable to load model '{config['name']}', the embedded server does not support "
                f"'{feature}'; use the official Triton container for it"
            )


def _refuse_strings(config: Config, numpy_version: str) -> None:
    strings = [t["name"] for t in config["input"] + config["output"] if t["data_type"] == _STRING]
    if strings and int(numpy_version.split(".", maxsplit=1)[0]) >= 2:
        raise LoadError(
            f"unable to load model '{config['name']}', tensor '{strings[0]}' is {_STRING}: the "
            "embedded server has strings only with numpy < 2 in its environment, and this one has "
            f"numpy {numpy_version}; make that environment with Python 3.11 or 3.12"
        )


def _check_input_count(config: Config, signature: Signature) -> None:
    controls = config.get("sequence_batching", {}).get("control_input", [])
    configured = sum(not tensor.get("optional") for tensor in config["input"]) + len(controls)
    if configured != len(signature.inputs):
        raise LoadError(
            f"unable to load model '{config['name']}', configuration expects {configured} inputs, "
            f"model provides {len(signature.inputs)}"
        )


def _check_tensor(config: Config, tensor: Config, known: dict[str, TensorInfo], role: str) -> None:
    model, name, data_type = config["name"], tensor["name"], tensor["data_type"]
    info = known.get(name)
    if info is None:
        raise LoadError(
            f"unable to load model '{model}', unexpected inference {role} '{name}', "
            f"allowed {role}s are: {', '.join(sorted(known))}"
        )
    if data_type != info.data_type:
        raise LoadError(
            f"unable to load model '{model}', configuration expects datatype {data_type} "
            f"for {role} '{name}', model provides {info.data_type}"
        )
    dims = tensor["reshape"]["shape"] if "reshape" in tensor else tensor["dims"]
    _check_dims(config, info, [int(size) for size in dims], exact=role == "output")


def _check_dims(config: Config, info: TensorInfo, dims: Sequence[int], *, exact: bool) -> None:
    tensor = f"model '{config['name']}', tensor '{info.name}'"
    batched = config["max_batch_size"] > 0
    if not info.shape and not batched:
        if any(size != 1 for size in dims):
            raise LoadError(
                f"unable to load model '{config['name']}', scalar tensor '{info.name}', should "
                "only provide 1 in the model configuration when the model doesn't support "
                f"batching. Model configuration provided: {_text(dims)}."
            )
        return
    if batched and info.shape[:1] != (-1,):
        raise LoadError(
            f"{tensor}: for the model to support batching the shape should have at least 1 "
            "dimension and the first dimension must be -1; but shape expected by the model is "
            f"{_text(info.shape)}"
        )
    configured = (-1, *dims) if batched else tuple(dims)
    fits = len(configured) == len(info.shape) and all(
        size == given or (size == -1 and not exact)
        for size, given in zip(info.shape, configured, strict=True)
    )
    if not fits:
        batch_note = (
            "an initial batch dimension because max_batch_size > 0 followed by the explicit "
            "tensor shape, making complete shape "
            if batched
            else "shape "
        )
        raise LoadError(
            f"{tensor}: the model expects {len(info.shape)} dimensions (shape {_text(info.shape)}) "
            f"but the model configuration specifies {len(configured)} dimensions "
            f"({batch_note}{_text(configured)})"
        )


def _text(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
