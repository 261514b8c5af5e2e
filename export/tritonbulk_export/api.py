"""The public functions: one a source framework, each loaded when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Unpack

import pyarrow as pa

from tritonbulk.contract import parse_input_map
from tritonbulk.errors import PlatformError
from tritonbulk_export.spec import Exported, SourceModel, Target, TargetOptions

Exporter = Literal["dynamo", "legacy"]
Pooling = Literal["mean", "cls"]


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
        ModelError: the graph cannot be made, repaired, lowered, or batched. No retry.
        ContractError: tensors and columns do not fit each other. No retry.
        OptionError: a name, mapping or number has no meaning. No retry.
        ParityError: the answers are not the source model's; nothing was published. No retry.
        PlatformError: a package is missing, or ONNX Runtime is installed twice. No retry.
        OutputError: the entry is not ours, or the staging folder cannot be used. No retry.
        SinkError: writing failed; nothing was harmed, and a retry may help.
    """
    mapping = parse_input_map(input_map)
    return _export(
        _Framework("onnx_file", "export-onnx"),
        lambda module, rows: module.load_onnx(Path(file), rows.schema, mapping),
        options,
    )


def export_torch(
    module: Any,
    *,
    weights: Path | str | None = None,
    trust_pickle: bool = False,
    exporter: Exporter = "dynamo",
    input_map: Sequence[str] = (),
    input_shape: Sequence[str] = (),
    input_dtype: Sequence[str] = (),
    outputs: Sequence[str] = (),
    **options: Unpack[TargetOptions],
) -> Exported:
    """Publish a PyTorch module or program and return what was done.

    Args:
        module: ``pkg.module:factory`` or ``file.py:factory`` (a function or class without
            arguments that gives the module), the path of a ``.pt2`` program, or a module.
        weights: a safetensors file with the module's state; with ``trust_pickle`` also what
            ``torch.save`` wrote. None leaves the module as it was made.
        trust_pickle: load pickled weights, in a process of their own.
        exporter: ``dynamo``, or ``legacy``: tracing, for what torch.export cannot do.
        input_map: see `export_onnx`.
        input_shape: entries ``tensor=3,32,32``: one row's dimensions, -1 for one of any size,
            nothing for a scalar. Else one dimension with the columns' values.
        input_dtype: entries ``tensor=int32``. Else int64 for integers, bool for truth values,
            float32.
        outputs: names for the outputs, in order; of a model that names its own, those to keep.
        **options: see `TargetOptions`.

    Raises:
        TritonbulkError: as `export_onnx`.
    """

    def load(found: Any, rows: pa.Table) -> SourceModel:
        wishes = _wishes(input_map, input_shape, input_dtype, outputs)
        model = found.TorchModel(module, _path(weights), exporter, trust_pickle)
        source: SourceModel = found.load_torch(model, wishes, rows)
        return source

    return _export(_Framework("torch_module", "export-torch"), load, options)


def export_transformers(
    folder: Path | str,
    *,
    pooling: Pooling | None = None,
    input_map: Sequence[str] = (),
    input_shape: Sequence[str] = (),
    outputs: Sequence[str] = (),
    **options: Unpack[TargetOptions],
) -> Exported:
    """Publish the Hugging Face model in a local ``folder`` and return what was done.

    The sample holds what the tokenizer gives (``input_ids``, ``attention_mask``, …), each a list of
    one length a row. Nothing is downloaded, and no code that stands in the folder is run.

    Args:
        folder: with ``config.json`` and safetensors weights.
        pooling: ``mean`` or ``cls``: one vector a row, ``sentence_embedding``, instead of the
            model's own outputs.
        input_map: see `export_onnx`.
        input_shape: see `export_torch`; ``input_ids=-1`` leaves the length open.
        outputs: see `export_torch`.
        **options: see `TargetOptions`.

    Raises:
        TritonbulkError: as `export_onnx`.
    """

    def load(found: Any, rows: pa.Table) -> SourceModel:
        wishes = _wishes(input_map, input_shape, (), outputs)
        source: SourceModel = found.load_transformers(Path(folder), wishes, rows, pooling=pooling)
        return source

    return _export(_Framework("transformers_folder", "export-transformers"), load, options)


def export_keras(
    model: Any,
    *,
    input_map: Sequence[str] = (),
    outputs: Sequence[str] = (),
    **options: Unpack[TargetOptions],
) -> Exported:
    """Publish a Keras 3 model and return what was done.

    Args:
        model: a ``.keras`` file, or a model. It runs on Keras' torch backend.
        input_map: see `export_onnx`.
        outputs: see `export_torch`.
        **options: see `TargetOptions`.

    Raises:
        TritonbulkError: as `export_onnx`.
    """
    wishes_given = (input_map, (), (), outputs)
    return _export(
        _Framework("keras_file", "export-keras"),
        lambda found, rows: found.load_keras(_file(model), _wishes(*wishes_given), rows),
        options,
    )


