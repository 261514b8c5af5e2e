"""The public functions: one a source framework, each loaded when it is called."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tritonbulk.contract import parse_input_map
from tritonbulk.errors import PlatformError
from tritonbulk_export.spec import Exported, Target, Tolerance

DEFAULT_REPOSITORY = Path("model_repository")
_DEFAULT_TOLERANCE = Tolerance()


def export_onnx(
    file: Path | str,
    *,
    name: str,
    sample: Path | str,
    repository: Path | str = DEFAULT_REPOSITORY,
    input_map: Sequence[str] = (),
    max_batch_size: int | None = None,
    tolerance: Tolerance = _DEFAULT_TOLERANCE,
    staging: Path | str | None = None,
) -> Exported:
    """Publish the ONNX model in ``file`` and return what was done.

    Args:
        file: the model; external data is read from beside it.
        name: of the entry.
        sample: rows that the model will meet: Parquet, Feather, CSV or JSON lines.
        repository: the model repository; made if it does not exist.
        input_map: entries ``tensor=column[,column…]``, patterns allowed; tensors that are not
            named take the column of their own name.
        max_batch_size: rows a request may have; None takes the default, a formula of bytes a row.
        tolerance: how far answers may be from the source's.
        staging: where to put the entry together, on the repository's file system, outside it.

    Raises:
        InputError: model or sample cannot be read, or lack what is needed. No retry.
        ModelError: the graph cannot be repaired, lowered, or batched. No retry.
        ContractError: tensors and columns do not fit each other. No retry.
        OptionError: a name, mapping or number has no meaning. No retry.
        ParityError: the answers are not the source model's; nothing was published. No retry.
        PlatformError: a package is missing, or ONNX Runtime is installed twice. No retry.
        OutputError: the entry is not ours, or the staging folder cannot be used. No retry.
        SinkError: writing failed; nothing was harmed, and a retry may help.
    """
    module = _load("onnx_file", "export-onnx")
    target = _target(name, repository, sample, max_batch_size, tolerance, staging)
    rows = _read(target)
    source = module.load_onnx(Path(file), rows.schema, parse_input_map(input_map))
    return _export(source, rows, target)


def export_sklearn(
    file: Path | str,
    *,
    name: str,
    sample: Path | str,
    repository: Path | str = DEFAULT_REPOSITORY,
    trust_pickle: bool = False,
    max_batch_size: int | None = None,
    tolerance: Tolerance = _DEFAULT_TOLERANCE,
    staging: Path | str | None = None,
) -> Exported:
    """Publish the scikit-learn classifier or regressor in ``file`` and return what was done.

    Args:
        file: a skops file; with ``trust_pickle`` also pickle or joblib.
        name: of the entry.
        sample: rows that the model will meet; see `export_onnx`.
        repository: the model repository.
        trust_pickle: load a pickle. It can run any code as you: say so only of your own files.
        max_batch_size: see `export_onnx`.
        tolerance: see `export_onnx`.
        staging: see `export_onnx`.

    Raises:
        TritonbulkError: as `export_onnx`; `InputError` also for a file that may not be trusted.
    """
    module = _load("sklearn_file", "export-sklearn")
    target = _target(name, repository, sample, max_batch_size, tolerance, staging)
    rows = _read(target)
    return _export(module.load_sklearn(Path(file), rows, trust_pickle=trust_pickle), rows, target)


def export_lightgbm(
    file: Path | str,
    *,
    name: str,
    sample: Path | str,
    repository: Path | str = DEFAULT_REPOSITORY,
    max_batch_size: int | None = None,
    tolerance: Tolerance = _DEFAULT_TOLERANCE,
    staging: Path | str | None = None,
) -> Exported:
    """Publish the LightGBM Booster in the text file ``file`` and return what was done.

    Categories that the file lists (``pandas_categorical``) go into the contract, so that text
    columns are coded on the client.

    Args:
        file: what ``Booster.save_model`` wrote.
        name: of the entry.
        sample: rows that the model will meet; see `export_onnx`.
        repository: the model repository.
        max_batch_size: see `export_onnx`.
        tolerance: see `export_onnx`.
        staging: see `export_onnx`.

    Raises:
        TritonbulkError: as `export_onnx`.
    """
    module = _load("lightgbm_file", "export-lightgbm")
    target = _target(name, repository, sample, max_batch_size, tolerance, staging)
    rows = _read(target)
    return _export(module.load_lightgbm(Path(file), rows.schema), rows, target)


def _load(module: str, extra: str) -> Any:
    if sys.platform == "win32":
        raise PlatformError("export publishes under POSIX file locks; run it on Linux or macOS")
    try:
        return import_module(f"tritonbulk_export.sources.{module}")
    except ModuleNotFoundError as error:
        raise PlatformError(
            f"this export needs the package {error.name}, which is not installed; "
            f"`pip install 'tritonbulk[{extra}]'`"
        ) from error


def _target(
    name: str,
    repository: Path | str,
    sample: Path | str,
    max_batch_size: int | None,
    tolerance: Tolerance,
    staging: Path | str | None,
) -> Target:
    return Target(
        name=name,
        repository=Path(repository),
        sample=Path(sample),
        max_batch_size=max_batch_size,
        tolerance=tolerance,
        staging=None if staging is None else Path(staging),
    )


def _read(target: Target) -> Any:
    return import_module("tritonbulk_export.sample").read_sample(target.sample)


def _export(source: Any, sample: Any, target: Target) -> Exported:
    exported: Exported = import_module("tritonbulk_export.exporting").export(source, sample, target)
    return exported
