"""Rules of Triton's ONNX Runtime backend: the graph against the configuration.

Re-implemented from onnxruntime_backend (``AutoCompleteConfig``, ``ValidateInputs``,
``ValidateOutputs``, ``CompareDims``), without opening a session.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk_export.accelerators import CPU_KEYS, GPU_KEYS, PROFILE_KEYS
from tritonbulk_export.lint.graph import Signature, Tensor
from tritonbulk_export.lint.rules import Finding, found

DEFAULT_MAX_BATCH_SIZE = 4
"""The backend's ``default-max-batch-size``."""

_INTEGERS = ("intra_op_thread_count", "inter_op_thread_count")
_BOOLEANS = ("enable_mem_arena", "enable_mem_pattern")


def completed(config: pb.ModelConfig, signature: Signature) -> pb.ModelConfig:
    """Return the configuration with what the backend fills in."""
    full = pb.ModelConfig()
    full.CopyFrom(config)
    if (config.input or config.batch_input) and config.output:
        return full
    if signature.is_batchable and not config.max_batch_size:
        full.max_batch_size = DEFAULT_MAX_BATCH_SIZE
    if not (config.input or config.batch_input):
        full.input.extend(_described(pb.ModelInput, each, full) for each in signature.inputs)
    if not config.output:
        full.output.extend(_described(pb.ModelOutput, each, full) for each in signature.outputs)
    return full


def _described(
    kind: type[pb.ModelInput] | type[pb.ModelOutput], tensor: Tensor, config: pb.ModelConfig
) -> pb.ModelInput | pb.ModelOutput:
    is_batched = config.max_batch_size > 0
    dims = tensor.shape[1:] if is_batched else tensor.shape
    port = kind(name=tensor.name, data_type=tensor.data_type, dims=dims or (1,))
    if is_batched and not dims:
        port.reshape.SetInParent()
    return port


def check_against(
    config: pb.ModelConfig, full: pb.ModelConfig, signature: Signature, place: str
) -> Iterator[Finding]:
    """Yield where configuration and graph disagree.

    Args:
        config: as written.
        full: with what the backend fills in.
        signature: of the graph.
        place: what findings call it.
    """
    if full.max_batch_size > 0 and not signature.is_batchable:
        yield found("O506", f"{place} max_batch_size", str(full.max_batch_size))
        return
    if not config.max_batch_size and full.max_batch_size:
        yield found("C220", f"{place} max_batch_size", "0 or not given")
    controls = len(config.sequence_batching.control_input)
    wanted = len(signature.inputs)
    given = sum(not port.optional for port in full.input) + controls
    if given != wanted:
        yield found("O507", place, f"{given} inputs, the model takes {wanted}")
    known = {t.name: t for t in (*signature.inputs, *signature.optional)}
    for port in full.input:
        if port.optional and full.max_batch_size > 0:
            yield found("O512", f"{place} input {port.name!r}", "optional")
        yield from _check_port(port, known, f"{place} input {port.name!r}", full, is_output=False)
    known = {tensor.name: tensor for tensor in signature.outputs}
    for output in full.output:
        at = f"{place} output {output.name!r}"
        yield from _check_port(output, known, at, full, is_output=True)


def _check_port(
    port: pb.ModelInput | pb.ModelOutput,
    known: dict[str, Tensor],
    at: str,
    config: pb.ModelConfig,
    *,
    is_output: bool,
) -> Iterator[Finding]:
    tensor = known.get(port.name)
    if tensor is None:
        yield found("O503", at, f"the model has {', '.join(sorted(known))}")
        return
    if tensor.data_type != port.data_type:
        names = [pb.DataType.Name(each) for each in (port.data_type, tensor.data_type)]
        yield found("O504", at, f"{names[0]}, the model has {names[1]}")
    dims = port.reshape.shape if port.HasField("reshape") else port.dims
    is_batched = config.max_batch_size > 0
    if not tensor.shape and not is_batched:
        fits = all(size == 1 for size in dims)
    else:
        fits = _fits(tensor.shape, (-1, *dims) if is_batched else tuple(dims), exact=is_output)
    if not fits:
        yield found("O505", at, f"{list(dims)}, the model has {list(tensor.shape)}")
    if any(size == 0 for size in tensor.shape):
        yield found("T304", at, "dimension 0 in the model")


def _fits(shape: Sequence[int], given: Sequence[int], *, exact: bool) -> bool:
    return len(given) == len(shape) and all(
        size == wanted or (size == -1 and not exact)
        for size, wanted in zip(shape, given, strict=True)
    )


def check_options(config: pb.ModelConfig, place: str, folder: Path) -> Iterator[Finding]:
    """Yield what is wrong with accelerators, parameters and libraries of operators."""
    values = {key: value.string_value for key, value in config.parameters.items()}
    at = f"{place} parameters"
    mode = values.get("execution_mode", "0")
    if mode not in ("0", "1"):
        yield found("O511", at, f"execution_mode {mode!r}")
    for key in _INTEGERS:
        if key in values and not values[key].strip().lstrip("+-").isdigit():
            yield found("O511", at, f"{key} {values[key]!r}")
    for key in _BOOLEANS:
        if key in values and values[key].lower() not in ("0", "1", "true", "false"):
            yield found("O511", at, f"{key} {values[key]!r}")
    accelerators = config.optimization.execution_accelerators
    for role, known in (("gpu", GPU_KEYS), ("cpu", CPU_KEYS)):
        for each in getattr(accelerators, f"{role}_execution_accelerator"):
            yield from _check_accelerator(each, known, f"{place} {role}_execution_accelerator")
    if accelerators.gpu_execution_accelerator and config.instance_group:
        kinds = {group.kind for group in config.instance_group}
        if kinds == {pb.ModelInstanceGroup.KIND_CPU}:
            yield found("O516", place, "gpu_execution_accelerator with KIND_CPU")
    for name in config.model_operations.op_library_filename:
        path = Path(name)
        inside = path.is_absolute() or (folder / name).is_file()
        if not inside or (path.is_absolute() and not path.is_file()):
            yield found("O513", place, name)


def _check_accelerator(
    accelerator: pb.ModelOptimizationPolicy.ExecutionAccelerators.Accelerator,
    known: Mapping[str, frozenset[str]],
    at: str,
) -> Iterator[Finding]:
    keys = known.get(accelerator.name)
    if keys is None:
        yield found("O510", at, f"{accelerator.name!r}")
        return
    for key in sorted(set(accelerator.parameters) - keys):
        yield found("O510", f"{at} {accelerator.name}", f"key {key!r}")
    profiles = [key for key in PROFILE_KEYS if key in accelerator.parameters]
    if profiles and len(profiles) < len(PROFILE_KEYS):
        yield found("O515", f"{at} {accelerator.name}", ", ".join(profiles))
