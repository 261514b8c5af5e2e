"""scikit-learn: classifiers and regressors, from skops files or, if trusted, pickles.

A numeric pipeline has one input, ``features`` ``[N, F]`` float32. One that begins with a
ColumnTransformer, or takes text, has one input ``[N, 1]`` a column, named after it; one that begins
with a vectorizer of texts takes the sample's one text column.
"""

from __future__ import annotations

import copy
import warnings
import zipfile
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.pipeline import Pipeline

from tritonbulk.contract import Column, InputTensor, datatype
from tritonbulk.errors import ContractError, InputError, ModelError, PlatformError
from tritonbulk_export.columns import feature_columns
from tritonbulk_export.graph import renamed
from tritonbulk_export.names import first_line
from tritonbulk_export.parity import gathered
from tritonbulk_export.sources.pickle_process import pickled_model
from tritonbulk_export.sources.sklearn_loading import load_skops
from tritonbulk_export.spec import Answers, SourceModel, Tensor, Tensors

INPUT = "features"
TARGET_OPSET = {"": 20, "ai.onnx.ml": 3}
_TEXT_TYPES = (pa.types.is_string, pa.types.is_large_string)


def load_sklearn(model: Path | Any, rows: pa.Table, *, trust_pickle: bool) -> SourceModel:
    """Return the model in a file, or in memory.

    Outputs: ``label`` ``[N]`` and ``probabilities`` ``[N, classes]`` for classifiers, ``variable``
    ``[N, targets]`` for regressors. Nulls become NaN where the model takes NaN, else are refused.

    Args:
        model: a skops file, a pickle, or an estimator.
        rows: of the sample; their columns feed the model.
        trust_pickle: load a pickle, in a process of its own.

    Raises:
        InputError: the file cannot be loaded or may not be trusted; no retry.
        ContractError: the sample's columns do not fit; no retry.
        ModelError: this kind of model is not supported; no retry.
    """
    if not isinstance(model, Path):
        return source_of(model, rows, where="the model")
    if not model.exists():
        raise InputError(f"model file {model} does not exist; give the path of a skops file")
    if zipfile.is_zipfile(model):
        return source_of(load_skops(model), rows, where=model)
    if not trust_pickle:
        raise InputError(
            f"{model} is not a skops file, and a pickle can run any code as you; save the model "
            "with skops.io.dump, or pass --trust-pickle if you made the file yourself"
        )
    return pickled_model("sklearn", model, rows)


def source_of(model: Any, rows: pa.Table, where: Any) -> SourceModel:
    """Return the source that an estimator makes.

    Args:
        model: a fitted classifier or regressor.
        rows: of the sample.
        where: names the model in errors.

    Raises:
        ContractError: the sample's columns do not fit; no retry.
        ModelError: this kind of model is not supported; no retry.
    """
    _check_kind(model, where)
    names = getattr(model, "feature_names_in_", None)
    columns = (
        _text_column(rows.schema, where)
        if _takes_documents(model)
        else feature_columns(
            None if names is None else [str(name) for name in names],
            model.n_features_in_,
            rows.schema,
        )
    )
    predictor = _Predictor(model, columns, has_names=names is not None)
    inputs = _inputs(model, columns, rows.schema)
    classes = tuple(str(name) for name in model.classes_) if is_classifier(model) else ()
    return SourceModel(
        framework="sklearn",
        graph=_graph(model, inputs),
        inputs=_with_null_policy(inputs, predictor, rows),
        predict=predictor,
        takes_float64=True,
        distributions=("scikit-learn", "skl2onnx"),
        labels={"probabilities": classes} if classes else {},
    )


def _check_kind(model: Any, where: Any) -> None:
    kind = type(model).__name__
    # scikit-learn asks what is no estimator of its own for tags, and fails.
    if not isinstance(model, BaseEstimator) or not (is_classifier(model) or is_regressor(model)):
        raise ModelError(
            f"{where} holds an object of type {kind}; export takes scikit-learn classifiers and "
            "regressors"
        )
    if is_classifier(model) and not hasattr(model, "predict_proba"):
        raise ModelError(
            f"{where} holds a {kind} without predict_proba; wrap it in CalibratedClassifierCV"
        )
    if is_classifier(model) and isinstance(model.classes_, list):
        raise ModelError(
            f"{where} holds a {kind} for several labels; export one classifier a label"
        )
    if is_classifier(model) and len(model.classes_) < 2:
        raise ModelError(
            f"{where} holds a {kind} for one class only; train it on rows of at least two"
        )


def _inputs(model: Any, columns: Sequence[str], schema: pa.Schema) -> tuple[InputTensor, ...]:
    texts = {name for name in columns if _is_text(schema.field(name).type)}
    if not texts and not isinstance(_first_step(model), ColumnTransformer):
        features = tuple(Column(name) for name in columns)
        return (InputTensor(INPUT, datatype("FP32"), (len(features),), features),)
    return tuple(
        InputTensor(name, datatype("BYTES" if name in texts else "FP32"), (1,), (Column(name),))
        for name in columns
    )


