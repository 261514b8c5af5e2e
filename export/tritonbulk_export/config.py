"""``config.pbtxt``: what Triton is told about an entry, by protobuf and never by string templates.

Each field is chosen here, with the reason beside it; the reasons stand as comments in front of the
configuration's text, which Triton skips. ``docs/export/configuration.md`` has the formulas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
from tritonbulk_export.accelerators import GPU_KEYS, PROFILE_KEYS
from tritonbulk_export.serving import IN_FLIGHT_DEFAULT, BatchSize, Serving, check_batch_size

MODEL_FILE = "model.onnx"
DIGEST_PARAMETER = "tritonbulk_sha256"

REQUEST_BYTES_MAX = 8 << 20
BATCH_ROWS_MIN, BATCH_ROWS_MAX = 8, 4096
SMALL_REQUEST_DELAY_US = 1000
QUEUE_TIMEOUT_US = 300_000_000
"""As long as tritonbulk waits for one attempt, so that only shorter timeouts of requests count."""

ENGINE_CACHE = "/tmp/tritonbulk-engines"  # noqa: S108 - in the server's container, not here

Tensors = Sequence[InputTensor | OutputTensor]


@dataclass(frozen=True, slots=True)
class Described:
    """A configuration and why its fields have their values, by field."""

    config: pb.ModelConfig
    reasons: Mapping[str, str]

    @property
    def text(self) -> str:
        """The file's content."""
        return to_text(self.config, self.reasons)


