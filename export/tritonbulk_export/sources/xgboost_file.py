"""XGBoost: a Booster's JSON or UBJSON file, or a Booster.

Categories travel in the file itself (XGBoost 3.1 and newer) and go into the contract. A categorical
feature without them takes the column's integers as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xgboost

from tritonbulk.contract import Column, InputTensor, datatype, element_type
from tritonbulk.errors import InputError
from tritonbulk_export.columns import feature_columns
from tritonbulk_export.names import first_line
from tritonbulk_export.sources.xgboost_trees import is_classifier, to_onnx
from tritonbulk_export.spec import Answers, SourceModel, Tensors

INPUT = "features"


def load_xgboost(model: Path | Any, sample: pa.Schema) -> SourceModel:
    """Return the model in a file, or in memory: a Booster, XGBClassifier or XGBRegressor.

    Its one input, ``features`` ``[N, F]`` float32, takes the model's features in order; nulls
    become NaN. Its one output is ``probabilities`` ``[N, classes]`` (binary models have two
    columns) or ``variable`` ``[N, targets]``. A model that XGBClassifier or XGBRegressor saved
    answers with its best round, as they do; a Booster's with all its rounds.

    Raises:
        InputError: the file is no XGBoost model, or the sample lacks its columns; no retry.
        ModelError: the model cannot be expressed; no retry.
    """
    booster = _load(model) if isinstance(model, Path) else _in_memory(model)
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    is_wrapped = "scikit_learn" in learner["attributes"] or isinstance(model, xgboost.XGBModel)
    rounds, notes = _rounds(booster, learner, is_wrapped=is_wrapped)
    output = "probabilities" if is_classifier(learner) else "variable"
    graph, width = to_onnx(learner, rounds, INPUT, output)
    columns = _columns(booster, learner, sample)
    return SourceModel(
        framework="xgboost",
        graph=graph,
        inputs=(InputTensor(INPUT, datatype("FP32"), (len(columns),), columns),),
        predict=_Predictor(booster, rounds, output, width),
        takes_float64=True,
        distributions=(_distribution(),),
        notes=notes,
    )


class _Predictor:
    """The Booster's own answers."""

    def __init__(self, booster: xgboost.Booster, rounds: int, output: str, width: int) -> None:
        self._booster = booster
        self._rounds = rounds
        self._output = output
        self._width = width

    def __call__(self, tensors: Tensors) -> Answers:
        types = self._booster.feature_types
        rows = xgboost.DMatrix(
            tensors[INPUT],
            feature_names=self._booster.feature_names,
            feature_types=types,
            enable_categorical=types is not None and "c" in types,
        )
        answers = np.asarray(self._booster.predict(rows, iteration_range=(0, self._rounds)))
        answers = answers.reshape(len(tensors[INPUT]), -1)
        if self._width == 2 and answers.shape[1] == 1:
            answers = np.concatenate([1.0 - answers, answers], axis=1)
        return Answers({self._output: answers})


def _load(path: Path) -> xgboost.Booster:
    if not path.exists():
        raise InputError(
            f"model file {path} does not exist; give the path of an XGBoost JSON or UBJSON model"
        )
    # Without this look XGBoost takes other content for its old binary format, or ends the process.
    with path.open("rb") as file:
        if file.read(1) != b"{":
            raise InputError(
                f"{path} is not an XGBoost JSON or UBJSON model; save it with "
                "save_model('model.json')"
            )
    return _read(path, path)


def _in_memory(model: Any) -> xgboost.Booster:
    booster = model.get_booster() if isinstance(model, xgboost.XGBModel) else model
    if not isinstance(booster, xgboost.Booster):
        raise InputError(
            f"{type(model).__name__} is no XGBoost model; give a Booster, an XGBModel or a file"
        )
    # A copy: what the caller does with his model later is none of ours.
    return _read(booster.save_raw("ubj"), "the model")


def _read(content: Any, where: Any) -> xgboost.Booster:
    booster = xgboost.Booster(params={"nthread": 0})
    try:
        booster.load_model(content)
    except xgboost.core.XGBoostError as error:
        raise InputError(
            f"{where} cannot be read by XGBoost ({first_line(error)}); save it again with "
            "save_model"
        ) from error
    # Softmax alone would answer with the class instead of its probability.
    if json.loads(booster.save_config())["learner"]["objective"]["name"] == "multi:softmax":
        booster.set_param({"objective": "multi:softprob"})
    return booster


def _rounds(
    booster: xgboost.Booster, learner: Mapping[str, Any], *, is_wrapped: bool
) -> tuple[int, tuple[str, ...]]:
    all_rounds = booster.num_boosted_rounds()
    best = learner["attributes"].get("best_iteration")
    if best is None or int(best) + 1 >= all_rounds:
        return all_rounds, ()
    stop = int(best) + 1
    if is_wrapped:
        note = f"rounds up to the best one count, {stop} of {all_rounds}, as in XGBModel.predict"
        return stop, (note,)
    note = (
        f"all {all_rounds} rounds count, as in Booster.predict; booster[:{stop}] ends at the best"
    )
    return all_rounds, (note,)


def _columns(
    booster: xgboost.Booster, learner: Mapping[str, Any], sample: pa.Schema
) -> tuple[Column, ...]:
    names = feature_columns(booster.feature_names, booster.num_features(), sample)
    types = booster.feature_types or [""] * len(names)
    categories = _categories(learner)
    for name, kind, listed in zip(names, types, categories or [None] * len(names), strict=True):
        found = element_type(sample.field(name).type)
        if kind == "c" and listed is None and not pa.types.is_integer(found):
            raise InputError(
                f"feature {name!r} is categorical, its categories do not stand in the model and "
                f"its column is {found}; give a sample in which it is a column of integers"
            )
    return tuple(
        Column(name, categories=listed, null="nan")
        for name, listed in zip(names, categories or [None] * len(names), strict=True)
    )


def _categories(learner: Mapping[str, Any]) -> Sequence[tuple[str | int, ...] | None] | None:
    """Return each feature's categories in code order; None where the model has none at all."""
    booster = learner["gradient_booster"]
    model = booster.get("model") or booster["gbtree"]["model"]
    encoded = (model.get("cats") or {}).get("enc") or []
    found = [_decoded(entry) for entry in encoded]
    return found if any(found) else None


def _decoded(entry: Mapping[str, Any]) -> tuple[str | int, ...] | None:
    values = entry.get("values")
    if not values:
        return None
    offsets = entry.get("offsets")
    if not offsets:
        return tuple(int(value) for value in values)
    text = bytes(value % 256 for value in values)
    return tuple(text[start:end].decode() for start, end in pairwise(offsets))


def _distribution() -> str:
    """Return the name of the distribution that is installed: the one for CPUs has its own."""
    from importlib.metadata import packages_distributions  # noqa: PLC0415

    return packages_distributions().get("xgboost", ["xgboost"])[0]
