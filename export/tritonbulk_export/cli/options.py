"""Options that all exports share, and how their values become those of the library.

Each option has the name of a field of `TargetOptions`; the few that have not are folded in
`library_options`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tritonbulk_export.cli.loading import LOAD_OPTIONS, fold_loading
from tritonbulk_export.cli.serving import SERVING_OPTIONS, fold_serving
from tritonbulk_export.limits import CHECKS, LIMITS, waivers
from tritonbulk_export.spec import DEFAULT_REPOSITORY, Tolerance
from tritonbulk_export.targets import DEFAULT_RELEASE

_Command = TypeVar("_Command", bound=Callable[..., Any])

_PATH = click.Path(path_type=Path)

_PLACE = (
    click.option("--name", required=True, help="Name of the entry."),
    click.option(
        "--repository", type=_PATH, default=DEFAULT_REPOSITORY, show_default=True,
        help="Model repository; made if it does not exist.",
    ),
    click.option(
        "--staging", type=_PATH,
        help="Where to put the entry together, on the repository's file system, outside it.  "
        "[default: beside the repository]",
    ),
)  # fmt: skip
_PROOF = (
    click.option(
        "--sample", required=True, type=_PATH,
        help="Rows the model will meet: Parquet, Feather, CSV or JSON lines. Every row is "
        "compared; some tens of them are stored with the entry.",
    ),
    click.option(
        "--atol", type=float,
        help="Absolute difference from the source that is allowed.  [default: by precision; 1e-5]",
    ),
    click.option(
        "--rtol", type=float,
        help="Relative difference that is allowed in addition.  [default: by precision; 1e-5]",
    ),
    click.option(
        "--labels", metavar="COLUMN",
        help="Column of the sample that holds the truth: AUC, accuracy or rank correlation of both "
        "models are compared as well.",
    ),
    click.option(
        "--waive", "waivers", multiple=True, metavar="[OUTPUT.]CHECK=REASON",
        help=f"Accept a failed check ({', '.join(CHECKS)}) for a reason that is stored with the "
        "entry; may be repeated.",
    ),
)  # fmt: skip
_GRAPH = (
    click.option(
        "--triton", metavar="TAG",
        help="Release of Triton to export for, such as 26.07: newer ones load newer operators.  "
        f"[default: {DEFAULT_RELEASE.tag}, whose graphs all newer ones load]",
    ),
    click.option(
        "--check-runtime", is_flag=True,
        help="Run what is published in the ONNX Runtime of that release too, fetched for it.",
    ),
    click.option(
        "--drop-output", "drop_outputs", multiple=True, metavar="OUTPUT",
        help="Leave this output out; may be repeated.",
    ),
)  # fmt: skip
_PRECISION = (
    click.option(
        "--precision", type=click.Choice(list(LIMITS)), default="fp32", show_default=True,
        help="Arithmetic of the published graph. int8 is calibrated on some sample rows and judged "
        "on the others; bf16 cannot be verified on a CPU.",
    ),
    click.option(
        "--keep-fp32", multiple=True, metavar="PATTERN",
        help="Node names or operators that stay float32 under fp16 and bf16; may be repeated.",
    ),
    click.option("--half-io", is_flag=True, help="With fp16: inputs and outputs are float16 too."),
    click.option(
        "--int8-preset", type=click.Choice(["cpu", "trt"]), default="cpu", show_default=True,
        help="Form of static INT8: for ONNX Runtime on CPUs, or for TensorRT.",
    ),
    click.option(
        "--calibration-rows", type=click.IntRange(min=16), default=256, show_default=True,
        help="Sample rows that int8 is calibrated on, at most half of them.",
    ),
)  # fmt: skip
_OUTPUT = (click.option("--json", "as_json", is_flag=True, help="End with one line of JSON."),)


def export_options(command: _Command) -> _Command:
    """Add the options that every export takes: where to, how it is proved, how it is served."""
    groups = (_PLACE, _PROOF, _GRAPH, _PRECISION, SERVING_OPTIONS, LOAD_OPTIONS, _OUTPUT)
    for option in reversed([option for group in groups for option in group]):
        command = option(command)
    return command


def library_options(values: dict[str, Any]) -> dict[str, Any]:
    """Return what the library's function takes by keyword, from the ``values`` of a command."""
    left = dict(values)
    left["tolerance"] = _tolerance(left.pop("atol"), left.pop("rtol"))
    left["waivers"] = waivers(left["waivers"])
    fold_serving(left)
    fold_loading(left)
    return left


def _tolerance(atol: float | None, rtol: float | None) -> Tolerance | None:
    """Return the tolerance that was asked for: one given part leaves the other its default."""
    if atol is None and rtol is None:
        return None
    default = Tolerance()
    return Tolerance(default.atol if atol is None else atol, default.rtol if rtol is None else rtol)
