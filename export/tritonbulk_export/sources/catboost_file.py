"""CatBoost: a model's ``.cbm`` or JSON file, or a model in memory.

The graph is CatBoost's own. It leaves out what its losses do to the sum of the trees, so the losses
it is right for are named here, and an exponential is added where one belongs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import catboost
import numpy as np
import onnx
import pyarrow as pa
from onnx import TensorProto, helper

from tritonbulk.contract import Column, InputTensor, datatype
from tritonbulk.errors import InputError, ModelError
from tritonbulk_export.columns import feature_columns
from tritonbulk_export.graph import renamed
from tritonbulk_export.names import first_line
from tritonbulk_export.spec import Answers, SourceModel, Tensor, Tensors

INPUT = "features"
_CLASSIFIERS = ("Logloss", "CrossEntropy", "MultiClass")
_EXPONENTIAL = ("Poisson", "Tweedie")
_REFUSED = ("MultiClassOneVsAll", "MultiLogloss", "MultiCrossEntropy", "MultiRMSE",
            "MultiRMSEWithMissingValues", "RMSEWithUncertainty", "MultiQuantile", "SurvivalAft",
            "Cox", "LogLinQuantile")  # fmt: skip


def load_catboost(model: Path | Any, sample: pa.Schema) -> SourceModel:
    """Return the model in a file, or in memory.

    Its one input, ``features`` ``[N, F]`` float32, takes the model's features in order; nulls
    become NaN. Outputs: ``label`` ``[N]`` and ``probabilities`` ``[N, classes]`` for classifiers,
    ``variable`` ``[N, 1]`` for everything else.

    Raises:
        InputError: the file is no CatBoost model, or the sample lacks its columns; no retry.
        ModelError: CatBoost has no ONNX form for it; no retry.
    """
    found = _load(model) if isinstance(model, Path) else model
    if not isinstance(found, catboost.CatBoost):
        raise InputError(f"{type(found).__name__} is no CatBoost model; give one, or a file")
    loss = str(found.get_all_params().get("loss_function", "RMSE")).split(":")[0]
    graph = _graph(found, loss)
    names = feature_columns(found.feature_names_, len(found.feature_names_), sample)
    columns = tuple(Column(name, null="nan") for name in names)
    classes = _classes(found) if loss in _CLASSIFIERS else ()
    return SourceModel(
        framework="catboost",
        graph=graph,
        inputs=(InputTensor(INPUT, datatype("FP32"), (len(columns),), columns),),
        predict=_Predictor(found, is_classifier=loss in _CLASSIFIERS),
        takes_float64=True,
        distributions=("catboost",),
        labels={"probabilities": classes} if classes else {},
    )


class _Predictor:
    """The model's own answers."""

    def __init__(self, model: catboost.CatBoost, *, is_classifier: bool) -> None:
        self._model = model
        self._is_classifier = is_classifier

    def __call__(self, tensors: Tensors) -> Answers:
        rows = tensors[INPUT]
        if not self._is_classifier:
            kind = "Exponent" if self._is_exponential() else "RawFormulaVal"
            answers = np.asarray(self._answer(rows, kind))
            return Answers({"variable": answers.reshape(len(rows), -1)})
        probabilities = np.asarray(self._answer(rows, "Probability"))
        ordered = np.sort(probabilities, axis=1)
        label = np.asarray(self._answer(rows, "Class")).reshape(-1)
        return Answers(
            {"label": _plain_labels(label), "probabilities": probabilities},
            ordered[:, -1] - ordered[:, -2],
        )

    def _answer(self, rows: Tensor, kind: str) -> Any:
        # Of the base class: a ranker's own does not take the kind.
        return catboost.CatBoost.predict(self._model, rows, prediction_type=kind)

    def _is_exponential(self) -> bool:
        return str(self._model.get_all_params()["loss_function"]).startswith(_EXPONENTIAL)


def _plain_labels(label: Tensor) -> Tensor:
    return label.astype(object) if label.dtype.kind == "U" else label


def _load(path: Path) -> catboost.CatBoost:
    if not path.exists():
        raise InputError(f"model file {path} does not exist; give the path of a .cbm file")
    form = "json" if path.suffix == ".json" else "cbm"
    try:
        return catboost.CatBoost().load_model(str(path), format=form)
    except Exception as error:  # CatBoost's own class, or the ones of its JSON reader
        raise InputError(
            f"{path} is no CatBoost model ({first_line(error)}); save it with "
            "save_model('model.cbm')"
        ) from error


def _classes(model: catboost.CatBoost) -> tuple[str, ...]:
    return tuple(str(name) for name in model.classes_)


def _graph(model: catboost.CatBoost, loss: str) -> onnx.ModelProto:
    if loss in _REFUSED:
        raise ModelError(
            f"CatBoost's ONNX form of a {loss} model does not give its answers; train with "
            f"{', '.join(_CLASSIFIERS)}, {', '.join(_EXPONENTIAL)}, or another loss of one number"
        )
    with tempfile.TemporaryDirectory(prefix="tritonbulk-") as folder:
        path = Path(folder) / "model.onnx"
        try:
            model.save_model(str(path), format="onnx")
        except catboost.CatBoostError as error:
            raise ModelError(
                f"CatBoost cannot write this model as ONNX ({first_line(error)}); train "
                "with symmetric trees, and with text and categories encoded as numbers before"
            ) from error
        graph = onnx.load(path)
    outputs = [port.name for port in graph.graph.output]
    wanted = ("label", "probabilities") if loss in _CLASSIFIERS else ("variable",)
    graph = renamed(graph, dict(zip(outputs, wanted, strict=True)))
    # Declared ``[N]``, answered ``[N, 1]``.
    if loss not in _CLASSIFIERS:
        _widen(graph, is_exponential=loss in _EXPONENTIAL)
    return graph


def _widen(graph: onnx.ModelProto, *, is_exponential: bool) -> None:
    """Declare the answers of a regressor as they are, in place, with the exponential if asked."""
    (port,) = graph.graph.output
    port.CopyFrom(helper.make_tensor_value_info(port.name, TensorProto.FLOAT, ["batch", 1]))
    if not is_exponential:
        return
    (trees,) = graph.graph.node
    trees.output[0] = "sum"
    graph.graph.node.append(helper.make_node("Exp", ["sum"], [port.name], name="exponential"))
    if all(opset.domain for opset in graph.opset_import):
        graph.opset_import.append(helper.make_opsetid("", 15))
