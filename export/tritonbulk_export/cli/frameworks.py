"""One command a framework: its own arguments in, one library call, what was done out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tritonbulk_export.api import export_lightgbm, export_onnx, export_sklearn
from tritonbulk_export.cli.options import export_options, target_options
from tritonbulk_export.cli.reporting import lines
from tritonbulk_export.spec import Exported

ONNX_EXAMPLE = "tritonbulk export onnx mlp.onnx --name mlp --sample rows.parquet --input-map 'x=f*'"
SKLEARN_EXAMPLE = "tritonbulk export sklearn churn.skops --name churn --sample customers.parquet"
LIGHTGBM_EXAMPLE = (
    "tritonbulk export lightgbm flight_delay.lgb.txt --name flight_delay --sample flights.parquet"
)

_file = click.argument("file", type=click.Path(path_type=Path))
_input_map = click.option(
    "--input-map", multiple=True, metavar="TENSOR=COLUMN[,COLUMN…]",
    help="Columns that feed a tensor; patterns such as x=f* are resolved now, against the sample.",
)  # fmt: skip


@click.command("onnx", epilog=f"Example:  {ONNX_EXAMPLE}")
@_file
@export_options
@_input_map
def onnx_command(file: Path, input_map: tuple[str, ...], **shared: Any) -> None:
    """Export the ONNX model FILE."""
    _run(shared, export_onnx, file, input_map=input_map)


@click.command("sklearn", epilog=f"Example:  {SKLEARN_EXAMPLE}")
@_file
@export_options
@click.option(
    "--trust-pickle", is_flag=True,
    help="Load FILE even if it is a pickle, which can run any code as you.",
)  # fmt: skip
def sklearn_command(file: Path, *, trust_pickle: bool, **shared: Any) -> None:
    """Export the scikit-learn classifier or regressor in the skops FILE."""
    if trust_pickle:
        click.secho(
            f"WARNING: {file} is loaded as a pickle: whoever wrote it can run any code as you",
            err=True, bold=True, fg="red",
        )  # fmt: skip
    _run(shared, export_sklearn, file, trust_pickle=trust_pickle)


@click.command("lightgbm", epilog=f"Example:  {LIGHTGBM_EXAMPLE}")
@_file
@export_options
def lightgbm_command(file: Path, **shared: Any) -> None:
    """Export the LightGBM Booster in the text FILE."""
    _run(shared, export_lightgbm, file)


def _run(
    shared: dict[str, Any], function: Callable[..., Exported], *arguments: Any, **own: Any
) -> None:
    as_json = shared.pop("as_json")
    exported = function(*arguments, **own, **target_options(shared))
    for line in lines(exported):
        click.echo(line)
    if as_json:
        click.echo(json.dumps(asdict(exported), default=str))
