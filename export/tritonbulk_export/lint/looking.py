"""All rules over an entry, then over the repository."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from tritonclient.grpc import model_config_pb2 as pb

from tritonbulk.errors import InputError
from tritonbulk_export.lint.backends import ENSEMBLE, ONNXRUNTIME, backend_of, model_file
from tritonbulk_export.lint.core import check_configuration
from tritonbulk_export.lint.ensembles import Servable, check_ensemble, check_steps
from tritonbulk_export.lint.folders import check_folders
from tritonbulk_export.lint.reading import Entry, read_entry, read_repository
from tritonbulk_export.lint.rules import Finding, found
from tritonbulk_export.lint.tensors import check_tensors
from tritonbulk_export.lint.warmup import check_warm_up
from tritonbulk_export.targets import RELEASES, Release, release


def lint_repository(
    repository: Path | str,
    *,
    models: Sequence[str] = (),
    has_gpu: bool | None = None,
    triton: str | None = None,
) -> tuple[Finding, ...]:
    """Return what is wrong in a repository, entry by entry; nothing is written or run.

    Args:
        repository: the folder.
        models: names of the entries to report on; empty: all.
        has_gpu: whether the server has a GPU; None if that is not known.
        triton: release of the server, such as ``26.07``; None: the newest known.

    Raises:
        OptionError: the release is unknown; no retry.
        InputError: it is no folder, or has no entry (or none of that name); no retry.
    """
    target = newest() if triton is None else release(triton)
    entries = read_repository(Path(repository))
    names = {entry.name for entry in entries}
    if unknown := [name for name in models if name not in names]:
        raise InputError(
            f"{repository} has no entry {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(sorted(names)[:8])}"
            + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        )
    findings: dict[str, list[Finding]] = {}
    servable: dict[str, Servable] = {}
    for entry in entries:
        found_here, full = _lint(entry, has_gpu, target)
        findings[entry.name] = found_here
        servable[entry.name] = Servable(full, entry.served(), not errors_of(found_here))
    for entry in _inner_first(entries):
        _lint_steps(entry, findings[entry.name], servable)
    wanted = models or [entry.name for entry in entries]
    return tuple(each for name in wanted for each in findings[name])


def lint_entry(
    folder: Path,
    *,
    repository: Path | None = None,
    has_gpu: bool | None = None,
) -> tuple[Finding, ...]:
    """Return what is wrong with one entry, which need not stand in a repository yet.

    Args:
        folder: of the entry; its name is that of the model.
        repository: where the models of an ensemble's steps are; None: steps are not looked up.
        has_gpu: see `lint_repository`.
    """
    entry, target = read_entry(folder), newest()
    findings, full = _lint(entry, has_gpu, target)
    if repository is not None and full.platform == ENSEMBLE:
        models = {
            other.name: Servable(_lint(other, has_gpu, target)[1], other.served(), is_sound=True)
            for other in read_repository(repository)
        }
        models[entry.name] = Servable(full, entry.served(), is_sound=True)
        _lint_steps(entry, findings, models)
    return tuple(findings)


def newest() -> Release:
    """Return the newest release that is known."""
    return RELEASES[max(RELEASES)]


def errors_of(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings that keep a model from being served rightly."""
    return [each for each in findings if each.level == "error"]


def _lint(
    entry: Entry, has_gpu: bool | None, target: Release
) -> tuple[list[Finding], pb.ModelConfig]:
    """Return what is wrong with an entry by itself, and its configuration, filled in."""
    findings = list(check_folders(entry))
    config, place, backend = entry.config, entry.place, backend_of(entry)
    if entry.broken or errors_of(findings):
        return findings, config
    findings += check_configuration(config, place, backend, has_gpu=has_gpu)
    findings += check_tensors(config, place, backend, entry.folder)
    findings += check_ensemble(config, place)
    full = config
    if backend == ONNXRUNTIME:
        full = _lint_onnx(entry, findings, target, has_gpu)
    findings += check_warm_up(full, place, entry.folder)
    return findings, full


def _lint_onnx(
    entry: Entry, findings: list[Finding], target: Release, has_gpu: bool | None
) -> pb.ModelConfig:
    """Add what is wrong with an entry's graphs; return its configuration, filled in."""
    if find_spec("onnx") is None:
        findings.append(found("O514", entry.name, "onnx"))
        return entry.config
    from tritonbulk_export.lint import graph, onnx_backend  # noqa: PLC0415 - onnx may be missing

    full = entry.config
    findings += onnx_backend.check_options(entry.config, entry.place, entry.folder)
    for version in entry.served():
        path = entry.folder / str(version) / model_file(entry.config, ONNXRUNTIME)
        place = f"{entry.name}/{version}/{path.name}"
        model = graph.read_graph(path)
        if isinstance(model, str):
            findings.append(found("O501", place, model))
            continue
        broken = list(graph.check_graph(model, path, place, target))
        findings += broken
        kinds = {group.kind for group in entry.config.instance_group}
        is_on_cpu = has_gpu is False or kinds == {pb.ModelInstanceGroup.KIND_CPU}
        if is_on_cpu and graph.computes_bf16(model):
            findings.append(found("O518", place, "BF16 on a CPU"))
        if not any(each.code == "O508" for each in broken):
            signature = graph.signature_of(model)
            full = onnx_backend.completed(entry.config, signature)
            findings += onnx_backend.check_against(entry.config, full, signature, entry.place)
    return full


def _lint_steps(entry: Entry, findings: list[Finding], servable: dict[str, Servable]) -> None:
    """Add what is wrong with an ensemble's steps, and take note if it cannot be served."""
    one = servable[entry.name]
    if one.config.platform != ENSEMBLE or not one.is_sound:
        return
    findings += check_steps(entry.name, one.config, servable, entry.place)
    if errors_of(findings):
        servable[entry.name] = Servable(one.config, one.versions, is_sound=False)


def _inner_first(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries, those that are steps of others in front of them; circles as they come."""
    by_name = {entry.name: entry for entry in entries}
    order: dict[str, Entry] = {}

    def add(entry: Entry, above: frozenset[str]) -> None:
        for step in entry.config.ensemble_scheduling.step:
            inner = by_name.get(step.model_name)
            if inner is not None and inner.name not in order and inner.name not in above:
                add(inner, above | {entry.name})
        order.setdefault(entry.name, entry)

    for entry in entries:
        add(entry, frozenset({entry.name}))
    return list(order.values())
