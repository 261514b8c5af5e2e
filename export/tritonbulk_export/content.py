"""What is to be published, put together as a whole entry beside the repository and judged there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tritonbulk.contract import Contract
from tritonbulk.errors import ModelError
from tritonbulk_export.chains.ensemble import Link, ensemble_config
from tritonbulk_export.config import (
    PLAN_REASONS,
    Described,
    Plans,
    model_config,
    set_labels,
    set_plans,
)
from tritonbulk_export.entry_files import (
    CONFIG_FILE,
    CONTRACT_FILE,
    GOLDEN_FILE,
    SNAPSHOT_FILES,
    add_pins,
)
from tritonbulk_export.lint import errors_of, lint_entry
from tritonbulk_export.overrides import apply_overrides
from tritonbulk_export.serving import BatchSize, Serving
from tritonbulk_export.spec import Tensors
from tritonbulk_export.storage import (
    sync_folder,
    write_file,
)
from tritonbulk_export.warmup import FOLDER as WARM_UP_FOLDER
from tritonbulk_export.warmup import set_warm_up, warm_up_files

_OF_STAGING = ("R109",)
"""Links are how an entry is staged; those that lead out of an entry are refused elsewhere."""

_PLAIN = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True, slots=True)
class Content:
    """What is to be published.

    Attributes:
        contract: of the entry; its digest is that of ``files``.
        files: the model, as bytes by path in the version's folder; see `graph.model_files`.
        golden: bytes of the golden rows.
        batch: rows a request may have.
        serving: what was asked about serving.
        overrides: tables of a TOML file that replace fields of the configuration; see `overrides`.
        tensors: golden rows as input tensors, for warm-up; empty: none is written.
        labels: names of the classes by output.
        links: of an ensemble, which has no files; empty: it is a model.
        plans: of TensorRT, which are the files; None: they are an ONNX model.
    """

    contract: Contract
    files: Mapping[str, bytes]
    golden: bytes
    batch: BatchSize
    serving: Serving = field(default_factory=Serving)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    plans: Plans | None = None


def stage(content: Content, staged: Path, version: int, pins: Sequence[int] = ()) -> Described:
    """Write a whole entry of one version and return its configuration."""
    described = describe(content, version, pins)
    files = {
        GOLDEN_FILE: content.golden,
        CONTRACT_FILE: (content.contract.to_json(indent=2) + "\n").encode(),
        CONFIG_FILE: described.text.encode(),
    }
    folder = staged / str(version)
    folder.mkdir()
    for name, data in content.files.items():
        parent = (folder / name).parent
        parent.mkdir(exist_ok=True)
        write_file(folder / name, data)
        sync_folder(parent)
    for name, labels in content.labels.items():
        write_file(folder / _label_file(name), "".join(f"{each}\n" for each in labels).encode())
    for name in SNAPSHOT_FILES:
        write_file(folder / name, files[name])
        write_file(staged / name, files[name])
    sync_folder(folder)
    if described.config.model_warmup:
        (staged / WARM_UP_FOLDER).mkdir()
        inputs = content.contract.inputs
        for name, data in warm_up_files(inputs, content.tensors, version).items():
            write_file(staged / WARM_UP_FOLDER / name, data)
        sync_folder(staged / WARM_UP_FOLDER)
    return described


def describe(content: Content, version: int, pins: Sequence[int] = ()) -> Described:
    """Return the configuration of a version: derived, then overridden.

    Versions that ensembles pin are served beside it, so that they go on loading.
    """
    described = (
        ensemble_config(content.contract, version, content.batch, content.links)
        if content.links
        else model_config(content.contract, version, content.batch, content.serving)
    )
    config, reasons = described.config, dict(described.reasons)
    if content.plans is not None:
        set_plans(config, content.plans)
        reasons.update(PLAN_REASONS)
    add_pins(config, pins)
    set_labels(config, {name: f"{version}/{_label_file(name)}" for name in content.labels})
    where = f"--config {content.serving.overrides or 'overrides'}"
    given = apply_overrides(config, content.overrides, where)
    if content.serving.warm_up and content.tensors and "model_warmup" not in given:
        set_warm_up(config, content.contract.inputs, content.tensors, version)
        reasons["model_warmup"] = "golden rows as one row and as a full batch, whose first is slow"
    reasons.update(dict.fromkeys(given, f"as {where} has it"))
    return Described(config, reasons)


def _label_file(output: str) -> str:
    return f"labels_{_PLAIN.sub('_', output)}.txt"


def check_staged(staged: Path, repository: Path) -> tuple[str, ...]:
    """Return lint's warnings of an entry, and refuse one that Triton would refuse.

    Args:
        staged: the entry's folder, of which other versions may be links.
        repository: where the steps of an ensemble are.

    Raises:
        ModelError: names every error that lint finds.
    """
    findings = lint_entry(staged, repository=repository)
    errors = errors_of(findings)
    if errors:
        raise ModelError(
            f"Triton would not load {staged.name}, so nothing was published: "
            + "; ".join(map(str, errors))
        )
    return tuple(str(each) for each in findings if each.code not in _OF_STAGING)
