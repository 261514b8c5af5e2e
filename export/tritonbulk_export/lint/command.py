"""``tritonbulk lint``: what Triton would refuse or answer wrongly, from the files alone."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import click

_CHECK_FAILED = 4


@click.command(
    "lint",
    epilog="""\b
Examples:
  tritonbulk lint model_repository
  tritonbulk lint model_repository --model flight_delay --cpu --json

Works on any Triton repository; nothing is written, loaded or run. Exit codes: 0 no error (warnings
do not count, unless --strict), 2 wrong use, 4 errors were found.""",
)
@click.argument(
    "repository", type=click.Path(path_type=Path), default=Path("model_repository"), required=False
)
@click.option("--model", "models", multiple=True, help="Report on this entry only (repeatable).")
@click.option("--cpu", is_flag=True, help="The server has no GPU.")
@click.option(
    "--triton", metavar="TAG",
    help="Release of the server, such as 26.07, whose ONNX Runtime loads the graphs.  "
    "[default: the newest known]",
)  # fmt: skip
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line a finding.")
def command(
    repository: Path,
    models: tuple[str, ...],
    cpu: bool,
    triton: str | None,
    strict: bool,
    as_json: bool,
) -> None:
    """Check a model REPOSITORY (default: ./model_repository) by Triton's rules, offline."""
    from tritonbulk_export.lint import errors_of, lint_repository  # noqa: PLC0415 - heavy imports

    has_gpu = False if cpu else None
    findings = lint_repository(repository, models=models, has_gpu=has_gpu, triton=triton)
    for each in findings:
        click.echo(json.dumps(asdict(each)) if as_json else str(each))
    errors = len(errors_of(findings))
    if not as_json:
        warnings = len(findings) - errors
        counted = ((errors, "error"), (warnings, "warning"))
        said = ", ".join(f"{n} {word}" if n == 1 else f"{n} {word}s" for n, word in counted)
        click.echo(said, err=True)
    if errors or (strict and findings):
        sys.exit(_CHECK_FAILED)
