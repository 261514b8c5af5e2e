"""``tritonbulk export pipeline``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from tritonbulk.errors import OptionError
from tritonbulk_export.cli.loading import LOAD_OPTIONS, fold_loading
from tritonbulk_export.spec import DEFAULT_REPOSITORY

_PATH = click.Path(path_type=Path)


@click.command(
    "pipeline",
    epilog="Example:  tritonbulk export pipeline scale,model --name both --connect "
    "model.features=scale.scaled",
)
@click.argument("steps", metavar="ENTRY,ENTRY…")
@click.option("--name", required=True, help="Name of the ensemble.")
@click.option("--repository", type=_PATH, default=DEFAULT_REPOSITORY, show_default=True)
@click.option(
    "--connect", "connections", multiple=True, metavar="STEP.INPUT=STEP.OUTPUT",
    help="Connect tensors of different names (repeatable); those of one name connect themselves.",
)  # fmt: skip
@click.option("--sample", type=_PATH, help="Rows to store with their answers.")
@click.option("--max-batch-size", type=int, help="Rows a request may have.")
@click.option("--staging", type=_PATH, help="As in the other exports.")
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON.")
def pipeline_command(steps: str, connections: tuple[str, ...], as_json: bool, **given: Any) -> None:
    """Chain entries of a repository into an ensemble that answers as all of them."""
    from tritonbulk_export.chains.joining import export_pipeline  # noqa: PLC0415 - heavy imports

    fold_loading(given)
    pairs = dict(text.partition("=")[::2] for text in connections)
    if not all(pairs.values()):
        raise OptionError("--connect is of the form STEP.INPUT=STEP.OUTPUT")
    names = [name.strip() for name in steps.split(",") if name.strip()]
    done = export_pipeline(given.pop("name"), names, connections=pairs, **given)
    state = "published" if done.published else "already there, nothing changed"
    click.echo(f"entry           {done.entry} ({state})")
    click.echo(f"version         {done.version}")
    click.echo(f"max_batch_size  {done.max_batch_size}")
    for name, version in done.steps:
        click.echo(f"step            {name} version {version}")
    tried = f"{done.golden_rows} golden rows" if done.golden_rows else "not tried: no ONNX model"
    click.echo(f"answers         {tried}")
    if as_json:
        click.echo(json.dumps(asdict(done), default=str))


for _option in reversed(LOAD_OPTIONS):
    pipeline_command = _option(pipeline_command)
