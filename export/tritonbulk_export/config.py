"""``config.pbtxt``: what Triton is told about an entry, by protobuf and never by string templates.

Why each field has its value:

- ``backend`` and ``default_model_filename`` are explicit: Triton's guess looks at the first folder.
- ``dynamic_batching`` is there even though tritonbulk sends full batches: it gives the queue, and
  merges the small requests of others. No preferred sizes and no delay: what waits goes at once.
- There is no queue policy: any bound or time-out in it makes the batcher stall for tenths of a
  second while full batches wait (triton-inference-server/server#8870; figures in
  ``docs/design.md``).
- ``instance_group`` has a count and no kind: Triton then takes the GPU where there is one.
- ``version_policy`` names the version, so a folder that lies there by accident is never served.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.contract import (
    CONTRACT_PARAMETER,
    Contract,
    InputTensor,
    OutputTensor,
    row_bytes,
)
from tritonbulk.errors import OptionError

MODEL_FILE = "model.onnx"
DIGEST_PARAMETER = "tritonbulk_sha256"

REQUEST_BYTES_MAX = 8 << 20
BATCH_ROWS_MIN, BATCH_ROWS_MAX = 8, 4096

Tensors = Sequence[InputTensor | OutputTensor]


def default_max_batch_size(tensors: Tensors) -> int:
    """Return the default of ``max_batch_size``, by a formula and not by a measurement.

    It is the largest power of two whose requests, inputs and outputs together, take at most 8 MiB,
    and at least 8, at most 4096. An open dimension counts as 256, a text as 64 bytes.
    """
    rows = max(REQUEST_BYTES_MAX // max(row_bytes(tensors), 1), 1)
    power = 1 << (rows.bit_length() - 1)
    return min(max(power, BATCH_ROWS_MIN), BATCH_ROWS_MAX)


def model_config(contract: Contract, version: int, max_batch_size: int) -> pb.ModelConfig:
    """Return the configuration of one version of an entry.

    Raises:
        OptionError: ``max_batch_size`` is not positive; a retry does not help.
    """
    if max_batch_size < 1:
        raise OptionError(f"--max-batch-size {max_batch_size} is below 1; give at least 1 row")
    config = pb.ModelConfig(
        name=contract.model,
        backend="onnxruntime",
        default_model_filename=MODEL_FILE,
        max_batch_size=max_batch_size,
        input=[_port(pb.ModelInput, tensor) for tensor in contract.inputs],
        output=[_port(pb.ModelOutput, tensor) for tensor in contract.outputs],
        instance_group=[pb.ModelInstanceGroup(count=1)],
    )
    config.version_policy.specific.versions.append(version)
    config.dynamic_batching.SetInParent()
    config.parameters[CONTRACT_PARAMETER].string_value = contract.to_json()
    config.parameters[DIGEST_PARAMETER].string_value = contract.digest.removeprefix("sha256:")
    return config


def to_text(config: pb.ModelConfig) -> str:
    """Return ``config`` as the text of a ``config.pbtxt``; map entries sorted by key."""
    return str(text_format.MessageToString(config, as_utf8=True))


def from_text(text: str) -> pb.ModelConfig:
    """Return the configuration that ``text`` describes.

    Raises:
        google.protobuf.text_format.ParseError: it is none.
    """
    return text_format.Parse(text, pb.ModelConfig())


def _port(
    kind: type[pb.ModelInput] | type[pb.ModelOutput], tensor: InputTensor | OutputTensor
) -> pb.ModelInput | pb.ModelOutput:
    port = kind(
        name=tensor.name,
        data_type=pb.DataType.Value(tensor.datatype.config_name),
        # Triton knows no empty dims: one scalar a row is [1], reshaped to nothing for the model.
        dims=tensor.shape or (1,),
    )
    if not tensor.shape:
        port.reshape.SetInParent()
    return port
