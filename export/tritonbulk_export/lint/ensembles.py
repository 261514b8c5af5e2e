"""Rules of ensembles: one configuration by itself, then its steps against their models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk_export.lint.backends import ENSEMBLE
from tritonbulk_export.lint.rules import Finding, found


@dataclass(frozen=True, slots=True)
class Servable:
    """What an ensemble needs to know of another entry.

    Attributes:
        config: with inputs and outputs filled in.
        versions: that are served.
        is_sound: whether nothing keeps it from loading.
    """

    config: pb.ModelConfig
    versions: tuple[int, ...]
    is_sound: bool


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a tensor that travels between models.

    Attributes:
        owner: the model, or the ensemble, that it belongs to.
        data_type: Triton's number of it.
        dims: without the batch dimension.
        full: with it, where the owner batches.
    """

    owner: str
    data_type: int
    dims: tuple[int, ...]
    full: tuple[int, ...]


def _own_end(config: pb.ModelConfig, port: pb.ModelInput | pb.ModelOutput) -> _End:
    """Return the end of an ensemble's own tensor; what it is reshaped to counts."""
    dims = port.reshape.shape if port.HasField("reshape") else port.dims
    return _end("the ensemble", config, port.data_type, tuple(dims))


def _end(owner: str, config: pb.ModelConfig, data_type: int, dims: tuple[int, ...]) -> _End:
    full = (-1, *dims) if config.max_batch_size > 0 else dims
    return _End(owner, data_type, dims, full)


def check_ensemble(config: pb.ModelConfig, place: str) -> Iterator[Finding]:
    """Yield what is wrong with an ensemble, or with scheduling in what is none."""
    is_ensemble = config.platform == ENSEMBLE
    if config.HasField("ensemble_scheduling") != is_ensemble or (is_ensemble and config.backend):
        yield found("E401", place, f"platform {config.platform!r}, backend {config.backend!r}")
        return
    if not is_ensemble:
        return
    for field in ("instance_group", "model_warmup"):
        if getattr(config, field):
            yield found("E402", place, field)
    if config.HasField("optimization"):
        yield found("E402", place, "optimization")
    steps = config.ensemble_scheduling.step
    if not steps:
        yield found("E403", place, "no step")
    for number, step in enumerate(steps):
        if not (step.model_name and step.input_map and step.output_map):
            yield found("E403", f"{place} step[{number}]", "model_name, input_map or output_map")
    yield from _check_flow(config, steps, place)


def _check_flow(
    config: pb.ModelConfig, steps: Sequence[pb.ModelEnsembling.Step], place: str
) -> Iterator[Finding]:
    written = [name for step in steps for name in step.output_map.values()]
    read = {name for step in steps for name in step.input_map.values()}
    inputs = [port.name for port in config.input]
    outputs = [port.name for port in config.output]
    for name in sorted({name for name in written if written.count(name) > 1}):
        yield found("E406", place, f"{name!r} is written by two steps")
    ready, waiting = set(inputs), list(steps)
    while waiting:
        able = [step for step in waiting if ready >= set(step.input_map.values())]
        if not able:
            break
        waiting = [step for step in waiting if step not in able]
        ready |= {name for step in able for name in step.output_map.values()}
    for name in outputs:
        if name not in ready or name not in read | set(written):
            yield found("E405", place, f"output {name!r} is not written")
    for name in inputs:
        if name not in read | set(written):
            yield found("E405", place, f"input {name!r} is not used")
    for name in sorted((read | set(written)) - set(outputs) - set(inputs)):
        if name not in ready or name not in read:
            yield found("E405", place, f"tensor {name!r} is not written, or not used")


def check_steps(
    name: str, config: pb.ModelConfig, models: Mapping[str, Servable], place: str
) -> Iterator[Finding]:
    """Yield where an ensemble's steps do not fit their models.

    Args:
        name: of the ensemble.
        config: of the ensemble.
        models: all entries of the repository.
        place: what findings call it.
    """
    if name in _reachable(name, models):
        yield found("E412", place, "a step leads back to it")
        return
    ends: dict[str, _End] = {}
    for port in (*config.input, *config.output):
        ends[port.name] = _own_end(config, port)
    for number, step in enumerate(config.ensemble_scheduling.step):
        at = f"{place} step[{number}] {step.model_name}"
        model = models.get(step.model_name)
        if model is None:
            yield found("E404", at, f"there is no {step.model_name!r}")
            continue
        if not model.is_sound:
            yield found("E413", at, "it has errors of its own")
            continue
        if step.model_version not in (-1, 0, *model.versions):
            yield found("E411", at, f"version {step.model_version} of {list(model.versions)}")
        if 0 < model.config.max_batch_size < config.max_batch_size:
            detail = f"{model.config.max_batch_size} rows, the ensemble {config.max_batch_size}"
            yield found("E410", at, detail)
        yield from _check_maps(step, model.config, ends, at)


def _check_maps(
    step: pb.ModelEnsembling.Step,
    config: pb.ModelConfig,
    ends: dict[str, _End],
    at: str,
) -> Iterator[Finding]:
    known_inputs = {port.name: port for port in config.input}
    known_outputs = {port.name: port for port in config.output}
    for name in sorted(set(step.input_map) - set(known_inputs)):
        yield found("E407", at, f"no input {name!r}")
    for name in sorted(set(step.output_map) - set(known_outputs)):
        yield found("E407", at, f"no output {name!r}")
    for name, port in known_inputs.items():
        if name not in step.input_map and not port.optional:
            yield found("E407", at, f"input {name!r} is not mapped")
    maps = ((step.input_map, known_inputs), (step.output_map, known_outputs))
    for tensors, ports in maps:
        for name, tensor in sorted(tensors.items()):
            if name not in ports:
                continue
            port = ports[name]
            end = _end(step.model_name, config, port.data_type, tuple(port.dims))
            yield from _check_ends(ends.setdefault(tensor, end), end, tensor, at)


def _check_ends(one: _End, other: _End, tensor: str, at: str) -> Iterator[Finding]:
    if one.data_type != other.data_type:
        names = [f"{pb.DataType.Name(end.data_type)} in {end.owner}" for end in (one, other)]
        yield found("E408", at, f"{tensor!r} is {', '.join(names)}")
    elif not (_match(one.dims, other.dims) or _match(one.full, other.full)):
        names = [f"{list(end.dims)} in {end.owner}" for end in (one, other)]
        yield found("E409", at, f"{tensor!r} is {', '.join(names)}")


def _match(one: Sequence[int], other: Sequence[int]) -> bool:
    return len(one) == len(other) and all(
        a == b or -1 in (a, b) for a, b in zip(one, other, strict=True)
    )


def _reachable(name: str, models: Mapping[str, Servable]) -> set[str]:
    """Return the models that a model's steps lead to, directly or not."""
    seen: set[str] = set()
    stack = [name]
    while stack:
        model = models.get(stack.pop())
        if model is None:
            continue
        for step in model.config.ensemble_scheduling.step:
            if step.model_name not in seen:
                seen.add(step.model_name)
                stack.append(step.model_name)
    return seen
