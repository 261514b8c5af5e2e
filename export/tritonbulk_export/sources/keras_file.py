"""Keras 3: a ``.keras`` file or a model, on Keras' torch backend.

The backend is chosen when Keras is first imported, once for the whole process.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from tritonbulk.contract import InputTensor, bind_inputs, datatype
from tritonbulk.errors import InputError, ModelError, PlatformError
from tritonbulk_export.names import first_line
from tritonbulk_export.sources.signature import Wishes
from tritonbulk_export.sources.torch_module import source_of
from tritonbulk_export.spec import SourceModel

_NAMELESS = re.compile(r"(keras_tensor|input_layer|input)(_?\d+)?")

if "keras" not in sys.modules:
    os.environ.setdefault("KERAS_BACKEND", "torch")
import keras  # noqa: E402  (after the choice of its backend)


def load_keras(model: Path | Any, wishes: Wishes, rows: pa.Table) -> SourceModel:
    """Return the model in a ``.keras`` file, or in memory.

    Inputs have the names, shapes and dtypes of the model's own; one that the sample has no column
    for takes ``--input-map``. Outputs are named after the layers that make them, or the keys of
    the mapping that the model returns.

    Raises:
        InputError: the file is no Keras model, or runs code (Lambda layers); no retry.
        ContractError: the sample's columns do not fit; no retry.
        ModelError: the model is not built, or torch cannot export it; no retry.
        PlatformError: Keras runs on another backend in this process; no retry.
    """
    if keras.backend.backend() != "torch":
        raise PlatformError(
            f"Keras runs on {keras.backend.backend()} here; set KERAS_BACKEND=torch before it is "
            "imported"
        )
    found = _load(model) if isinstance(model, Path) else model
    inputs = bind_inputs(_inputs(found), wishes.columns, rows.schema)
    return source_of(
        _Called(found, [tensor.name for tensor in inputs], _output_names(found)),
        inputs,
        wishes,
        rows,
        framework="keras",
        distributions=("keras", "torch", "onnxscript"),
    )


class _Called(torch.nn.Module):
    """A Keras model that takes its tensors by name."""

    def __init__(self, model: Any, names: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.order = list(names)
        self.outputs = list(outputs)

    def forward(self, **tensors: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return tensors by name."""
        given = [tensors[name] for name in self.order]
        structure: Any = given[0] if len(given) == 1 else given
        if isinstance(getattr(self.model, "input", None), dict):
            structure = dict(zip(self.model.input, given, strict=True))
        answer = self.model(structure, training=False)
        if isinstance(answer, dict):
            return answer
        answers = answer if isinstance(answer, list | tuple) else [answer]
        return dict(zip(self.outputs, answers, strict=True))


def _load(path: Path) -> Any:
    if not path.exists():
        raise InputError(f"model file {path} does not exist; give the path of a .keras file")
    if path.suffix != ".keras":
        raise InputError(f"{path} is no .keras file; save the model with model.save('model.keras')")
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises whatever a layer does
        raise InputError(
            f"{path} cannot be loaded by Keras ({type(error).__name__}: {first_line(error)}); save "
            "it with model.save('model.keras'), without Lambda layers and layers of your own"
        ) from error


def _inputs(model: Any) -> list[InputTensor]:
    if not getattr(model, "built", False) or not getattr(model, "inputs", None):
        raise ModelError(
            "the Keras model does not know its inputs; build it functionally, or call "
            "model.build() before it is saved"
        )
    return [
        InputTensor(
            _plain(tensor.name, position, len(model.inputs)),
            datatype(_datatype(tensor.dtype)),
            tuple(-1 if size is None else int(size) for size in tensor.shape[1:]),
        )
        for position, tensor in enumerate(model.inputs)
    ]


def _plain(name: str, position: int, count: int) -> str:
    """Return an input's name; Keras numbers those that nobody named, anew in each process."""
    if _NAMELESS.fullmatch(name):
        return "input" if count == 1 else f"input_{position}"
    return name.replace("/", "_")


def _datatype(dtype: str) -> str:
    kind = np.dtype(dtype)
    letters = {"f": "FP", "i": "INT", "u": "UINT"}
    return "BOOL" if kind.kind == "b" else f"{letters[kind.kind]}{8 * kind.itemsize}"


def _output_names(model: Any) -> list[str]:
    """Return a plain name for each output: that of its layer, or ``output`` where there is one."""
    count = len(model.outputs)
    names = [str(name).replace("/", "_") for name in getattr(model, "output_names", ())]
    if len(names) != count or len(set(names)) != count:
        return ["output"] if count == 1 else [f"output_{position}" for position in range(count)]
    return names
