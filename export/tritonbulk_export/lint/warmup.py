"""Rules of warm-up requests: Triton sends them before a model is ready, and fails with them."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk_export.lint.rules import Finding, found

ELEMENT_BYTES = {
    pb.TYPE_BOOL: 1,
    pb.TYPE_INT8: 1,
    pb.TYPE_UINT8: 1,
    pb.TYPE_INT16: 2,
    pb.TYPE_UINT16: 2,
    pb.TYPE_FP16: 2,
    pb.TYPE_BF16: 2,
    pb.TYPE_INT32: 4,
    pb.TYPE_UINT32: 4,
    pb.TYPE_FP32: 4,
    pb.TYPE_INT64: 8,
    pb.TYPE_UINT64: 8,
    pb.TYPE_FP64: 8,
}
"""Bytes of one element; texts have no fixed number."""


def check_warm_up(config: pb.ModelConfig, place: str, folder: Path) -> Iterator[Finding]:
    """Yield what is wrong with the warm-up requests of one configuration.

    Args:
        config: with its inputs filled in.
        place: what findings call it.
        folder: of the entry, where ``warmup/`` is.
    """
    inputs = {port.name: port for port in config.input}
    for sample in config.model_warmup:
        at = f"{place} model_warmup {sample.name!r}"
        if config.max_batch_size > 0 and sample.batch_size > config.max_batch_size:
            yield found("W601", at, f"{sample.batch_size} of at most {config.max_batch_size}")
        required = {name for name, port in inputs.items() if not port.optional}
        if inputs and (set(sample.inputs) - set(inputs) or required - set(sample.inputs)):
            detail = f"it gives {sorted(sample.inputs)}, the model takes {sorted(inputs)}"
            yield found("W602", at, detail)
        for name, data in sorted(sample.inputs.items()):
            here = f"{at} input {name!r}"
            if name in inputs:
                yield from _check_fit(inputs[name], data, here)
            if data.input_data_file:
                yield from _check_file(data, here, folder)


def _check_fit(port: pb.ModelInput, data: pb.ModelWarmup.Input, at: str) -> Iterator[Finding]:
    if data.data_type != port.data_type:
        yield found("W605", at, pb.DataType.Name(data.data_type))
    elif any(size < 1 for size in data.dims):
        yield found("W605", at, f"dims {list(data.dims)} must be known")
    elif len(data.dims) != len(port.dims) or any(
        wanted not in (-1, given) for wanted, given in zip(port.dims, data.dims, strict=True)
    ):
        yield found("W605", at, f"dims {list(data.dims)} for {list(port.dims)}")


def _check_file(data: pb.ModelWarmup.Input, at: str, folder: Path) -> Iterator[Finding]:
    path = folder / "warmup" / data.input_data_file
    if ".." in Path(data.input_data_file).parts or not path.is_file():
        yield found("W603", at, data.input_data_file)
        return
    element = ELEMENT_BYTES.get(data.data_type)
    wanted = 0 if element is None else element * prod(data.dims)
    if path.stat().st_size < wanted:
        yield found("W604", at, f"{path.stat().st_size} bytes, a row has {wanted}")