def default_max_batch_size(tensors: Tensors, batch_rows: int | None = None) -> int:
    """Return the default of ``max_batch_size``, by a formula and not by a measurement.

    It is the largest power of two whose requests, inputs and outputs together, take at most 8 MiB,
    and at least 8, at most 4096. An open dimension counts as 256, a text as 64 bytes. Where
    requests have ``batch_rows`` rows as a rule, it is the largest multiple of that below, since the
    batcher joins whole requests only; or that number itself.
    """
    rows = max(REQUEST_BYTES_MAX // max(row_bytes(tensors), 1), 1)
    power = min(max(1 << (rows.bit_length() - 1), BATCH_ROWS_MIN), BATCH_ROWS_MAX)
    return power if batch_rows is None else max(power // batch_rows, 1) * batch_rows


def derive_batch_size(tensors: Tensors, serving: Serving) -> BatchSize:
    """Return the default ``max_batch_size`` with its reason; see `default_max_batch_size`."""
    rows = default_max_batch_size(tensors, serving.batch_rows)
    reason = f"the default for {row_bytes(tensors)} bytes a row"
    if serving.batch_rows is not None:
        reason += f" and requests of {serving.batch_rows} rows"
    return BatchSize(rows, reason, is_asked=False)


def model_config(
    contract: Contract, version: int, batch: BatchSize, serving: Serving | None = None
) -> Described:
    """Return the configuration of one version of an entry, before overrides.

    Raises:
        OptionError: ``max_batch_size`` is out of bounds, or an accelerator's key is not on the
            list; a retry does not help.
    """
    serving = serving or Serving()
    tensors: Tensors = (*contract.inputs, *contract.outputs)
    check_batch_size(batch.rows, row_bytes(tensors))
    reasons = {"max_batch_size": f"{batch.rows}: {batch.reason}"}
    config = pb.ModelConfig(
        name=contract.model,
        backend="onnxruntime",
        default_model_filename=MODEL_FILE,
        max_batch_size=batch.rows,
        input=[port_of(pb.ModelInput, tensor) for tensor in contract.inputs],
        output=[port_of(pb.ModelOutput, tensor) for tensor in contract.outputs],
    )
    config.version_policy.specific.versions.append(version)
    reasons["version_policy"] = "the version by name: other folders are never served by accident"
    _set_batching(config, serving, reasons)
    _set_instances(config, serving, reasons)
    _set_accelerator(config, serving, reasons)
    reasons["response_cache"] = "off: bulk rows do not repeat, and each would pay for the look-up"
    config.parameters[CONTRACT_PARAMETER].string_value = contract.to_json()
    config.parameters[DIGEST_PARAMETER].string_value = contract.digest.removeprefix("sha256:")
    return Described(config, reasons)


def _set_batching(config: pb.ModelConfig, serving: Serving, reasons: dict[str, str]) -> None:
    batching = config.dynamic_batching
    batching.SetInParent()
    delay, why = _delay(config.max_batch_size, serving)
    if delay:
        batching.max_queue_delay_microseconds = delay
    reasons["dynamic_batching"] = f"on, for its queue and for small requests of others; {why}"
    reasons["preferred_batch_size"] = "none: only engines with several profiles gain by it"
    reasons["default_queue_policy"] = (
        "none: it turns off prefetching, and the batcher then stalls (core#509); ask for it with "
        "--queue-policy"
    )
    if serving.priorities:
        batching.priority_levels = 2
        batching.default_priority_level = 2
        reasons["priority_levels"] = "2: 1 is for online requests, 2 for bulk and whoever says none"
    if serving.queue_policy:
        policy = batching.default_queue_policy
        in_flight = serving.in_flight or IN_FLIGHT_DEFAULT
        policy.max_queue_size = 4 * in_flight
        policy.default_timeout_microseconds = QUEUE_TIMEOUT_US
        policy.allow_timeout_override = True
        policy.timeout_action = pb.ModelQueuePolicy.REJECT
        reasons["default_queue_policy"] = (
            f"as asked: 4 times {in_flight} requests in flight; requests may only shorten its "
            f"timeout of {QUEUE_TIMEOUT_US // 10**6} s, since Triton ignores longer ones"
        )


def _delay(max_batch_size: int, serving: Serving) -> tuple[int, str]:
    if serving.queue_delay_us is not None:
        return serving.queue_delay_us, "its delay as asked"
    if serving.batch_rows is None or serving.batch_rows >= max_batch_size:
        return 0, "no delay, since full batches come as they are"
    return SMALL_REQUEST_DELAY_US, (
        f"a short delay, since requests of {serving.batch_rows} rows are to be joined"
    )


def _set_instances(config: pb.ModelConfig, serving: Serving, reasons: dict[str, str]) -> None:
    group = config.instance_group.add(count=serving.instances)
    if serving.device != "auto":
        kind = {"cpu": group.KIND_CPU, "gpu": group.KIND_GPU}[serving.device]
        group.kind = kind
    where = {
        "auto": "without a kind, so that Triton takes the GPU where there is one",
        "cpu": "on the CPU, as asked",
        "gpu": "on every GPU, as asked; a host without one refuses the model",
    }[serving.device]
    reasons["instance_group"] = f"{serving.instances}, {where}; Triton's default on a CPU is 2"
    if serving.threads is not None:
        config.parameters["intra_op_thread_count"].string_value = str(serving.threads)
        reasons["parameters.intra_op_thread_count"] = f"{serving.threads}, as asked"


def _set_accelerator(config: pb.ModelConfig, serving: Serving, reasons: dict[str, str]) -> None:
    if serving.accelerator == "none":
        return
    known = GPU_KEYS[serving.accelerator]
    for key in serving.accelerator_options:
        if key not in known:
            raise OptionError(
                f"--accelerator-option {key} is not known to {serving.accelerator} in Triton's "
                f"ONNX Runtime backend, which would not load; known: {', '.join(sorted(known))}"
            )
    options = _TENSORRT if serving.accelerator == "tensorrt" else _CUDA
    accelerator = config.optimization.execution_accelerators.gpu_execution_accelerator.add(
        name=serving.accelerator
    )
    options = {**options, **(_profiles(config) if serving.accelerator == "tensorrt" else {})}
    for key, value in sorted({**options, **serving.accelerator_options}.items()):
        accelerator.parameters[key] = value
    reasons["optimization"] = (
        "engines are kept outside the repository, which a poll would load again, and are built for "
        "1, half and all rows; the graph has its precision (not verified on a GPU here)"
        if serving.accelerator == "tensorrt"
        else "memory that follows batches of any size (not verified on a GPU here)"
    )


_CUDA = {"arena_extend_strategy": "1", "cudnn_conv_algo_search": "1"}
_TENSORRT = {
    "trt_context_memory_sharing_enable": "1",
    "trt_engine_cache_enable": "1",
    "trt_engine_cache_path": ENGINE_CACHE,
    "trt_timing_cache_enable": "1",
    "trt_timing_cache_path": ENGINE_CACHE,
}


def _profiles(config: pb.ModelConfig) -> dict[str, str]:
    """Return shapes for one profile: 1, half and all rows of every input.

    Raises:
        OptionError: an input has another open dimension, whose size only the user knows.
    """
    for port in config.input:
        if -1 in port.dims:
            raise OptionError(
                f"input {port.name!r} has an open dimension, so its profile is not known; give "
                + ", ".join(f"--accelerator-option {key}=…" for key in PROFILE_KEYS)
            )
    most = config.max_batch_size
    return {
        key: ",".join(
            f"{port.name}:" + "x".join(map(str, (rows, *port.dims))) for port in config.input
        )
        for key, rows in zip(PROFILE_KEYS, (1, max(most // 2, 1), most), strict=True)
    }


@dataclass(frozen=True, slots=True)
class Plans:
    """Plans of TensorRT.

    Attributes:
        by_capability: file by compute capability, such as ``9.0``.
        profiles: that each of them has.
    """

    by_capability: Mapping[str, str]
    profiles: int


PLAN_REASONS = {
    "cc_model_filenames": "one plan for each compute capability; other GPUs refuse the model",
    "instance_group": "on every GPU, with all profiles, since an instance uses the first otherwise",
}


def set_plans(config: pb.ModelConfig, plans: Plans) -> None:
    """Make a configuration one of the TensorRT backend."""
    config.backend, config.platform = "tensorrt", "tensorrt_plan"
    config.default_model_filename = next(iter(plans.by_capability.values()))
    for capability, file in plans.by_capability.items():
        config.cc_model_filenames[capability] = file
    for group in config.instance_group:
        group.kind = group.KIND_GPU
        group.profile.extend(map(str, range(plans.profiles)))


def set_labels(config: pb.ModelConfig, files: Mapping[str, str]) -> None:
    """Name the files of labels, by output, relative to the entry."""
    for port in config.output:
        if port.name in files:
            port.label_filename = files[port.name]


def to_text(config: pb.ModelConfig, reasons: Mapping[str, str] | None = None) -> str:
    """Return ``config`` as the text of a ``config.pbtxt``; map entries sorted by key."""
    said = ["Written by tritonbulk export. Why the fields have their values:"] if reasons else []
    said += [f"{field}: {' '.join(reason.split())}" for field, reason in (reasons or {}).items()]
    head = "".join(f"# {line}\n" for line in said)
    return head + str(text_format.MessageToString(config, as_utf8=True))


def comments_of(text: str) -> str:
    """Return the comments in front of a configuration's text."""
    lines = text.splitlines(keepends=True)
    head = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:head])


def from_text(text: str) -> pb.ModelConfig:
    """Return the configuration that ``text`` describes.

    Raises:
        google.protobuf.text_format.ParseError: it is none.
    """
    return text_format.Parse(text, pb.ModelConfig())


def port_of(
    kind: type[pb.ModelInput] | type[pb.ModelOutput], tensor: InputTensor | OutputTensor
) -> pb.ModelInput | pb.ModelOutput:
    """Return a tensor of a contract as an input or output of a configuration."""
    port = kind(
        name=tensor.name,
        data_type=pb.DataType.Value(tensor.datatype.config_name),
        # Triton knows no empty dims: one scalar a row is [1], reshaped to nothing for the model.
        dims=tensor.shape or (1,),
    )
    if not tensor.shape:
        port.reshape.SetInParent()
    return port
