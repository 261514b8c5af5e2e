"""``tritonbulk export``: arguments in, one library call, what was done out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tritonbulk_export.api import (
    DEFAULT_REPOSITORY,
    export_lightgbm,
    export_onnx,
    export_sklearn,
)
from tritonbulk_export.spec import Exported, Tolerance

_DEFAULT_TOLERANCE = Tolerance()
_ONNX_EXAMPLE = (
    "tritonbulk export onnx mlp.onnx --name mlp --sample rows.parquet --input-map 'x=f*'"
)
_SKLEARN_EXAMPLE = "tritonbulk export sklearn churn.skops --name churn --sample customers.parquet"
_LIGHTGBM_EXAMPLE = (
    "tritonbulk export lightgbm flight_delay.lgb.txt --name flight_delay --sample flights.parquet"
)


@click.group(name="export", epilog=f"Example:  {_LIGHTGBM_EXAMPLE}")
def command() -> None:
    """Turn a model into an entry that Triton serves.

    The entry is compared with the source model on every sample row, and published only if it
    gives the same answers.
    """


def _common_options(function: Callable[..., None]) -> Callable[..., None]:
    options = (
        click.argument("file", type=click.Path(path_type=Path)),
        click.option("--name", required=True, help="Name of the entry."),
        click.option(
            "--repository", type=click.Path(path_type=Path), default=DEFAULT_REPOSITORY,
            show_default=True, help="Model repository; made if it does not exist.",
        ),
        click.option(
            "--sample", required=True, type=click.Path(path_type=Path),
            help="Rows the model will meet: Parquet, Feather, CSV or JSON lines. Every row is "
            "compared; some tens of them are stored with the entry.",
        ),
        click.option(
            "--max-batch-size", type=int,
            help="Rows a request may have.  [default: the largest power of two, from 8 to 4096, "
            "whose requests take at most 8 MiB]",
        ),
        click.option(
            "--atol", type=float, default=_DEFAULT_TOLERANCE.atol, show_default=True,
            help="Absolute difference from the source that is allowed.",
        ),
        click.option(
            "--rtol", type=float, default=_DEFAULT_TOLERANCE.rtol, show_default=True,
            help="Relative difference that is allowed in addition.",
        ),
        click.option(
            "--staging", type=click.Path(path_type=Path),
            help="Where to put the entry together, on the repository's file system, outside it.  "
            "[default: beside the repository]",
        ),
        click.option("--json", "as_json", is_flag=True, help="End with one line of JSON."),
    )  # fmt: skip
    for option in reversed(options):
        function = option(function)
    return function


@command.command("onnx", epilog=f"Example:  {_ONNX_EXAMPLE}")
@_common_options
@click.option(
    "--input-map", multiple=True, metavar="TENSOR=COLUMN[,COLUMN…]",
    help="Columns that feed a tensor; patterns such as x=f* are resolved now, against the sample.",
)  # fmt: skip
def onnx_command(input_map: tuple[str, ...], **common: Any) -> None:
    """Export the ONNX model FILE."""
    _run(export_onnx, common, input_map=input_map)


@command.command("sklearn", epilog=f"Example:  {_SKLEARN_EXAMPLE}")
@_common_options
@click.option(
    "--trust-pickle", is_flag=True,
    help="Load FILE even if it is a pickle, which can run any code as you.",
)  # fmt: skip
def sklearn_command(trust_pickle: bool, **common: Any) -> None:
    """Export the scikit-learn classifier or regressor in the skops FILE."""
    if trust_pickle:
        click.secho(
            f"WARNING: {common['file']} is loaded as a pickle: whoever wrote it can run any code "
            "as you",
            err=True, bold=True, fg="red",
        )  # fmt: skip
    _run(export_sklearn, common, trust_pickle=trust_pickle)


@command.command("lightgbm", epilog=f"Example:  {_LIGHTGBM_EXAMPLE}")
@_common_options
def lightgbm_command(**common: Any) -> None:
    """Export the LightGBM Booster in the text FILE."""
    _run(export_lightgbm, common)


def _run(function: Callable[..., Exported], common: dict[str, Any], **own: Any) -> None:
    as_json = common.pop("as_json")
    tolerance = Tolerance(common.pop("atol"), common.pop("rtol"))
    exported = function(common.pop("file"), tolerance=tolerance, **common, **own)
    for line in _lines(exported):
        click.echo(line)
    if as_json:
        click.echo(json.dumps(asdict(exported), default=str))


def _lines(exported: Exported) -> list[str]:
    state = "published" if exported.published else "already there, nothing changed"
    if not exported.is_served:
        state += "; the entry serves another version, see version_policy in its config.pbtxt"
    lines = [
        f"entry           {exported.entry} ({state})",
        f"version         {exported.version}",
        f"max_batch_size  {exported.max_batch_size} ({exported.max_batch_size_reason})",
    ]
    for name, figures in exported.parity.outputs.items():
        numbers = (
            f"largest difference {figures.max_abs:.1e} absolute, {figures.max_rel:.1e} relative"
        )
        if figures.max_abs_float64 is not None:
            numbers += f", {figures.max_abs_float64:.1e} off the source fed with float64"
        if figures.flips:
            numbers += f", {figures.flips} labels differ where the source is undecided"
        lines.append(f"parity          {name}: {exported.parity.rows:,} rows, {numbers}")
    return lines
