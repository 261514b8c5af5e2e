"""Rules of Triton's core for the inputs and outputs of a configuration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk_export.lint.backends import COMPLETING, TENSORRT
from tritonbulk_export.lint.rules import Finding, found


def check_tensors(
    config: pb.ModelConfig, place: str, backend: str, folder: Path
) -> Iterator[Finding]:
    """Yield what is wrong with the tensors of one configuration.

    Args:
        config: as written.
        place: what findings call it.
        backend: see `backend_of`.
        folder: of the entry, for its files of labels.
    """
    if backend not in COMPLETING and not (config.input and config.output):
        yield found("T312", place, f"backend {backend!r}")
    for role, ports in (("input", config.input), ("output", config.output)):
        names: set[str] = set()
        for number, port in enumerate(ports):
            at = f"{place} {role} {port.name!r}" if port.name else f"{place} {role}[{number}]"
            if port.name and port.name in names:
                yield found("T309", at, "twice")
            names.add(port.name)
            yield from _check_port(port, at, config.max_batch_size, backend)
    for port in config.output:
        if port.label_filename and not _is_file(folder, port.label_filename):
            yield found("T310", f"{place} output {port.name!r}", port.label_filename)
    yield from _check_batch_ports(config, place)


def _check_port(
    port: pb.ModelInput | pb.ModelOutput, at: str, max_batch_size: int, backend: str
) -> Iterator[Finding]:
    if not port.name:
        yield found("T301", at, "no name")
    if port.data_type == pb.TYPE_INVALID:
        yield found("T302", at, "no data_type")
    if not port.dims:
        yield found("T303", at, "no dims")
    sizes = [*port.dims, *port.reshape.shape]
    wrong = [size for size in sizes if size < 1 and size != -1]
    if wrong:
        yield found("T304", at, f"dimension {wrong[0]}")
    elif port.HasField("reshape") and port.dims:
        if not port.reshape.shape and max_batch_size == 0:
            yield found("T305", at, "an empty reshape")
        elif not _fit(port.dims, port.reshape.shape):
            yield found("T306", at, f"{list(port.dims)} as {list(port.reshape.shape)}")
    if isinstance(port, pb.ModelInput) and port.format and len(port.dims) != 3:
        yield found("T307", at, f"{len(port.dims)} dimensions")
    if backend != TENSORRT and (port.is_shape_tensor or port.is_non_linear_format_io):
        yield found("T308", at, "is_shape_tensor or is_non_linear_format_io")


def _fit(dims: Sequence[int], shape: Sequence[int]) -> bool:
    """Return whether the stretches between open dimensions hold equally many elements."""
    return _stretches(dims) == _stretches(shape)


def _stretches(sizes: Sequence[int]) -> list[int]:
    stretches: list[list[int]] = [[]]
    for size in sizes:
        if size == -1:
            stretches.append([])
        else:
            stretches[-1].append(size)
    return [prod(stretch) for stretch in stretches]


def _is_file(folder: Path, name: str) -> bool:
    return ".." not in Path(name).parts and (folder / name).is_file()


def _check_batch_ports(config: pb.ModelConfig, place: str) -> Iterator[Finding]:
    inputs = {port.name for port in config.input}
    outputs = {port.name for port in config.output}
    for role, ports in (("batch_input", config.batch_input), ("batch_output", config.batch_output)):
        for port in ports:
            at = f"{place} {role}"
            if len(port.source_input) != 1 or port.source_input[0] not in inputs:
                yield found("T311", at, f"source {list(port.source_input)}")
            if isinstance(port, pb.BatchInput):
                if port.data_type not in (pb.TYPE_INT32, pb.TYPE_FP32):
                    yield found("T311", at, pb.DataType.Name(port.data_type))
            elif set(port.target_name) - outputs or len(set(port.target_name)) < len(
                port.target_name
            ):
                yield found("T311", at, f"target {list(port.target_name)}")
