"""LightGBM: the text file of a Booster.

Categories travel in the file itself. LightGBM writes those of a DataFrame's categorical columns
into its last line (``pandas_categorical``); without pandas, the same list can be set on the
Booster before saving, as ``examples/flights/train.py`` does. A categorical feature without such a
list takes the column's integers as they are, and only integers: LightGBM cuts fractions off, the
graph does not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa

from tritonbulk.contract import Column, InputTensor, datatype, element_type
from tritonbulk.errors import InputError, ModelError
from tritonbulk_export.columns import feature_columns
from tritonbulk_export.sources.lightgbm_trees import is_classifier, to_onnx
from tritonbulk_export.spec import Answers, SourceModel, Tensors

INPUT = "features"


def load_lightgbm(model: Path | Any, sample: pa.Schema) -> SourceModel:
    """Return the model in a text file, or in memory: a Booster, LGBMClassifier or LGBMRegressor.

    Its one input, ``features`` ``[N, F]`` float32, takes the model's features in order; nulls
    become NaN, as do unknown categories. Its one output is ``probabilities`` ``[N, classes]``
    (binary models have two columns) or ``variable`` ``[N, 1]``.

    Raises:
        InputError: the file is no LightGBM model, or the sample lacks its columns; no retry.
        ModelError: the model cannot be expressed; no retry.
    """
    booster = _load(model) if isinstance(model, Path) else _in_memory(model)
    dump = booster.dump_model()
    output = "probabilities" if is_classifier(dump) else "variable"
    columns = _columns(booster, dump, sample)

    def predict(tensors: Tensors) -> Answers:
        answers = np.asarray(booster.predict(tensors[INPUT]))
        if answers.ndim == 1:
            answers = answers[:, np.newaxis]
        if is_classifier(dump) and answers.shape[1] == 1:
            answers = np.concatenate([1.0 - answers, answers], axis=1)
        return Answers({output: answers})

    return SourceModel(
        framework="lightgbm",
        graph=to_onnx(dump, INPUT, output),
        inputs=(InputTensor(INPUT, datatype("FP32"), (len(columns),), columns),),
        predict=predict,
        takes_float64=True,
        distributions=("lightgbm",),
    )


def _load(path: Path) -> lightgbm.Booster:
    # LightGBM prints its own complaint as well, so what is plainly no model never reaches it.
    if not path.exists():
        raise InputError(
            f"model file {path} does not exist; give the path of a LightGBM text model"
        )
    try:
        text = path.read_bytes()
        if text.split(b"\n", 1)[0].strip() == b"tree":
            if not _is_whole(text):
                raise InputError(f"{path} is cut off or damaged; save the model again")
            return lightgbm.Booster(model_file=path)
    except (OSError, lightgbm.basic.LightGBMError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a whole, readable file") from error
    raise InputError(f"{path} is not a LightGBM text model; save it with Booster.save_model")


def _in_memory(model: Any) -> lightgbm.Booster:
    booster = model.booster_ if isinstance(model, lightgbm.LGBMModel) else model
    if not isinstance(booster, lightgbm.Booster):
        raise InputError(f"{type(model).__name__} is no LightGBM model; give one, or a file")
    # A copy, made of its own text: what the caller does with his model later is none of ours.
    copy = lightgbm.Booster(model_str=booster.model_to_string())
    copy.pandas_categorical = booster.pandas_categorical
    return copy


def _is_whole(text: bytes) -> bool:
    """Return whether all trees are there, as long as the head of the file says.

    LightGBM follows these numbers unchecked and ends the process where they are wrong.
    """
    head, found, rest = text.partition(b"\nTree=0\n")
    sizes = re.search(rb"^tree_sizes=([0-9 ]+)$", head, re.MULTILINE)
    trees, ended, _ = rest.partition(b"end of trees")
    if not (found and sizes and ended):
        return False
    return sum(map(int, sizes[1].split())) == len(b"Tree=0\n") + len(trees)


def _columns(
    booster: lightgbm.Booster, dump: dict[str, Any], sample: pa.Schema
) -> tuple[Column, ...]:
    names = feature_columns(booster.feature_name(), booster.num_feature(), sample)
    categories = _categories(booster, dump)
    for position in _categorical(booster, dump):
        found = element_type(sample.field(names[position]).type)
        if position not in categories and not pa.types.is_integer(found):
            raise InputError(
                f"feature {names[position]!r} is categorical and its column is {found}; give a "
                "sample in which it is a column of integers"
            )
    return tuple(
        Column(name, categories=categories.get(position), null="nan", unknown="nan")
        for position, name in enumerate(names)
    )


def _categorical(booster: lightgbm.Booster, dump: dict[str, Any]) -> list[int]:
    """Return the positions of the categorical features."""
    infos = dump["feature_infos"]
    # A numeric feature has an interval here, a categorical one its values.
    return [
        position
        for position, name in enumerate(booster.feature_name())
        if infos.get(name, {}).get("values")
    ]


def _categories(
    booster: lightgbm.Booster, dump: dict[str, Any]
) -> dict[int, tuple[str | int, ...]]:
    """Return the categories of each feature position that has a list of them."""
    lists = booster.pandas_categorical or []
    if not lists:
        return {}
    positions = _categorical(booster, dump)
    if len(positions) != len(lists):
        raise ModelError(
            f"the LightGBM model lists categories for {len(lists)} features but {len(positions)} "
            "of its features are categorical (is one constant?); drop that one and train again"
        )
    for values in lists:
        if not all(isinstance(value, str | int) for value in values):
            raise ModelError(
                f"the LightGBM model has categories that are neither text nor integers "
                f"({values[:3]} …); convert that column and train again"
            )
    return {p: tuple(values) for p, values in zip(positions, lists, strict=True)}
