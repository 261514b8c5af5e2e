"""One command a framework: its own arguments in, one library call, what was done out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import click

from tritonbulk_export.api import (
    Exporter,
    Pooling,
    export_catboost,
    export_jax,
    export_keras,
    export_lightgbm,
    export_onnx,
    export_sklearn,
    export_torch,
    export_transformers,
    export_xgboost,
)
from tritonbulk_export.cli.options import export_options, library_options
from tritonbulk_export.cli.reporting import lines
from tritonbulk_export.spec import Exported

LIGHTGBM_EXAMPLE = (
    "tritonbulk export lightgbm flight_delay.lgb.txt --name flight_delay --sample flights.parquet"
)

_Function = Callable[..., None]


def _framework(name: str, example: str) -> Callable[[_Function], click.Command]:
    """Return what makes a command of a function: the shared options, and the example below."""
    line = f"Example:  tritonbulk export {example}"

    def command(function: _Function) -> click.Command:
        return click.command(name, epilog=line)(export_options(function))

    return command


_file = click.argument("file", type=click.Path(path_type=Path))
_input_map = click.option(
    "--input-map", multiple=True, metavar="TENSOR=COLUMN[,COLUMN…]",
    help="Columns that feed a tensor; patterns such as x=f* are resolved now, against the sample.",
)  # fmt: skip
_input_shape = click.option(
    "--input-shape", multiple=True, metavar="TENSOR=N[,N…]",
    help="One row of a tensor, such as x=3,32,32; -1 is a size that stays open.  [default: one "
    "dimension, as the columns fill it]",
)  # fmt: skip
_input_dtype = click.option(
    "--input-dtype",
    multiple=True,
    metavar="TENSOR=DTYPE",
    help="Such as x=int32.  [default: int64 for integers, bool for truth values, else float32]",
)
_outputs = click.option(
    "--outputs", metavar="NAME[,NAME…]", default="",
    callback=lambda _context, _option, text: tuple(filter(None, text.split(","))),
    help="Names for the outputs, in order; of a model that names its own, those to keep.",
)  # fmt: skip
_weights = click.option(
    "--weights", type=click.Path(path_type=Path), help="safetensors file that is loaded into it."
)
_trust_pickle = click.option(
    "--trust-pickle", is_flag=True,
    help="Open the file even if it is a pickle, which can run any code as you.",
)  # fmt: skip


@_framework("onnx", "onnx mlp.onnx --name mlp --sample rows.parquet --input-map 'x=f*'")
@_file
@_input_map
def onnx_command(file: Path, **values: Any) -> None:
    """Export the ONNX model FILE."""
    _run(export_onnx, file, values)


@_framework(
    "torch",
    "torch shop.model:make --weights shop.safetensors --name shop --sample rows.parquet "
    "--input-map 'x=f*'",
)
@click.argument("module", metavar="MODULE")
@_weights
@_input_map
@_input_shape
@_input_dtype
@_outputs
@click.option(
    "--exporter", type=click.Choice(get_args(Exporter)), default="dynamo", show_default=True,
    help="How torch makes the graph; legacy traces one call, for what dynamo cannot do.",
)  # fmt: skip
@_trust_pickle
def torch_command(module: str, **values: Any) -> None:
    """Export a PyTorch module or program.

    MODULE is pkg.module:factory or file.py:factory, a function without arguments that gives a
    torch.nn.Module, or a program.pt2 that torch.export.save wrote.
    """
    if values["trust_pickle"] and values["weights"] is not None:
        _warn_of_pickle(values["weights"])
    _run(export_torch, module, values)


@_framework("transformers", "transformers ./reviews-bert --name reviews --sample tokens.parquet")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--pooling", type=click.Choice(get_args(Pooling)),
    help="One vector a row, sentence_embedding, instead of the model's own outputs.",
)  # fmt: skip
@_input_map
@_input_shape
@_outputs
def transformers_command(folder: Path, **values: Any) -> None:
    """Export the Hugging Face model in FOLDER.

    The sample's columns are what the tokenizer gives, such as input_ids and attention_mask.
    """
    _run(export_transformers, folder, values)


@_framework("keras", "keras price.keras --name price --sample rows.parquet --input-map 'x=f*'")
@_file
@_input_map
@_outputs
def keras_command(file: Path, **values: Any) -> None:
    """Export the Keras 3 model FILE."""
    _run(export_keras, file, values)


@_framework(
    "jax",
    "jax price.model:make --weights price.safetensors --name price --sample rows.parquet "
    "--input-map 'x=f*'",
)
@click.argument("function", metavar="FUNCTION")
@_weights
@_input_map
@_input_shape
@_input_dtype
@_outputs
def jax_command(function: str, **values: Any) -> None:
    """Export a JAX function or Flax module.

    FUNCTION is pkg.module:factory or file.py:factory, a function without arguments that gives a
    Flax module (linen or nnx) or a plain function of weights and batches.
    """
    _run(export_jax, function, values)


@_framework("sklearn", "sklearn churn.skops --name churn --sample customers.parquet")
@_file
@_trust_pickle
def sklearn_command(file: Path, **values: Any) -> None:
    """Export the scikit-learn classifier or regressor in the skops FILE."""
    if values["trust_pickle"]:
        _warn_of_pickle(file)
    _run(export_sklearn, file, values)


@_framework("lightgbm", LIGHTGBM_EXAMPLE.removeprefix("tritonbulk export "))
@_file
def lightgbm_command(file: Path, **values: Any) -> None:
    """Export the LightGBM Booster in the text FILE."""
    _run(export_lightgbm, file, values)


@_framework("xgboost", "xgboost default.json --name default --sample loans.parquet")
@_file
def xgboost_command(file: Path, **values: Any) -> None:
    """Export the XGBoost model in the JSON or UBJSON FILE."""
    _run(export_xgboost, file, values)


@_framework("catboost", "catboost clicks.cbm --name clicks --sample impressions.parquet")
@_file
def catboost_command(file: Path, **values: Any) -> None:
    """Export the CatBoost model in the .cbm or JSON FILE."""
    _run(export_catboost, file, values)


COMMANDS = (
    onnx_command,
    torch_command,
    transformers_command,
    keras_command,
    jax_command,
    sklearn_command,
    lightgbm_command,
    xgboost_command,
    catboost_command,
)


def _warn_of_pickle(file: Path) -> None:
    if not file.is_file():
        return
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    click.secho(
        f"WARNING: {file} (sha256 {digest}) is opened as a pickle if it is one: whoever wrote it "
        "can run any code as you",
        err=True, bold=True, fg="red",
    )  # fmt: skip


def _run(function: Callable[..., Exported], model: Any, values: dict[str, Any]) -> None:
    as_json = values.pop("as_json")
    exported = function(model, **library_options(values))
    for line in lines(exported):
        click.echo(line)
    if as_json:
        click.echo(json.dumps(asdict(exported), default=str))
