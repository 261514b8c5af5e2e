"""Warm-up requests from golden rows: Triton runs them before it calls the model ready.

A first request of a new size is slow (kernels are chosen, memory is laid out), so sizes 1 and
``max_batch_size`` are run once. Triton repeats the one row of each file to the size of the batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.contract import InputTensor
from tritonbulk_export.spec import Tensors
from tritonbulk_export.wire import wire_bytes

FOLDER = "warmup"
REPEATS = 1


def warm_up_files(
    inputs: Sequence[InputTensor], golden: Tensors, version: int
) -> Mapping[str, bytes]:
    """Return the files of one golden row, by name below the entry's folder ``warmup``.

    The version is part of the name, so that a file never changes while a configuration names it.
    """
    return {
        _file(version, number): wire_bytes(golden[tensor.name][:1])
        for number, tensor in enumerate(inputs)
    }


def set_warm_up(
    config: pb.ModelConfig, inputs: Sequence[InputTensor], golden: Tensors, version: int
) -> None:
    """Let ``config`` run the files of `warm_up_files`, as one row and as a full batch."""
    for rows in sorted({1, config.max_batch_size}):
        sample = config.model_warmup.add(name=f"golden_{rows}", batch_size=rows, count=REPEATS)
        for number, (tensor, port) in enumerate(zip(inputs, config.input, strict=True)):
            data = sample.inputs[tensor.name]
            data.data_type = port.data_type
            data.dims.extend(golden[tensor.name].shape[1:] or (1,))
            data.input_data_file = _file(version, number)


def _file(version: int, number: int) -> str:
    return f"{version}_{number}.bin"