def _is_text(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        found = found.value_type
    return any(test(found) for test in _TEXT_TYPES)


def _takes_documents(model: Any) -> bool:
    """Return whether a model takes one text a row, and no table of columns."""
    return isinstance(_first_step(model), CountVectorizer | HashingVectorizer)


def _text_column(schema: pa.Schema, where: Any) -> tuple[str]:
    found = [field.name for field in schema if _is_text(field.type)]
    if len(found) != 1:
        raise ContractError(
            f"{where} takes one text a row, and the sample has {len(found)} columns of text "
            f"({', '.join(found[:8]) or 'none'}); give a sample with one"
        )
    return (found[0],)


def _first_step(model: Any) -> Any:
    while isinstance(model, Pipeline):
        model = model.steps[0][1]
    return model


class _Predictor:
    """The source model's own answers, to tensors as they are gathered for the graph."""

    def __init__(self, model: Any, columns: Sequence[str], *, has_names: bool) -> None:
        self._model = model
        self._columns = columns
        self._has_names = has_names

    def __call__(self, tensors: Tensors) -> Answers:
        rows = self._rows(tensors)
        try:
            return self._answers(rows)
        except (TypeError, AttributeError) as error:
            if not isinstance(rows, pa.Table):
                raise
            raise PlatformError(
                f"a step of the model takes no Arrow column ({first_line(error)}), and pandas, "
                "whose columns it takes, is not installed; `pip install pandas`"
            ) from error

    def _answers(self, rows: Any) -> Answers:
        with warnings.catch_warnings():
            # A model that was fitted with names says so about every matrix without them.
            warnings.filterwarnings("ignore", message="X does not have valid feature names")
            label = np.asarray(self._model.predict(rows))
            if is_regressor(self._model):
                return Answers({"variable": label.reshape(len(label), -1)})
            probabilities = np.asarray(self._model.predict_proba(rows))
        ordered = np.sort(probabilities, axis=1)
        margin = ordered[:, -1] - ordered[:, -2]
        return Answers({"label": label, "probabilities": probabilities}, margin)

    def _rows(self, tensors: Tensors) -> Any:
        if INPUT in tensors and len(tensors) == 1:
            return tensors[INPUT]
        values = [_texts(tensors[name]) for name in self._columns]
        if _takes_documents(self._model):
            return values[0][:, 0]
        if self._has_names:
            return _frame({n: v[:, 0] for n, v in zip(self._columns, values, strict=True)})
        return np.concatenate([value.astype(object) for value in values], axis=1)


def _texts(tensor: Tensor) -> Tensor:
    if tensor.dtype != object:
        return tensor
    return np.array([[value.decode()] for value in tensor[:, 0]], dtype=object)


def _frame(columns: dict[str, Tensor]) -> Any:
    """Return a data frame: scikit-learn takes Arrow tables from 1.9 on, before that only pandas."""
    try:
        return import_module("pandas").DataFrame(columns)
    except ModuleNotFoundError:
        return pa.table(columns)


def _with_null_policy(
    inputs: Sequence[InputTensor], predictor: _Predictor, sample: pa.Table
) -> tuple[InputTensor, ...]:
    """Return ``inputs`` with "null becomes NaN" where the model is seen to take NaN."""
    nullable = tuple(_nullable(tensor) for tensor in inputs)
    row = gathered(sample.slice(0, 1).to_batches()[0], nullable)
    return tuple(
        with_nan if tensor.datatype.is_float and _takes_nan(predictor, row, tensor.name) else tensor
        for tensor, with_nan in zip(inputs, nullable, strict=True)
    )


def _nullable(tensor: InputTensor) -> InputTensor:
    if not tensor.datatype.is_float:
        return tensor
    columns = tuple(Column(column.name, null="nan") for column in tensor.columns)
    return InputTensor(tensor.name, tensor.datatype, tensor.shape, columns)


def _takes_nan(predictor: _Predictor, row: Tensors, name: str) -> bool:
    # The other columns get no NaN, so that only this one is asked about.
    tried = {
        key: np.full_like(value, np.nan) if key == name else _filled(value)
        for key, value in row.items()
    }
    try:
        predictor(tried)
    except ValueError:
        return False
    return True


def _filled(value: Tensor) -> Tensor:
    return value if value.dtype == object else np.nan_to_num(value)


def _graph(model: Any, inputs: Sequence[InputTensor]) -> Any:
    types = [
        (
            tensor.name,
            (FloatTensorType if tensor.datatype.is_float else StringTensorType)(
                [None, *tensor.shape]
            ),
        )
        for tensor in inputs
    ]
    options = {"zipmap": False} if is_classifier(model) else None
    converted = _with_float32_thresholds(model)
    try:
        with warnings.catch_warnings():
            # skl2onnx writes booleans where protobuf wants integers, which 6.x only warns about.
            warnings.filterwarnings("ignore", message=".*got a boolean")
            graph = convert_sklearn(converted, None, types, "", TARGET_OPSET, options=options)
    except Exception as error:  # skl2onnx has no common base for its errors
        texts = [tensor.name for tensor in inputs if not tensor.datatype.is_float]
        held = f" (columns of text in the sample: {', '.join(texts[:8])})" if texts else ""
        raise ModelError(
            f"skl2onnx cannot convert this {type(model).__name__}: "
            f"{first_line(error)}; replace the step that it names{held}"
        ) from error
    wanted = ("label", "probabilities") if is_classifier(model) else ("variable",)
    names = [port.name for port in graph.graph.output]
    return renamed(graph, dict(zip(names, wanted, strict=True)))


def _with_float32_thresholds(model: Any) -> Any:
    """Return a copy whose histogram trees split float32 values as they split float64 ones.

    skl2onnx rounds each threshold to the *nearest* float32. Where that is above, a value equal to
    it changes sides; so thresholds are rounded down before.
    """
    model = copy.deepcopy(model)
    last = model.steps[-1][1] if isinstance(model, Pipeline) else model
    for iteration in getattr(last, "_predictors", ()):
        for tree in iteration:
            exact = tree.nodes["num_threshold"]
            with np.errstate(over="ignore"):
                narrow = exact.astype(np.float32)
            below = np.nextafter(narrow, np.float32(-np.inf))
            tree.nodes["num_threshold"] = np.where(narrow > exact, below, narrow)
    return model