def export_jax(
    function: Any,
    *,
    weights: Path | str | None = None,
    input_map: Sequence[str] = (),
    input_shape: Sequence[str] = (),
    input_dtype: Sequence[str] = (),
    outputs: Sequence[str] = (),
    **options: Unpack[TargetOptions],
) -> Exported:
    """Publish a JAX function or a Flax module and return what was done.

    Args:
        function: ``pkg.module:factory`` or ``file.py:factory``, a Flax module (linen or nnx), or a
            function. A factory takes no argument and gives one of these; plain functions take
            the weights first, if there are any, then batches.
        weights: a safetensors file; names such as ``params.Dense_0.kernel`` are nested by dots.
        input_map: see `export_onnx`.
        input_shape: see `export_torch`.
        input_dtype: see `export_torch`.
        outputs: see `export_torch`.
        **options: see `TargetOptions`.

    Raises:
        TritonbulkError: as `export_onnx`.
    """

    def load(found: Any, rows: pa.Table) -> SourceModel:
        wishes = _wishes(input_map, input_shape, input_dtype, outputs)
        source: SourceModel = found.load_jax(function, _path(weights), wishes, rows)
        return source

    return _export(_Framework("jax_function", "export-jax"), load, options)


def export_sklearn(
    model: Any, *, trust_pickle: bool = False, **options: Unpack[TargetOptions]
) -> Exported:
    """Publish a scikit-learn classifier or regressor and return what was done.

    Args:
        model: a skops file; with ``trust_pickle`` also pickle or joblib; or an estimator.
        trust_pickle: load a pickle, in a process of its own. It can run any code as you: say so
            only of your own files.
        **options: see `TargetOptions`.

    Raises:
        TritonbulkError: as `export_onnx`; `InputError` also for a file that may not be trusted.
    """
    return _export(
        _Framework("sklearn_file", "export-sklearn"),
        lambda module, rows: module.load_sklearn(_file(model), rows, trust_pickle=trust_pickle),
        options,
    )


def export_lightgbm(model: Any, **options: Unpack[TargetOptions]) -> Exported:
    """Publish a LightGBM Booster and return what was done.

    Categories that it lists (``pandas_categorical``) go into the contract, so that text columns are
    coded on the client.

    Args:
        model: the text file that ``Booster.save_model`` wrote, or a model.
        **options: see `TargetOptions`.

    Raises:
        TritonbulkError: as `export_onnx`.
    """
    return _export(
        _Framework("lightgbm_file", "export-lightgbm"),
        lambda module, rows: module.load_lightgbm(_file(model), rows.schema),
        options,
    )


def export_xgboost(model: Any, **options: Unpack[TargetOptions]) -> Exported:
    """Publish an XGBoost model and return what was done.

    Args:
        model: the JSON or UBJSON file that ``save_model`` wrote, or a model.
        **options: see `TargetOptions`.

    Raises:
        TritonbulkError: as `export_onnx`.
    """
    return _export(
        _Framework("xgboost_file", "export-xgboost"),
        lambda module, rows: module.load_xgboost(_file(model), rows.schema),
        options,
    )


def export_catboost(model: Any, **options: Unpack[TargetOptions]) -> Exported:
    """Publish a CatBoost model and return what was done.

    Args:
        model: a ``.cbm`` or JSON file that ``save_model`` wrote, or a model.
        **options: see `TargetOptions`.

    Raises:
        TritonbulkError: as `export_onnx`.
    """
    return _export(
        _Framework("catboost_file", "export-catboost"),
        lambda module, rows: module.load_catboost(_file(model), rows.schema),
        options,
    )


def _file(model: Any) -> Any:
    """Return a path for what names a file, everything else as it is."""
    return Path(model) if isinstance(model, str) else model


def _path(name: Path | str | None) -> Path | None:
    return None if name is None else Path(name)


def _wishes(*given: Sequence[str]) -> Any:
    return import_module("tritonbulk_export.sources.signature").Wishes.of(*given)


@dataclass(frozen=True, slots=True)
class _Framework:
    """The module in `sources`, and the extra that brings its packages."""

    module: str
    extra: str


def _export(
    framework: _Framework, load: Callable[[Any, pa.Table], SourceModel], options: TargetOptions
) -> Exported:
    """Load the framework's module, read the sample, let ``load`` make the source of both."""
    module = _load(framework)
    target = Target.of(**options)
    rows = import_module("tritonbulk_export.sample").read_sample(target.sample)
    # The truth feeds no model, so it counts for none of its columns either.
    is_labelled = target.labels is not None and target.labels in rows.column_names
    source = load(module, rows.drop_columns([target.labels]) if is_labelled else rows)
    exported: Exported = import_module("tritonbulk_export.exporting").export(source, rows, target)
    return exported


def _load(framework: _Framework) -> Any:
    if sys.platform == "win32":
        raise PlatformError("export publishes under POSIX file locks; run it on Linux or macOS")
    try:
        return import_module(f"tritonbulk_export.sources.{framework.module}")
    except ModuleNotFoundError as error:
        raise PlatformError(
            f"this export needs the package {error.name}, which is not installed; "
            f"`pip install 'tritonbulk[{framework.extra}]'`"
        ) from error
