"""Options that name a running server, and ``tritonbulk rollback``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import click

from tritonbulk.errors import OptionError
from tritonbulk.secret_files import secret_of_file
from tritonbulk_export.serving import LoadTarget
from tritonbulk_export.spec import DEFAULT_REPOSITORY

_Command = TypeVar("_Command", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)

LOAD_OPTIONS = (
    click.option(
        "--load", metavar="HOST:PORT",
        help="A running Triton (gRPC, explicit model control) that reads this repository: it loads "
        "the version and scores its golden rows; if they fail, the version is taken back.",
    ),
    click.option(
        "--load-header-file", "load_headers", multiple=True, metavar="NAME=FILE",
        help="A header for it whose value is in FILE, such as serve's --admin-header-file.",
    ),
    click.option("--load-ca", type=_PATH, metavar="PEM", help="Speak TLS to it."),
)  # fmt: skip


def fold_loading(values: dict[str, Any]) -> None:
    """Replace the ``values`` of `LOAD_OPTIONS` by the one that the library takes.

    Raises:
        OptionError: a header has no value, or there is no server for it; no retry.
    """
    endpoint, headers, authority = (
        values.pop(name) for name in ("load", "load_headers", "load_ca")
    )
    if endpoint is None:
        if headers or authority:
            raise OptionError("--load-header-file and --load-ca need --load HOST:PORT")
        values["load"] = None
        return
    values["load"] = LoadTarget(endpoint, dict(map(_header, headers)), authority)


def _header(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not (name and equals):
        raise OptionError(f"--load-header-file {text!r} is not of the form NAME=FILE")
    return name.lower(), secret_of_file(f"--load-header-file {name}", path).reveal().strip()


@click.command(
    "rollback",
    epilog="""\b
Examples:
  tritonbulk rollback flight_delay
  tritonbulk rollback flight_delay --to 202611230838672021

Nothing is deleted: the way forward again is --to the newer version.""",
)
@click.argument("model")
@click.option("--repository", type=_PATH, default=DEFAULT_REPOSITORY, show_default=True)
@click.option(
    "--to", "version", type=int, metavar="VERSION",
    help="Version to serve.  [default: the newest below the one that is served]",
)  # fmt: skip
@click.option("--staging", type=_PATH, help="As in export.")
@click.option("--json", "as_json", is_flag=True, help="End with one line of JSON.")
def rollback_command(as_json: bool, **given: Any) -> None:
    """Serve an earlier version of MODEL again, as it was published."""
    from tritonbulk_export.releasing import rollback  # noqa: PLC0415 - heavy imports

    fold_loading(given)
    done = rollback(given.pop("model"), **given)
    was = "already served" if done.version == done.before else f"served instead of {done.before}"
    click.echo(f"version         {done.version} ({was})")
    if done.golden_rows_loaded is not None:
        click.echo(f"loaded          {done.golden_rows_loaded} golden rows answered as stored")
    if as_json:
        click.echo(json.dumps(asdict(done)))


for _option in reversed(LOAD_OPTIONS):
    rollback_command = _option(rollback_command)
