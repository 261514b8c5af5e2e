"""The public functions: one a source framework, each loaded when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Unpack

import pyarrow as pa

from tritonbulk.contract import parse_input_map
from tritonbulk.errors import PlatformError
from tritonbulk_export.spec import Exported, SourceModel, Target, TargetOptions


def export_onnx(
    file: Path | str, *, input_map: Sequence[str] = (), **options: Unpack[TargetOptions]
) -> Exported:
    """Publish the ONNX model in ``file`` and return what was done.

    Args:
        file: the model; external data is read from beside it.
        input_map: entries ``tensor=column[,column…]``, patterns allowed; tensors that are not
            named take the column of their own name.
        **options: where to, how it is proved, how it is served: see `TargetOptions`.

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
    mapping = parse_input_map(input_map)

    def load(module: Any, rows: pa.Table) -> SourceModel:
        source: SourceModel = module.load_onnx(Path(file), rows.schema, mapping)
        return source

    return _export("onnx_file", "export-onnx", load, options)


def export_sklearn(
    file: Path | str, *, trust_pickle: bool = False, **options: Unpack[TargetOptions]
) -> Exported:
    """Publish the scikit-learn classifier or regressor in ``file`` and return what was done.

    Args:
        file: a skops file; with ``trust_pickle`` also pickle or joblib.
        trust_pickle: load a pickle. It can run any code as you: say so only of your own files.
        **options: see `TargetOptions`.

    Raises:
        TritonbulkError: as `export_onnx`; `InputError` also for a file that may not be trusted.
    """

    def load(module: Any, rows: pa.Table) -> SourceModel:
        source: SourceModel = module.load_sklearn(Path(file), rows, trust_pickle=trust_pickle)
        return source

    return _export("sklearn_file", "export-sklearn", load, options)


def export_lightgbm(file: Path | str, **options: Unpack[TargetOptions]) -> Exported:
    """Publish the LightGBM Booster in the text file ``file`` and return what was done.

    Categories that the file lists (``pandas_categorical``) go into the contract, so that text
    columns are coded on the client.

    Args:
        file: what ``Booster.save_model`` wrote.
        **options: see `TargetOptions`.

    Raises:
        TritonbulkError: as `export_onnx`.
    """

    def load(module: Any, rows: pa.Table) -> SourceModel:
        source: SourceModel = module.load_lightgbm(Path(file), rows.schema)
        return source

    return _export("lightgbm_file", "export-lightgbm", load, options)


def _export(
    module: str, extra: str, load: Callable[[Any, pa.Table], SourceModel], options: TargetOptions
) -> Exported:
    """Load the framework's module, read the sample, let ``load`` make the source of both."""
    source_module = _load(module, extra)
    target = Target.of(**options)
    rows = import_module("tritonbulk_export.sample").read_sample(target.sample)
    source = load(source_module, rows)
    exported: Exported = import_module("tritonbulk_export.exporting").export(source, rows, target)
    return exported


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
