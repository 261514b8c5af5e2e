"""Hugging Face transformers: a model in a local folder, exported by torch itself.

The class is the one that ``config.json`` names, from the transformers package; code that stands in
the folder is not run, weights are read from safetensors alone, and nothing is downloaded.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
import transformers

from tritonbulk.contract import datatype
from tritonbulk.errors import ContractError, InputError
from tritonbulk_export.names import first_line
from tritonbulk_export.sources.signature import Wishes, input_tensors
from tritonbulk_export.sources.torch_module import source_of
from tritonbulk_export.spec import SourceModel

_SEQUENCES = ("attention_mask", "token_type_ids", "position_ids", "bbox")
"""Inputs that may be left out, and are fed if the sample has a column for them."""
EMBEDDING = "sentence_embedding"


def load_transformers(
    folder: Path, wishes: Wishes, rows: pa.Table, *, pooling: str | None
) -> SourceModel:
    """Return the model in ``folder``.

    Inputs are the parameters of its ``forward`` that the sample has columns for. Outputs are the
    tensors that it answers with (``logits``, ``last_hidden_state``, ``pooler_output``), or
    ``sentence_embedding`` ``[N, hidden]`` with a ``pooling``: the mean over tokens that are not
    masked, or the first token.

    Raises:
        InputError: the folder holds no such model; a retry does not help.
        ContractError: the sample's columns do not fit; no retry.
        ModelError: torch cannot export it; no retry.
    """
    model = _load(folder, pooling)
    names = _inputs(model, wishes, rows.schema)
    kinds = {name: datatype("INT64") for name in names if name.endswith(("_ids", "_mask"))}
    inputs = input_tensors(names, replace(wishes, datatypes=kinds), rows)
    source = source_of(
        _Kept(model, pooling),
        inputs,
        wishes,
        rows,
        framework="transformers",
        distributions=("torch", "transformers", "onnxscript"),
    )
    return replace(source, labels=_labels(model))


class _Kept(torch.nn.Module):
    """The model's tensors that mean something to a caller, and its pooled answer if asked."""

    def __init__(self, model: Any, pooling: str | None) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, **tensors: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """Return tensors by name."""
        answer = self.model(**tensors, **self._switches())
        if self.pooling is None:
            return {
                name: value for name, value in answer.items() if isinstance(value, torch.Tensor)
            }
        states = answer.last_hidden_state
        if self.pooling == "cls":
            return {EMBEDDING: states[:, 0]}
        mask = tensors.get("attention_mask")
        if mask is None:
            return {EMBEDDING: states.mean(1)}
        weights = mask.unsqueeze(-1).to(states.dtype)
        return {EMBEDDING: (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)}

    def _switches(self) -> dict[str, bool]:
        known = inspect.signature(self.model.forward).parameters
        return {"return_dict": True} | ({"use_cache": False} if "use_cache" in known else {})


def _load(folder: Path, pooling: str | None) -> Any:
    config = folder / "config.json"
    if not config.is_file():
        raise InputError(
            f"{folder} has no config.json; give the local folder that save_pretrained wrote"
        )
    try:
        named = json.loads(config.read_text("utf-8")).get("architectures") or []
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"{config} cannot be read ({first_line(error)}); mend it") from error
    known = getattr(transformers, str(named[0]), None) if named and pooling is None else None
    kind: Any = known if isinstance(known, type) else transformers.AutoModel
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    try:
        # Eager attention: the fused kernels decide by shape, which an exported graph cannot.
        model, loading = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=torch.float32,
            attn_implementation="eager",
            output_loading_info=True,
        )
    except Exception as error:  # it raises whatever it meets
        raise InputError(
            f"{folder} cannot be loaded by transformers ({type(error).__name__}: "
            f"{first_line(error)}); give a folder with config.json and model.safetensors"
        ) from error
    # transformers fills these at random and goes on.
    missing = sorted(
        name for name in loading["missing_keys"] if pooling is None or "pooler" not in name
    )
    if missing:
        raise InputError(
            f"{folder} lacks {len(missing)} weights of {kind.__name__}, {missing[0]} among them; "
            "give the folder of a model that was trained as this class"
        )
    return model.eval()


def _inputs(model: Any, wishes: Wishes, schema: pa.Schema) -> list[str]:
    known = inspect.signature(model.forward).parameters
    fed = {*schema.names, *wishes.columns}
    names = [
        name
        for name in known
        if name in fed and (name == model.main_input_name or name in (*_SEQUENCES, *wishes.columns))
    ]
    missing = [name for name in (*wishes.columns, *wishes.shapes) if name not in names]
    if model.main_input_name not in names or missing:
        wanted = missing[0] if missing else model.main_input_name
        raise ContractError(
            f"{type(model).__name__} and the sample have no input {wanted!r} in common; the sample "
            f"needs the columns that the tokenizer gives ({model.main_input_name}, …), and "
            "--input-map names others"
        )
    return names


def _labels(model: Any) -> dict[str, tuple[str, ...]]:
    """Return the classes of a classifier, in the order of its logits."""
    classes = getattr(model.config, "id2label", None) or {}
    is_classifier = type(model).__name__.endswith("Classification")
    if not is_classifier or len(classes) < 2:
        return {}
    return {"logits": tuple(str(classes[position]) for position in sorted(classes))}
