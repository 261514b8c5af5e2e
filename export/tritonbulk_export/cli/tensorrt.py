"""``tritonbulk export tensorrt``: a kit for a GPU node, and what it built."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from tritonbulk.errors import OptionError
from tritonbulk_export.cli.loading import LOAD_OPTIONS, fold_loading
from tritonbulk_export.spec import DEFAULT_REPOSITORY
from tritonbulk_export.targets import DEFAULT_RELEASE
from tritonbulk_export.tensorrt.commands import Portability

_PATH = click.Path(path_type=Path)
_EXAMPLE = "tritonbulk export tensorrt kit scorer --triton 26.07 --out kit/"


@click.group("tensorrt", epilog=f"Example:  {_EXAMPLE}")
def tensorrt_command() -> None:
    """Build TensorRT plans on a GPU node and publish them beside the ONNX entry.

    Not verified on a GPU.
    """


@tensorrt_command.command("kit", epilog=f"Example:  {_EXAMPLE}")
@click.argument("entry")
@click.option("--out", type=_PATH, required=True, help="Folder of the kit; must not exist.")
@click.option(
    "--triton", metavar="TAG", default=DEFAULT_RELEASE.tag, show_default=True,
    help="Release that builds and serves the plans.",
)  # fmt: skip
@click.option("--repository", type=_PATH, default=DEFAULT_REPOSITORY, show_default=True)
@click.option(
    "--profile", "profiles", multiple=True, metavar="LEAST,USUAL,MOST",
    help="Rows of requests (repeatable).  [default: 1, half and all of max_batch_size]",
)  # fmt: skip
@click.option(
    "--open-size", "open_sizes", multiple=True, metavar="INPUT=LEAST,USUAL,MOST",
    help="Size of an input's open dimensions.",
)  # fmt: skip
@click.option("--portability", type=click.Choice(get_args(Portability)), default="none")
@click.option("--atol", type=float, default=1e-2, show_default=True)
@click.option("--rtol", type=float, default=1e-2, show_default=True)
def kit_command(entry: str, out: Path, **given: Any) -> None:
    """Write what a GPU node needs to build plans of ENTRY."""
    from tritonbulk_export.tensorrt.kit import write_kit  # noqa: PLC0415 - heavy imports

    given["profiles"] = [_three(text, "--profile") for text in given["profiles"]]
    pairs = [text.partition("=")[::2] for text in given["open_sizes"]]
    given["open_sizes"] = {name: _three(text, "--open-size") for name, text in pairs}
    kit = write_kit(entry, out, **given)
    click.echo(
        f"kit             {kit.folder} (TensorRT {kit.tensorrt_major}, version {kit.version})"
    )
    click.echo(
        f"next            on a GPU node: docker/tensorrt/build.sh {kit.folder} {kit.triton}, then "
        f"tritonbulk export tensorrt publish {kit.folder}"
    )


@tensorrt_command.command(
    "publish", epilog="Example:  tritonbulk export tensorrt publish kit/ --repository models/"
)
@click.argument("kit", type=_PATH)
@click.option("--repository", type=_PATH, default=DEFAULT_REPOSITORY, show_default=True)
@click.option("--name", help="Of the entry of the plans.  [default: the model's and .trt]")
@click.option("--staging", type=_PATH, help="As in the other exports.")
def publish_command(kit: Path, **given: Any) -> None:
    """Publish the plans that were built in KIT."""
    from tritonbulk_export.tensorrt.plans import publish_plans  # noqa: PLC0415 - heavy imports

    fold_loading(given)
    done = publish_plans(kit, **given)
    state = "published" if done.published else "already there, nothing changed"
    click.echo(f"entry           {done.entry} ({state})")
    click.echo(f"version         {done.version}")
    click.echo(f"plans           compute capability {', '.join(done.compute_capabilities)}")
    click.echo(f"TensorRT        {done.tensorrt}")


for _option in reversed(LOAD_OPTIONS):
    publish_command = _option(publish_command)


def _three(text: str, option: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
        raise OptionError(f"{option} {text!r} is not of the form LEAST,USUAL,MOST")
    least, usual, most = map(int, parts)
    return least, usual, most
